// Waveforms through the log-Mel tensor: refused, or every number is finite and int8 is its quantization.
#include "fuzz_common.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  const SmallSpec spec = SmallSpec::draw(data);
  har* handle = open_spec(spec);
  const float span = data.PickValueInArray({1.0f, 1e-6f, 1e6f, 1e19f});
  const int rate = data.ConsumeIntegralInRange(0, 20) ? 32000 : 16000;
  const std::vector<float> waveform = draw_floats(data, data.ConsumeIntegralInRange<size_t>(0, 3000), span);
  std::vector<float> out(spec.logmel_elements());
  std::vector<int8_t> out8(out.size());
  const auto samples = static_cast<int64_t>(waveform.size());
  const har_status status =
      har_logmel(handle, waveform.data(), samples, rate, HAR_FLOAT32, out.data(), out.size() * sizeof(float));
  const har_status status8 = har_logmel(handle, waveform.data(), samples, rate, HAR_INT8, out8.data(), out8.size());
  require(status == status8, "float32 and int8 agree on what is valid");
  require(status == HAR_OK || har_error(handle)[0], "a refusal has a message");
  for (size_t i = 0; status == HAR_OK && i < out.size(); ++i) {
    require(std::isfinite(out[i]), "log-Mel is finite");
    const float steps = std::nearbyintf(out[i] / float(spec.scale)) + float(spec.zero_point);
    require(std::fmax(-128.0f, std::fmin(steps, 127.0f)) == float(out8[i]), "int8 is the quantized float");
  }
  har_destroy(handle);
  return 0;
}
