// A synthetic moving person and sound, for benchmarks and tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

struct Recording {
  int frames, bodies, joints;
  std::vector<float> positions, confidence, waveform;

  const float* frame(int t) const { return positions.data() + size_t(t) * size_t(bodies * joints) * 3; }
  const float* confidence_of(int t) const { return confidence.data() + size_t(t) * size_t(bodies * joints); }
};

// `frames` of `bodies` with NTU's 25 joints, standing and swinging, in metres, and `samples` of sound.
inline Recording make_recording(int frames, int bodies, int64_t samples) {
  static const float kRest[25][3] = {
      {0, 0, 0}, {0, 0.26f, 0}, {0, 0.62f, 0}, {0, 0.75f, 0}, {-0.17f, 0.45f, 0}, {-0.24f, 0.2f, 0},
      {-0.26f, 0, -0.1f}, {-0.26f, -0.05f, -0.15f}, {0.17f, 0.45f, 0}, {0.24f, 0.2f, 0}, {0.26f, 0, -0.1f},
      {0.26f, -0.05f, -0.15f}, {-0.09f, -0.04f, 0}, {-0.12f, -0.42f, 0}, {-0.13f, -0.8f, 0.03f},
      {-0.13f, -0.85f, -0.1f}, {0.09f, -0.04f, 0}, {0.12f, -0.42f, 0}, {0.13f, -0.8f, 0.03f}, {0.13f, -0.85f, -0.1f},
      {0, 0.5f, 0}, {-0.27f, -0.1f, -0.17f}, {-0.24f, -0.06f, -0.17f}, {0.27f, -0.1f, -0.17f},
      {0.24f, -0.06f, -0.17f}};
  Recording recording{frames, bodies, 25, {}, {}, {}};
  for (int t = 0; t < frames; ++t) {
    for (int body = 0; body < bodies; ++body) {
      for (int joint = 0; joint < 25; ++joint) {
        const float swing = 0.15f * std::sin(0.2f * float(t) + 0.4f * float(joint));
        recording.positions.push_back(kRest[joint][0] + 0.8f * float(body) + swing * (joint > 4 ? 1.0f : 0.2f));
        recording.positions.push_back(kRest[joint][1] + 0.1f + swing * 0.5f);
        recording.positions.push_back(kRest[joint][2] + 3.0f - swing);
        recording.confidence.push_back(1.0f);
      }
    }
  }
  uint32_t state = 1;
  for (int64_t i = 0; i < samples; ++i) {
    state = state * 1664525u + 1013904223u;
    const float noise = float(state >> 8) / 8388608.0f - 1;
    recording.waveform.push_back(0.2f * std::sin(0.05f * float(i % 100000)) + 0.05f * noise);
  }
  return recording;
}

// The paper preset with int8 inputs.
inline const char* paper_manifest() {
  return R"({"version": 1, "name": "bench", "format": "tflite", "model_file": "model.tflite", "sha256": "",
"size_bytes": 1, "preset": "paper", "recipe": "static_wi8_ai8", "target": "xnnpack", "labels": [],
"calibration": null, "cost": {},
"search": null, "golden": [], "verification": {}, "command": "", "measurement": null,
"checkpoint": {}, "versions": {},
"preprocess": {"version": 1,
 "skeleton": {"size": 224, "sampled_frames": 5, "sigma_px": 2.0, "field_of_view_torso": 2.5,
"min_confidence": 0.2,
  "max_bodies": 2, "default_torso_m": 0.5, "min_torso_m": 0.05, "layout": "ntu25"},
 "audio": {"sample_rate_hz": 32000, "window_samples": 800, "n_fft": 1024, "hop_samples": 320,
"n_mels": 128,
  "fmin_hz": 0.0, "fmax_hz": 16000.0, "frames": 384, "amin": 1e-10, "top_db": 80.0, "mean": [-40,
0, 0],
  "std": [25, 1.4, 0.7]}},
"inputs": [{"name": "skeleton", "shape": [1, 224, 224, 31], "dtype": "int8",
"scale": 0.00392156862745098,
  "zero_point": -128},
 {"name": "audio", "shape": [1, 128, 384, 3], "dtype": "int8", "scale": 0.03, "zero_point": 5}],
"outputs": []})";
}
