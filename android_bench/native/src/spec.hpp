// The specification of the two inputs, field for field as preprocess/spec.py.
#pragma once

#include <cstdint>

#include "json.hpp"
#include "layouts.hpp"

namespace har_native {

constexpr int kSpecVersion = 1;
constexpr int kDeltaWidth = 9;  // frames

struct HeatmapSpec {
  int size = 224;
  int sampled_frames = 5;
  double sigma_px = 2.0;
  double field_of_view_torso = 2.5;
  double min_confidence = 0.2;
  int max_bodies = 2;
  double default_torso_m = 0.5;
  double min_torso_m = 0.05;
  const SkeletonLayout* layout = nullptr;

  int channels() const { return 6 * sampled_frames + 1; }
  int64_t elements() const { return int64_t{size} * size * channels(); }
};

struct LogMelSpec {
  int sample_rate_hz = 32000;
  int window_samples = 800;
  int n_fft = 1024;
  int hop_samples = 320;
  int n_mels = 128;
  double fmin_hz = 0.0;
  double fmax_hz = 16000.0;
  int frames = 384;
  double amin = 1e-10;
  double top_db = 80.0;
  double mean[3] = {0, 0, 0};
  double std[3] = {1, 1, 1};

  int64_t samples() const { return int64_t{frames - 1} * hop_samples; }
  int64_t elements() const { return int64_t{n_mels} * frames * 3; }
  // Samples of a frame's window that lie before the frame's centre.
  int before() const { return n_fft / 2 - (n_fft - window_samples) / 2; }
};

struct PreprocessSpec {
  HeatmapSpec skeleton;
  LogMelSpec audio;

  // The inverse of PreprocessSpec.to_dict in Python. Throws Error (HAR_BAD_DATA).
  static PreprocessSpec from_json(const Json& data);
};

}  // namespace har_native
