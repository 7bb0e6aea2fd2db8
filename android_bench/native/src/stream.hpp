// Frames and samples that arrive piece by piece, and the tensors of the window that ends with them. har.h defines the
// window. A push processes the new data (validity of joints, columns of the spectrogram); reading a tensor computes
// everything that depends on the complete window (bodies, origin, scale, top_db, deltas). Only constructors, and
// functions that throw, allocate.
#pragma once

#include <cstdint>
#include <vector>

#include "heatmaps.hpp"
#include "logmel.hpp"
#include "skeleton.hpp"

namespace har_native {

class SkeletonStream {
 public:
  SkeletonStream(const HeatmapSpec& spec, const SkeletonLayout& layout, int window_frames, int bodies);

  void reset();
  void push(int64_t index, const float* joints, const float* confidence, int bodies);
  uint32_t draw(const Quantizer& quantizer, void* out);

  int joints() const { return layout_.joint_count; }
  int64_t frames() const { return count_; }
  int64_t first_index() const { return count_ ? indices_[static_cast<size_t>(first_)] : -1; }
  int64_t last_index() const { return last_index_; }

 private:
  void drop_first();

  const SkeletonLayout& layout_;
  const int64_t capacity_;
  const int bodies_;
  SceneMaker maker_;
  HeatmapDrawing drawing_;
  int64_t first_ = 0, count_ = 0, last_index_ = -1, invalid_ = 0;
  std::vector<float> joints_, confidence_;        // rings of frames, see Frames
  std::vector<int64_t> indices_, invalid_counts_;  // by slot of the ring
};

class AudioStream {
 public:
  explicit AudioStream(const LogMelSpec& spec);

  void reset();
  void push(const float* samples, int64_t count, int sample_rate_hz);
  void stack(const Quantizer& quantizer, void* out);

  int64_t first_sample() const;
  int64_t end_sample() const { return count_ / spec_.hop_samples * spec_.hop_samples; }

 private:
  void append(const float* samples, int64_t count);
  void make_columns();
  void copy_samples(int64_t first, int64_t low, int64_t high, float* out) const;
  float fill_edges(int64_t first, int64_t last);

  const LogMelSpec spec_;
  LogMelStages stages_;
  const int64_t piece_;          // samples processed at once
  const int64_t first_column_;   // the first column whose frame has no sample before the stream's beginning
  const int64_t row_floats_;
  int64_t count_ = 0;            // samples pushed
  int64_t next_column_ = 0;      // columns are counted from the stream's first sample, one for every hop
  std::vector<float> samples_;   // ring
  std::vector<float> decibels_;  // [n_mels][2 * frames]: ring of columns, written twice: any window is contiguous
  std::vector<float> peaks_;     // ring
  std::vector<float> window_;    // [n_mels][row_floats]
  std::vector<float> frames_;    // [group][frame_floats]
};

}  // namespace har_native
