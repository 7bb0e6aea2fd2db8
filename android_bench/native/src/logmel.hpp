// Waveform → log-Mel with Δ and Δ², as preprocess/logmel.py.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"
#include "spec.hpp"

namespace har_native {

// Throws Error (HAR_BAD_DATA): a sample is not finite. index: of the first sample, for the message.
void check_finite(const float* samples, int64_t count, int64_t index);

// Throws Error (HAR_BAD_DATA): another rate than the specification's.
void check_rate(const LogMelSpec& spec, int sample_rate_hz);

// The stages of the transform; the constructor allocates all memory.
class LogMelStages {
 public:
  explicit LogMelStages(const LogMelSpec& spec);

  // Frames that columns() computes at once.
  int group() const { return kernels_.spectra_frames; }
  // Length of a frame for columns(); values beyond window_samples are ignored, but must be finite.
  int frame_floats() const { return spec_.window_samples + 3; }

  // Computes the spectrogram's columns of up to group() frames: decibels() [n_mels][group()], before the limit top_db,
  // and peaks() [group()], the largest value of each frame, NaN where the power overflowed.
  void columns(const float* const* frames, int count);
  const float* decibels() const { return decibels_.data(); }
  const float* peaks() const { return peaks_; }

  // Decibels of a frame of zeros.
  float silence_db() const { return silence_db_; }

  // Writes one band of the tensor, [frames][3]. row: decibels [frames + kRowPadding], modified; peak: the window's.
  void stack(float* row, float peak, const Quantizer& quantizer, void* out);

 private:
  void make_window();
  void make_transform();
  void make_filters();

  const LogMelSpec spec_;
  const Kernels& kernels_;
  FftTables tables_;
  MelFilters filters_;
  float silence_db_ = 0;
  std::vector<double> window_, twiddles_, half_steps_, work_;
  std::vector<int32_t> places_, first_bins_, offsets_;
  std::vector<float> weights_, power_, decibels_, delta_work_, zeros_;
  float peaks_[kMaxLanes] = {};
};

// The larger of a window's peak so far and a column's, in dB. Throws Error (HAR_BAD_DATA): the column's is NaN.
float window_peak(float peak_so_far, float column_peak);

class LogMel {
 public:
  explicit LogMel(const LogMelSpec& spec);

  // waveform [count] → the tensor [n_mels][frames][3]. Throws Error (HAR_BAD_DATA) as har_logmel describes.
  void run(const float* waveform, int64_t count, int sample_rate_hz, const Quantizer& quantizer, void* out);

 private:
  const LogMelSpec spec_;
  LogMelStages stages_;
  int row_floats_;
  std::vector<float> padded_;    // the waveform between zeros, which the first and last frames reach
  std::vector<float> decibels_;  // [n_mels][row_floats]
};

}  // namespace har_native
