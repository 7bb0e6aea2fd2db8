// Time of the preprocessing on one thread: har_bench [--runs N] [--manifest manifest.json]
//
// Prints one JSON document. Every entry has minimum and median of the wall clock and of the thread's processor time: on
// a busy machine the wall clock includes other programs. A stream's update pushes a frame and 1/30 s of sound and reads
// both tensors of the window.

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "har.h"
#include "motion.hpp"

namespace {

constexpr int kWindowFrames = 90;

double now_ms(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return double(time.tv_sec) * 1e3 + double(time.tv_nsec) * 1e-6;
}

void check(har_status status, const char* message) {
  if (status == HAR_OK) return;
  std::fprintf(stderr, "error: %s\n", message);
  std::exit(status);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + ptrdiff_t(values.size() / 2), values.end());
  return values[values.size() / 2];
}

bool first_entry = true;

template <typename Work>
void measure(const char* name, int runs, Work work) {
  std::vector<double> wall, cpu;
  for (int i = -runs / 10 - 1; i < runs; ++i) {  // the first tenth is not counted
    const double wall_start = now_ms(CLOCK_MONOTONIC), cpu_start = now_ms(CLOCK_THREAD_CPUTIME_ID);
    work();
    const double cpu_ms = now_ms(CLOCK_THREAD_CPUTIME_ID) - cpu_start, wall_ms = now_ms(CLOCK_MONOTONIC) - wall_start;
    if (i < 0) continue;
    cpu.push_back(cpu_ms);
    wall.push_back(wall_ms);
  }
  std::printf("%s\n  {\"name\": \"%s\", \"cpu_min_ms\": %.4f, \"cpu_median_ms\": %.4f, \"wall_min_ms\": %.4f, "
              "\"wall_median_ms\": %.4f}",
              first_entry ? "" : ",", name, *std::min_element(cpu.begin(), cpu.end()), median(cpu),
              *std::min_element(wall.begin(), wall.end()), median(wall));
  first_entry = false;
}

}  // namespace

int main(int count, char** arguments) {
  int runs = 200;
  std::string manifest = paper_manifest();
  for (int i = 1; i + 1 < count; i += 2) {
    if (!std::strcmp(arguments[i], "--runs")) runs = std::atoi(arguments[i + 1]);
    if (!std::strcmp(arguments[i], "--manifest")) {
      std::ifstream file(arguments[i + 1], std::ios::binary);
      manifest.assign(std::istreambuf_iterator<char>(file), {});
    }
  }
  if (runs < 1 || count % 2 == 0) {
    std::fprintf(stderr, "usage: har_bench [--runs N] [--manifest manifest.json]\n");
    return 2;
  }
  char error[400] = "";
  har* handle;
  check(har_create(manifest.data(), manifest.size(), &handle, error, sizeof error), error);
  har_sizes sizes;
  har_get_sizes(handle, &sizes);
  const auto elements = [](const int32_t* shape) { return size_t(shape[0]) * size_t(shape[1]) * size_t(shape[2]); };
  std::vector<float> skeleton(elements(sizes.skeleton)), audio(elements(sizes.audio));
  const size_t skeleton_bytes = skeleton.size() * sizeof(float), audio_bytes = audio.size() * sizeof(float);
  const int rate = sizes.sample_rate_hz;

  std::printf("{\"kernels\": \"%s\", \"runs\": %d, \"results\": [", har_kernels(), runs);
  for (const int bodies : {1, 2}) {
    const Recording recording = make_recording(kWindowFrames, bodies, sizes.audio_samples);
    const std::string people = bodies == 1 ? ", 1 body" : ", 2 bodies";
    const auto heatmaps = [&](har_type type, size_t bytes) {
      check(har_heatmaps(handle, recording.frame(0), recording.confidence_of(0), recording.frames, bodies, nullptr,
                         type, skeleton.data(), bytes, nullptr), har_error(handle));
    };
    measure(("heatmaps float32" + people).c_str(), runs, [&] { heatmaps(HAR_FLOAT32, skeleton_bytes); });
    if (sizes.skeleton_is_int8) {
      measure(("heatmaps int8" + people).c_str(), runs, [&] { heatmaps(HAR_INT8, skeleton.size()); });
    }
  }
  {
    const Recording recording = make_recording(1, 1, sizes.audio_samples);
    const auto logmel = [&](har_type type, size_t bytes) {
      check(har_logmel(handle, recording.waveform.data(), sizes.audio_samples, rate, type, audio.data(), bytes),
            har_error(handle));
    };
    measure("log-Mel float32", runs, [&] { logmel(HAR_FLOAT32, audio_bytes); });
    if (sizes.audio_is_int8) measure("log-Mel int8", runs, [&] { logmel(HAR_INT8, audio.size()); });
  }
  for (const int bodies : {1, 2}) {
    const int length = 1000, piece = rate / 30;
    const Recording recording = make_recording(length, bodies, int64_t{length} * piece);
    har_stream* stream;
    check(har_stream_create(handle, kWindowFrames, bodies, nullptr, &stream, error, sizeof error), error);
    int64_t index = 0;
    const auto push = [&] {
      const int t = int(index % length);
      check(har_stream_push_frame(stream, index, recording.frame(t), recording.confidence_of(t), bodies),
            har_stream_error(stream));
      check(har_stream_push_audio(stream, recording.waveform.data() + t * piece, piece, rate),
            har_stream_error(stream));
      ++index;
    };
    const auto read = [&](har_type type, size_t heatmap_bytes, size_t logmel_bytes) {
      check(har_stream_heatmaps(stream, type, skeleton.data(), heatmap_bytes, nullptr), har_stream_error(stream));
      check(har_stream_logmel(stream, type, audio.data(), logmel_bytes), har_stream_error(stream));
    };
    while (index < 200) push();
    const std::string people = bodies == 1 ? ", 1 body" : ", 2 bodies";
    measure(("stream push" + people).c_str(), runs, push);
    measure(("stream update float32" + people).c_str(), runs, [&] {
      push();
      read(HAR_FLOAT32, skeleton_bytes, audio_bytes);
    });
    if (sizes.skeleton_is_int8 && sizes.audio_is_int8) {
      measure(("stream update int8" + people).c_str(), runs, [&] {
        push();
        read(HAR_INT8, skeleton.size(), audio.size());
      });
    }
    har_stream_destroy(stream);
  }
  har_destroy(handle);
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const double user_s = double(usage.ru_utime.tv_sec) + double(usage.ru_utime.tv_usec) * 1e-6;
  std::printf("],\n \"user_s\": %.2f, \"peak_kib\": %ld}\n", user_s, usage.ru_maxrss);
}
