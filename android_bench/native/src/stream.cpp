#include "stream.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "errors.hpp"

namespace har_native {
namespace {

constexpr int64_t kMaxRingFloats = int64_t{1} << 26;

size_t size(int64_t count) { return static_cast<size_t>(count); }

int64_t divide_up(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

}  // namespace

SkeletonStream::SkeletonStream(const HeatmapSpec& spec, const SkeletonLayout& layout, int window_frames, int bodies)
    : layout_(layout), capacity_(window_frames), bodies_(bodies), maker_(spec, layout), drawing_(spec, layout) {
  if (window_frames < 1) wrong_use("window_frames is " + std::to_string(window_frames) + "; use at least 1");
  if (bodies < 1 || bodies > 16) wrong_use("bodies is " + std::to_string(bodies) + "; use 1 to 16");
  const int64_t joints = capacity_ * bodies * layout.joint_count;
  if (3 * joints > kMaxRingFloats) wrong_use("window_frames is " + std::to_string(window_frames) + "; use fewer");
  joints_.resize(size(3 * joints));
  confidence_.resize(size(joints));
  indices_.resize(size(capacity_));
  invalid_counts_.resize(size(capacity_));
  maker_.reserve(capacity_, bodies);
  drawing_.reserve(bodies);
}

void SkeletonStream::reset() {
  first_ = count_ = invalid_ = 0;
  last_index_ = -1;
}

void SkeletonStream::push(int64_t index, const float* joints, const float* confidence, int bodies) {
  if (index <= last_index_) {
    wrong_use("frame index is " + std::to_string(index) + "; it must be above the last one, " +
              std::to_string(last_index_));
  }
  if (bodies < 0 || bodies > bodies_) {
    wrong_use("bodies is " + std::to_string(bodies) + "; the stream was created for " + std::to_string(bodies_));
  }
  const int64_t count = int64_t{bodies} * layout_.joint_count, all = int64_t{bodies_} * layout_.joint_count;
  const int64_t slot = (first_ + count_) % capacity_;  // in a full ring that of the first frame, which leaves
  float* joints_to = joints_.data() + 3 * all * slot;
  float* confidence_to = confidence_.data() + all * slot;
  const int64_t invalid = copy_valid_joints(joints, confidence, count, joints_to, confidence_to);
  std::fill(joints_to + 3 * count, joints_to + 3 * all, 0.0f);
  std::fill(confidence_to + count, confidence_to + all, 0.0f);
  while (count_ && indices_[size(first_)] <= index - capacity_) drop_first();
  indices_[size(slot)] = last_index_ = index;
  invalid_counts_[size(slot)] = invalid;
  invalid_ += invalid;
  ++count_;
}

void SkeletonStream::drop_first() {
  invalid_ -= invalid_counts_[size(first_)];
  first_ = (first_ + 1) % capacity_;
  --count_;
}

uint32_t SkeletonStream::draw(const Quantizer& quantizer, void* out) {
  if (!count_) bad_data("the stream has no frame yet; push one");
  const Frames frames{joints_.data(), confidence_.data(), count_, capacity_, first_, bodies_, layout_.joint_count};
  const uint32_t notes = maker_.make(frames) | (invalid_ ? uint32_t{HAR_NOTE_INVALID_JOINTS} : 0);
  drawing_.draw(maker_.scene(), quantizer, out);
  return notes;
}

AudioStream::AudioStream(const LogMelSpec& spec)
    : spec_(spec),
      stages_(spec),
      piece_(int64_t{stages_.group()} * spec.hop_samples),
      first_column_(divide_up(spec.before(), spec.hop_samples)),
      row_floats_(spec.frames + 2 * kRowPadding),
      next_column_(first_column_),
      samples_(size(std::max<int64_t>(spec.samples(), spec.window_samples) + 2 * piece_)),
      decibels_(size(spec.n_mels) * 2 * size(spec.frames)),
      peaks_(size(spec.frames)),
      window_(size(spec.n_mels) * size(row_floats_)),
      frames_(size(stages_.group()) * size(stages_.frame_floats())) {}

void AudioStream::reset() {
  count_ = 0;
  next_column_ = first_column_;
}

void AudioStream::push(const float* samples, int64_t count, int sample_rate_hz) {
  check_rate(spec_, sample_rate_hz);
  if (count < 0) wrong_use("the number of samples is " + std::to_string(count) + "; use at least 0");
  check_finite(samples, count, 0);
  for (int64_t at = 0; at < count; at += piece_) {
    append(samples + at, std::min(piece_, count - at));
    make_columns();
  }
}

void AudioStream::append(const float* samples, int64_t count) {
  const int64_t capacity = static_cast<int64_t>(samples_.size());
  const int64_t at = count_ % capacity, fitting = std::min(count, capacity - at);
  std::copy_n(samples, fitting, samples_.begin() + at);
  std::copy_n(samples + fitting, count - fitting, samples_.begin());
  count_ += count;
}

// A frame that begins at sample `first` of the stream; zeros outside of low <= i < high.
void AudioStream::copy_samples(int64_t first, int64_t low, int64_t high, float* out) const {
  const int64_t capacity = static_cast<int64_t>(samples_.size());
  for (int64_t i = 0; i < spec_.window_samples; ++i) {
    const int64_t at = first + i;
    out[i] = at >= low && at < high ? samples_[size(at % capacity)] : 0.0f;
  }
}

// Computes the columns whose frames the last samples completed.
void AudioStream::make_columns() {
  const int64_t frame_floats = stages_.frame_floats();
  while (true) {
    const float* starts[kMaxLanes];
    int ready = 0;
    for (; ready < stages_.group(); ++ready) {
      const int64_t first = (next_column_ + ready) * spec_.hop_samples - spec_.before();
      if (first + spec_.window_samples > count_) break;
      float* frame = frames_.data() + ready * frame_floats;
      copy_samples(first, 0, count_, frame);
      starts[ready] = frame;
    }
    if (!ready) return;
    stages_.columns(starts, ready);
    for (int i = 0; i < ready; ++i, ++next_column_) {
      const int64_t slot = next_column_ % spec_.frames;
      peaks_[size(slot)] = stages_.peaks()[i];
      for (int64_t band = 0; band < spec_.n_mels; ++band) {
        float* row = decibels_.data() + band * 2 * spec_.frames;
        row[slot] = row[slot + spec_.frames] = stages_.decibels()[band * stages_.group() + i];
      }
    }
  }
}

int64_t AudioStream::first_sample() const { return std::max<int64_t>(0, end_sample() - spec_.samples()); }

// Computes columns first <= c < last of the window, whose frames reach beyond it and see zeros there. Returns the
// largest value in dB.
float AudioStream::fill_edges(int64_t first, int64_t last) {
  float peak = -INFINITY;
  const int64_t low = first_sample(), high = end_sample(), frame_floats = stages_.frame_floats();
  for (int64_t column = first; column < last; column += stages_.group()) {
    const int count = static_cast<int>(std::min<int64_t>(stages_.group(), last - column));
    const float* starts[kMaxLanes];
    for (int i = 0; i < count; ++i) {
      float* frame = frames_.data() + i * frame_floats;
      copy_samples(low + (column + i) * spec_.hop_samples - spec_.before(), low, high, frame);
      starts[i] = frame;
    }
    stages_.columns(starts, count);
    for (int i = 0; i < count; ++i) {
      peak = window_peak(peak, stages_.peaks()[i]);
      for (int64_t band = 0; band < spec_.n_mels; ++band) {
        window_[size(band * row_floats_ + column + i)] = stages_.decibels()[band * stages_.group() + i];
      }
    }
  }
  return peak;
}

void AudioStream::stack(const Quantizer& quantizer, void* out) {
  const int64_t hop = spec_.hop_samples, frames = spec_.frames, length = end_sample() - first_sample();
  if (!length) bad_data("the stream has no hop of sound yet; push " + std::to_string(hop) + " samples");

  // Columns in the middle of the window lie inside it and are stored; the edges are computed here; silence follows.
  const int64_t silent = std::min(frames, divide_up(length + spec_.before(), hop));
  const int64_t last_start = length + spec_.before() - spec_.window_samples;  // of the last frame inside the window
  const int64_t last_whole = last_start < 0 ? 0 : std::min(silent, last_start / hop + 1);
  const int64_t first_whole = std::min(first_column_, last_whole);
  float peak = silent < frames ? stages_.silence_db() : -INFINITY;
  peak = std::max(peak, fill_edges(0, std::min(first_column_, silent)));
  peak = std::max(peak, fill_edges(std::max(first_column_, last_whole), silent));
  const int64_t column = first_sample() / hop + first_whole;
  const int64_t kept = last_whole - first_whole;
  for (int64_t i = 0; i < kept; ++i) peak = window_peak(peak, peaks_[size((column + i) % frames)]);

  const size_t band_bytes = size(frames) * 3 * (quantizer.int8 ? 1 : sizeof(float));
  for (int64_t band = 0; band < spec_.n_mels; ++band) {
    float* row = window_.data() + band * row_floats_;
    std::copy_n(decibels_.data() + band * 2 * frames + column % frames, kept, row + first_whole);
    std::fill(row + silent, row + frames, stages_.silence_db());
    stages_.stack(row, peak, quantizer, static_cast<char*>(out) + size(band) * band_bytes);
  }
}

}  // namespace har_native
