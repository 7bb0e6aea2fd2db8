// Runs one recording through the library, on any processor, for a test to compare with NumPy:
//   har_golden FOLDER FRAMES BODIES LAYOUT
// Reads manifest.json and the float32 files joints.bin, confidence.bin, waveform.bin; writes heatmaps.bin and
// logmel.bin (batch) and stream_heatmaps.bin and stream_logmel.bin (pushed frame by frame and in pieces, the window
// long enough), all float32, and heatmaps_int8.bin and logmel_int8.bin where the manifest has int8 inputs.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "har.h"

namespace {

std::string folder;

std::string read_text(const char* name) {
  std::ifstream file(folder + "/" + name, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "error: %s/%s cannot be read\n", folder.c_str(), name);
    std::exit(4);
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<float> read_floats(const char* name) {
  const std::string bytes = read_text(name);
  std::vector<float> values(bytes.size() / sizeof(float));
  bytes.copy(reinterpret_cast<char*>(values.data()), values.size() * sizeof(float));
  return values;
}

void write(const char* name, const void* data, size_t bytes) {
  std::ofstream file(folder + "/" + name, std::ios::binary);
  file.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
}

void check(har_status status, const char* message) {
  if (status == HAR_OK) return;
  std::fprintf(stderr, "error: %s\n", message);
  std::exit(status);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) {
    std::fprintf(stderr, "usage: har_golden FOLDER FRAMES BODIES LAYOUT\n");
    return 2;
  }
  folder = arguments[1];
  const int frames = std::atoi(arguments[2]), bodies = std::atoi(arguments[3]);
  const char* layout = arguments[4];
  const std::string manifest = read_text("manifest.json");
  const std::vector<float> joints = read_floats("joints.bin"), confidence = read_floats("confidence.bin");
  const std::vector<float> waveform = read_floats("waveform.bin");
  if (frames < 1 || bodies < 1 || joints.size() != 3 * confidence.size() ||
      confidence.size() % (size_t(frames) * size_t(bodies)) != 0) {
    std::fprintf(stderr, "error: joints.bin and confidence.bin do not fit %d frames of %d bodies\n", frames, bodies);
    return 4;
  }

  char error[400] = "";
  har* handle;
  check(har_create(manifest.data(), manifest.size(), &handle, error, sizeof error), error);
  har_sizes sizes;
  har_get_sizes(handle, &sizes);
  const auto elements = [](const int32_t* shape) { return size_t(shape[0]) * size_t(shape[1]) * size_t(shape[2]); };
  std::vector<float> heatmaps(elements(sizes.skeleton)), logmel(elements(sizes.audio));
  const size_t heatmap_bytes = heatmaps.size() * sizeof(float), logmel_bytes = logmel.size() * sizeof(float);
  const auto samples = static_cast<int64_t>(waveform.size());

  const auto batch = [&](har_type type, size_t heatmap_size, size_t logmel_size) {
    check(har_heatmaps(handle, joints.data(), confidence.data(), frames, bodies, layout, type, heatmaps.data(),
                       heatmap_size, nullptr), har_error(handle));
    check(har_logmel(handle, waveform.data(), samples, sizes.sample_rate_hz, type, logmel.data(), logmel_size),
          har_error(handle));
  };
  if (sizes.skeleton_is_int8 && sizes.audio_is_int8) {
    batch(HAR_INT8, heatmaps.size(), logmel.size());
    write("heatmaps_int8.bin", heatmaps.data(), heatmaps.size());
    write("logmel_int8.bin", logmel.data(), logmel.size());
  }
  batch(HAR_FLOAT32, heatmap_bytes, logmel_bytes);
  write("heatmaps.bin", heatmaps.data(), heatmap_bytes);
  write("logmel.bin", logmel.data(), logmel_bytes);

  har_stream* stream;
  check(har_stream_create(handle, frames, bodies, layout, &stream, error, sizeof error), error);
  const size_t in_frame = confidence.size() / size_t(frames);
  for (int t = 0; t < frames; ++t) {
    check(har_stream_push_frame(stream, t, joints.data() + 3 * in_frame * size_t(t),
                                confidence.data() + in_frame * size_t(t), bodies), har_stream_error(stream));
  }
  for (int64_t at = 0, piece = 1; at < samples; at += piece, piece = piece * 3 % 4001 + 1) {
    if (piece > samples - at) piece = samples - at;
    check(har_stream_push_audio(stream, waveform.data() + at, piece, sizes.sample_rate_hz), har_stream_error(stream));
  }
  check(har_stream_heatmaps(stream, HAR_FLOAT32, heatmaps.data(), heatmap_bytes, nullptr), har_stream_error(stream));
  check(har_stream_logmel(stream, HAR_FLOAT32, logmel.data(), logmel_bytes), har_stream_error(stream));
  write("stream_heatmaps.bin", heatmaps.data(), heatmap_bytes);
  write("stream_logmel.bin", logmel.data(), logmel_bytes);
  std::puts(har_kernels());
  har_stream_destroy(stream);
  har_destroy(handle);
}
