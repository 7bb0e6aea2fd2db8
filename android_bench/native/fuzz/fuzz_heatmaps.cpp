// Recordings through the heatmaps: for any joints the result lies in [0, 1] and int8 is its quantization.
#include "fuzz_common.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  const SmallSpec spec = SmallSpec::draw(data);
  har* handle = open_spec(spec);
  const int frames = data.ConsumeIntegralInRange(0, 12), bodies = data.ConsumeIntegralInRange(0, 4);
  const auto count = size_t(frames) * size_t(bodies) * size_t(spec.joints());
  const float span = data.PickValueInArray({1.0f, 1e-3f, 30.0f, 1e6f});
  const std::vector<float> joints = draw_floats(data, 3 * count, span);
  std::vector<float> confidence = draw_confidence(data, count);
  if (count && data.ConsumeBool()) confidence[count / 2] = draw_float(data, 1);

  std::vector<float> out(spec.heatmap_elements());
  std::vector<int8_t> out8(out.size());
  uint32_t notes = 0;
  const har_status status = har_heatmaps(handle, joints.data(), confidence.data(), frames, bodies, nullptr, HAR_FLOAT32,
                                         out.data(), out.size() * sizeof(float), &notes);
  const har_status status8 = har_heatmaps(handle, joints.data(), confidence.data(), frames, bodies, nullptr, HAR_INT8,
                                          out8.data(), out8.size(), nullptr);
  require(status == status8, "float32 and int8 agree on what is valid");
  require(status == HAR_OK || har_error(handle)[0], "a refusal has a message");
  for (size_t i = 0; status == HAR_OK && i < out.size(); ++i) {
    require(out[i] >= 0 && out[i] <= 1, "heatmaps lie in [0, 1]");
    const float steps = std::nearbyintf(out[i] / float(spec.scale)) + float(spec.zero_point);
    require(std::fabs(std::fmin(steps, 127.0f) - float(out8[i])) <= 0, "int8 is the quantized float");
  }
  har_destroy(handle);
  return 0;
}
