// Sequences of calls on a stream: its tensors are always bit-identical to the batch functions' for its window.
#include "fuzz_common.hpp"

namespace {

struct Frame {
  int64_t index;
  std::vector<float> joints, confidence;
};

struct Harness {
  SmallSpec spec;
  int window_frames, bodies;
  har* handle;
  har_stream* stream;
  std::vector<Frame> frames;
  std::vector<float> sound;

  void push_frame(FuzzedDataProvider& data) {
    const int64_t index = (frames.empty() ? 0 : frames.back().index) + data.ConsumeIntegralInRange(-1, 5);
    const int pushed = data.ConsumeIntegralInRange(-1, bodies + 1);
    const auto count = size_t(pushed < 0 ? 0 : pushed) * size_t(spec.joints());
    Frame frame{index, draw_floats(data, 3 * count, 2.0f), draw_confidence(data, count)};
    const har_status status =
        har_stream_push_frame(stream, index, frame.joints.data(), frame.confidence.data(), pushed);
    const bool valid = pushed >= 0 && pushed <= bodies && index > (frames.empty() ? -1 : frames.back().index);
    require((status == HAR_OK) == valid, "a frame is accepted exactly when it is valid");
    if (!valid) return;
    frame.joints.resize(3 * size_t(bodies) * size_t(spec.joints()));
    frame.confidence.resize(size_t(bodies) * size_t(spec.joints()));
    frames.push_back(std::move(frame));
  }

  void push_audio(FuzzedDataProvider& data) {
    std::vector<float> piece = draw_floats(data, data.ConsumeIntegralInRange<size_t>(0, 40), 1.0f);
    const size_t times = data.ConsumeIntegralInRange<size_t>(1, 60);  // repeated: long sounds from few bytes
    const size_t length = piece.size();
    for (size_t i = length; i < length * times; ++i) piece.push_back(piece[i - length]);
    bool valid = true;
    for (const float value : piece) valid &= std::isfinite(value);
    const har_status status = har_stream_push_audio(stream, piece.data(), int64_t(piece.size()), 32000);
    require((status == HAR_OK) == valid, "sound is accepted exactly when it is finite");
    if (valid) sound.insert(sound.end(), piece.begin(), piece.end());
  }

  void compare_heatmaps(har_type type) {
    const size_t bytes = spec.heatmap_elements() * (type == HAR_INT8 ? 1 : sizeof(float));
    std::vector<char> streamed(bytes), batch(bytes);
    std::vector<float> joints, confidence;
    int64_t count = 0;
    for (const Frame& frame : frames) {
      if (frame.index <= frames.back().index - window_frames) continue;
      joints.insert(joints.end(), frame.joints.begin(), frame.joints.end());
      confidence.insert(confidence.end(), frame.confidence.begin(), frame.confidence.end());
      ++count;
    }
    uint32_t notes = 0, batch_notes = 0;
    const har_status status = har_stream_heatmaps(stream, type, streamed.data(), bytes, &notes);
    const har_status expected = har_heatmaps(handle, joints.data(), confidence.data(), count, bodies, nullptr, type,
                                             batch.data(), bytes, &batch_notes);
    require(status == expected && notes == batch_notes, "heatmaps: status and notes of the batch");
    require(status != HAR_OK || streamed == batch, "heatmaps: bits of the batch");
  }

  void compare_logmel(har_type type) {
    const size_t bytes = spec.logmel_elements() * (type == HAR_INT8 ? 1 : sizeof(float));
    std::vector<char> streamed(bytes), batch(bytes);
    har_stream_window window;
    har_stream_get_window(stream, &window);
    require(window.end_sample <= int64_t(sound.size()) && int64_t(sound.size()) - window.end_sample < spec.hop_samples,
            "the window ends with the last hop");
    const har_status status = har_stream_logmel(stream, type, streamed.data(), bytes);
    const har_status expected = har_logmel(handle, sound.data() + window.first_sample,
                                           window.end_sample - window.first_sample, 32000, type, batch.data(), bytes);
    require(status == expected, "log-Mel: status of the batch");
    require(status != HAR_OK || streamed == batch, "log-Mel: bits of the batch");
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  Harness harness{SmallSpec::draw(data), data.ConsumeIntegralInRange(1, 9), data.ConsumeIntegralInRange(1, 3), nullptr,
                  nullptr, {}, {}};
  harness.handle = open_spec(harness.spec);
  char error[300] = "";
  require(har_stream_create(harness.handle, harness.window_frames, harness.bodies, nullptr, &harness.stream, error,
                            sizeof error) == HAR_OK, error);
  for (int calls = 0; data.remaining_bytes() && calls < 60; ++calls) {
    const har_type type = data.ConsumeBool() ? HAR_INT8 : HAR_FLOAT32;
    switch (data.ConsumeIntegralInRange(0, 8)) {
      case 0: case 1: case 2: harness.push_frame(data); break;
      case 3: case 4: case 5: harness.push_audio(data); break;
      case 6: harness.compare_heatmaps(type); break;
      case 7: harness.compare_logmel(type); break;
      default:
        if (data.ConsumeIntegralInRange(0, 3)) break;
        har_stream_reset(harness.stream);
        harness.frames.clear();
        harness.sound.clear();
    }
  }
  harness.compare_heatmaps(HAR_FLOAT32);
  harness.compare_logmel(HAR_FLOAT32);
  har_stream_destroy(harness.stream);
  har_destroy(harness.handle);
  return 0;
}
