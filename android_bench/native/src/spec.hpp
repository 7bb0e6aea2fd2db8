// The specification of the two inputs. Names, units and defaults are those of preprocess/spec.py; a manifest holds
// every field.
#pragma once

#include <cstdint>

#include "json.hpp"
#include "layouts.hpp"

namespace har_native {

constexpr int kSpecVersion = 1;
constexpr int kDeltaWidth = 9;  // frames of the window that Δ and Δ² are fitted to

// Skeleton → heatmaps (paper, appendix A, Eq. 1 and 2).
struct HeatmapSpec {
  // Side S of the square maps, in pixels.
  int size = 224;
  // Frames that are drawn from a recording.
  int sampled_frames = 5;
  // Standard deviation of joints and limbs, in pixels.
  double sigma_px = 2.0;
  // Half width of the view, in torso lengths.
  double field_of_view_torso = 2.5;
  // Joints below this confidence, in (0, 1], are not drawn.
  double min_confidence = 0.2;
  // Bodies that are drawn, those with most motion first.
  int max_bodies = 2;
  // Torso length in metres where none can be measured.
  double default_torso_m = 0.5;
  // A measured torso length must exceed this, in metres.
  double min_torso_m = 0.05;
  // Joints and limbs of a recording that names no layout; from_json sets it, "ntu25" in both presets.
  const SkeletonLayout* layout = nullptr;

  // For every sampled frame three joint maps and three limb maps, and one motion map.
  int channels() const { return 6 * sampled_frames + 1; }
  int64_t elements() const { return int64_t{size} * size * channels(); }
};

// Waveform → log-Mel with Δ and Δ², as librosa 0.11 computes them.
struct LogMelSpec {
  // Rate of the waveform, in Hz.
  int sample_rate_hz = 32000;
  // Length of the periodic Hann window, in samples: 25 ms at 32 kHz.
  int window_samples = 800;
  // Length of the transform, in samples; a power of two. The window is zero-padded around its centre.
  int n_fft = 1024;
  // Distance between frames, in samples: 10 ms at 32 kHz.
  int hop_samples = 320;
  // Number of Mel bands (Slaney's scale and norm).
  int n_mels = 128;
  // Range of the bands, in Hz; fmax_hz is at most half the sample rate.
  double fmin_hz = 0.0;
  double fmax_hz = 16000.0;
  // Frames of the spectrogram; the waveform is padded or trimmed to samples().
  int frames = 384;
  // Smallest power, the floor of the logarithm.
  double amin = 1e-10;
  // Dynamic range below the maximum, in dB.
  double top_db = 80.0;
  // Of (log-Mel, Δ, Δ²) over the training set, in dB; the tensor is (x − mean) / std.
  double mean[3] = {0, 0, 0};
  double std[3] = {1, 1, 1};

  // Length of the waveform that fills the spectrogram exactly.
  int64_t samples() const { return int64_t{frames - 1} * hop_samples; }
  int64_t elements() const { return int64_t{n_mels} * frames * 3; }
  // Samples of a frame's window before the frame's centre.
  int before() const { return n_fft / 2 - (n_fft - window_samples) / 2; }
};

struct PreprocessSpec {
  HeatmapSpec skeleton;
  LogMelSpec audio;

  // The inverse of PreprocessSpec.to_dict in Python. Throws Error (HAR_BAD_DATA).
  static PreprocessSpec from_json(const Json& data);
};

}  // namespace har_native
