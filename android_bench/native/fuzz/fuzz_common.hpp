// Small specifications drawn from the fuzzer's bytes, as manifests.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "har.h"

struct SmallSpec {
  int size, sampled_frames, max_bodies;
  double sigma_px;
  bool msr;
  int n_fft, window_samples, hop_samples, n_mels, frames;
  int zero_point;
  double scale, top_db;

  static SmallSpec draw(FuzzedDataProvider& data) {
    SmallSpec s;
    s.size = data.ConsumeIntegralInRange(8, 70);
    s.sampled_frames = data.ConsumeIntegralInRange(2, 6);
    s.max_bodies = data.ConsumeIntegralInRange(1, 3);
    s.sigma_px = data.PickValueInArray({0.001, 0.3, 0.86, 2.0, 5.0, 40.0, 10000.0});
    s.msr = data.ConsumeBool();
    s.n_fft = 8 << data.ConsumeIntegralInRange(0, 7);
    s.window_samples = data.ConsumeIntegralInRange(1, s.n_fft);
    s.hop_samples = data.ConsumeIntegralInRange(1, 300);
    s.n_mels = data.ConsumeIntegralInRange(1, 40);
    s.frames = data.ConsumeIntegralInRange(9, 40);
    s.zero_point = data.ConsumeIntegralInRange(-128, 127);
    s.scale = data.PickValueInArray({1.0 / 255, 0.03, 1e-37, 1e30, 1.0});
    s.top_db = data.PickValueInArray({80.0, 1e-3, 1e6});
    return s;
  }

  std::string manifest() const {
    char text[2400];
    std::snprintf(text, sizeof text,
                  R"({"version": 1, "name": "", "format": "tflite", "model_file": "", "sha256": "", "size_bytes": 1,
"preset": "", "recipe": "", "target": "", "labels": [], "calibration": null, "cost": {},
"search": null, "golden": [], "verification": {}, "command": "", "measurement": null,
"checkpoint": {}, "versions": {},
"preprocess": {"version": 1, "skeleton": {"size": %d, "sampled_frames": %d, "sigma_px": %.17g,
"field_of_view_torso": 2.5, "min_confidence": 0.2, "max_bodies": %d, "default_torso_m": 0.5,
"min_torso_m": 0.05,
"layout": "%s"}, "audio": {"sample_rate_hz": 32000, "window_samples": %d, "n_fft": %d,
"hop_samples": %d, "n_mels": %d,
"fmin_hz": 0.0, "fmax_hz": 16000.0, "frames": %d, "amin": 1e-10, "top_db": %.17g,
"mean": [-40, 0, 0],
"std": [25, 1.4, 0.7]}},
"inputs": [{"name": "skeleton", "shape": [1, %d, %d, %d], "dtype": "int8", "scale": %.17g,
"zero_point": %d},
{"name": "audio", "shape": [1, %d, %d, 3], "dtype": "int8", "scale": %.17g,
"zero_point": %d}], "outputs": []})",
                  size, sampled_frames, sigma_px, max_bodies, msr ? "msr20" : "ntu25", window_samples, n_fft,
                  hop_samples, n_mels, frames, top_db, size, size, channels(), scale, zero_point, n_mels, frames, scale,
                  zero_point);
    return text;
  }

  int channels() const { return 6 * sampled_frames + 1; }
  int joints() const { return msr ? 20 : 25; }
  size_t heatmap_elements() const { return size_t(size) * size_t(size) * size_t(channels()); }
  size_t logmel_elements() const { return size_t(n_mels) * size_t(frames) * 3; }
};

inline void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

inline har* open_spec(const SmallSpec& spec) {
  char error[400] = "";
  har* handle = nullptr;
  const std::string text = spec.manifest();
  if (har_create(text.data(), text.size(), &handle, error, sizeof error) != HAR_OK) {
    std::fprintf(stderr, "%s\n", error);
    std::abort();
  }
  return handle;
}

// Mostly plausible numbers, rarely any bit pattern: with patterns alone nearly every input would be refused.
inline float draw_float(FuzzedDataProvider& data, float span) {
  const uint8_t kind = data.ConsumeIntegral<uint8_t>();
  if (kind < 250) return span * (float(data.ConsumeIntegral<int16_t>()) / 32768.0f);
  const uint32_t pattern = data.ConsumeIntegral<uint32_t>();
  float value;
  std::memcpy(&value, &pattern, sizeof value);
  return value;
}

inline std::vector<float> draw_floats(FuzzedDataProvider& data, size_t count, float span) {
  std::vector<float> values(count);
  for (float& value : values) value = draw_float(data, span);
  return values;
}

inline std::vector<float> draw_confidence(FuzzedDataProvider& data, size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = float(data.ConsumeIntegralInRange(0, 5)) / 5.0f;
  return values;
}
