#include "measure.hpp"

#include <algorithm>
#include <cmath>

#include "../bench/motion.hpp"
#include "lines.hpp"
#include "system.hpp"

namespace har_native {
namespace {

constexpr int kFramesPerSecond = 30;  // Kinect's rate
constexpr int kWindowFrames = 90;     // window of a stream
constexpr int kHopFrames = 15;        // between predictions of a stream
constexpr int kLoopFrames = 300;      // period of a stream

double since_ms(double start_ms) { return std::max(now_ms() - start_ms, 1e-6); }

void write_prediction(const std::string& recording, const std::vector<float>& logits) {
  for (const float logit : logits) {
    if (!std::isfinite(logit)) throw Exit{kBadData, recording + ": a logit is not finite; export the artifact again"};
  }
  write_line("{\"event\":\"prediction\",\"recording\":" + quoted(recording) + ",\"logits\":" + numbers(logits) + "}");
}

void check(har_status status, const char* reason) {
  if (status != HAR_OK) throw Exit{kDefect, std::string("stream: ") + reason};
}

}  // namespace

Times run_recordings(Pipeline& pipeline, const std::vector<Recording>& recordings, const Options& options) {
  for (const Recording& recording : recordings) {
    pipeline.preprocess(recording);
    pipeline.infer();
    write_prediction(recording.name, pipeline.logits());
  }
  if (recordings.empty()) pipeline.fill_inputs();
  const auto preprocess = [&](int run) {
    if (!recordings.empty()) pipeline.preprocess(recordings[static_cast<size_t>(run) % recordings.size()]);
  };
  for (int run = 0; run < options.warmup_runs; ++run) {
    preprocess(run);
    pipeline.infer();
  }

  Times times;
  const double begin_ms = now_ms();
  double spent_s = 0;
  for (int run = 0; run == 0 || (spent_s < options.max_seconds &&
                                 (run < options.min_runs || spent_s < options.min_seconds)); ++run) {
    const double start_ms = now_ms();
    preprocess(run);
    if (!recordings.empty()) times.preprocessing_ms.push_back(since_ms(start_ms));
    const double middle_ms = now_ms();
    pipeline.infer();
    times.inference_ms.push_back(since_ms(middle_ms));
    spent_s = (now_ms() - begin_ms) / 1e3;
  }
  return times;
}

Times run_stream(Pipeline& pipeline, const Artifact& artifact, const Options& options) {
  const int64_t rate = artifact.manifest.preprocess.audio.sample_rate_hz;
  const auto samples_until = [rate](int64_t frame) { return frame * rate / kFramesPerSecond; };
  const ::Recording source = make_recording(kLoopFrames, 1, samples_until(kLoopFrames));
  char error[400] = "";
  har_stream* created = nullptr;
  check(har_stream_create(artifact.handle.get(), kWindowFrames, 1, "ntu25", &created, error, sizeof error), error);
  const std::unique_ptr<har_stream, void (*)(har_stream*)> stream(created, har_stream_destroy);
  const auto push = [&](int64_t index) {
    const int at = static_cast<int>(index % kLoopFrames);
    const int64_t first = samples_until(at);
    check(har_stream_push_frame(created, index, source.frame(at), source.confidence_of(at), 1),
          har_stream_error(created));
    check(har_stream_push_audio(created, source.waveform.data() + first, samples_until(at + 1) - first,
                                static_cast<int32_t>(rate)), har_stream_error(created));
  };

  Times times;
  const auto frames = static_cast<int64_t>(options.stream_seconds * kFramesPerSecond);
  for (int64_t end = kHopFrames; end <= frames; end += kHopFrames) {
    const double start_ms = now_ms();
    for (int64_t index = end - kHopFrames; index < end; ++index) push(index);
    pipeline.preprocess(created);
    times.preprocessing_ms.push_back(since_ms(start_ms));
    for (int run = 0; end == kHopFrames && run < options.warmup_runs; ++run) pipeline.infer();
    const double middle_ms = now_ms();
    pipeline.infer();
    times.inference_ms.push_back(since_ms(middle_ms));
    char name[40];
    std::snprintf(name, sizeof name, "stream at %.1f s", double(end) / kFramesPerSecond);
    write_prediction(name, pipeline.logits());
  }
  return times;
}

}  // namespace har_native
