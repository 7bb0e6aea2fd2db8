#include "logmel.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "errors.hpp"

namespace har_native {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Slaney's scale: linear below 1 kHz, logarithmic above.
constexpr double kHzPerMel = 200.0 / 3;
constexpr double kBreakHz = 1000.0;
constexpr double kBreakMel = kBreakHz / kHzPerMel;
const double kLogStep = std::log(6.4) / 27;

double hz_to_mel(double hz) {
  return hz < kBreakHz ? hz / kHzPerMel : kBreakMel + std::log(hz / kBreakHz) / kLogStep;
}

double mel_to_hz(double mel) {
  return mel < kBreakMel ? mel * kHzPerMel : kBreakHz * std::exp(kLogStep * (mel - kBreakMel));
}

size_t size(int64_t count) { return static_cast<size_t>(count); }

}  // namespace

void check_finite(const float* samples, int64_t count, int64_t index) {
  float defect = 0;  // NaN once a sample is not finite
  for (int64_t i = 0; i < count; ++i) defect += samples[i] - samples[i];
  if (defect == 0) return;
  int64_t i = 0;
  while (std::isfinite(samples[i])) ++i;
  bad_data("waveform sample " + std::to_string(index + i) + " is " + text(samples[i]) +
           "; every sample must be a finite number");
}

void check_rate(const LogMelSpec& spec, int sample_rate_hz) {
  if (sample_rate_hz == spec.sample_rate_hz) return;
  bad_data("sample rate is " + std::to_string(sample_rate_hz) + " Hz; resample to " +
           std::to_string(spec.sample_rate_hz) + " Hz");
}

float window_peak(float peak_so_far, float column_peak) {
  if (!std::isfinite(column_peak)) bad_data("waveform is so loud that its power overflows; scale it to [-1, 1]");
  return std::max(peak_so_far, column_peak);
}

LogMelStages::LogMelStages(const LogMelSpec& spec) : spec_(spec), kernels_(kernels()) {
  make_window();
  make_transform();
  make_filters();
  const size_t lanes = size(kernels_.spectra_frames);
  work_.resize(size(spec.n_fft) * size(kernels_.fft_frames));
  power_.resize((size(spec.n_fft) / 2 + 1) * lanes);
  decibels_.resize(size(spec.n_mels) * lanes);
  delta_work_.resize(2 * size(spec.frames + kRowPadding));
  zeros_.resize(size(frame_floats()));
  const float* silent = zeros_.data();
  columns(&silent, 1);
  silence_db_ = decibels_[0];
}

void LogMelStages::make_window() {
  const int n = spec_.window_samples;
  window_.resize(size(n) + 4);  // periodic Hann; the zeros after it multiply samples that are ignored
  for (int i = 0; i < n; ++i) window_[size(i)] = n > 1 ? 0.5 - 0.5 * std::cos(2 * kPi * i / n) : 1.0;
}

void LogMelStages::make_transform() {
  const int n = spec_.n_fft, count = n / 2;
  const auto push = [](std::vector<double>& table, double turns) {
    table.push_back(std::cos(2 * kPi * turns));
    table.push_back(-std::sin(2 * kPi * turns));
  };
  int length = count;
  const bool odd_power = __builtin_ctz(static_cast<unsigned>(count)) % 2;
  if (odd_power) {
    for (int j = 0; j < length / 2; ++j) push(twiddles_, double(j) / length);
    length /= 2;
  }
  for (; length > 4; length /= 4) {
    for (int j = 0; j < length / 4; ++j) {
      for (int r = 1; r < 4; ++r) push(twiddles_, double(j) * r / length);
    }
  }
  for (int k = 0; k <= count / 2; ++k) push(half_steps_, double(k) / n);

  places_.resize(size(count));
  for (int k = 0; k < count; ++k) {
    int place = 0, block = count, frequency = k;
    for (bool by_two = odd_power; block > 1; by_two = false) {
      const int radix = by_two ? 2 : 4;
      block /= radix;
      place += frequency % radix * block;
      frequency /= radix;
    }
    places_[size(k)] = place;
  }
  tables_ = {n, spec_.window_samples, window_.data(), twiddles_.data(), half_steps_.data(), places_.data()};
}

// Triangular filters of unit area, as librosa.filters.mel; only the weights that are not zero.
void LogMelStages::make_filters() {
  const double lowest = hz_to_mel(spec_.fmin_hz), highest = hz_to_mel(spec_.fmax_hz);
  const double step = (highest - lowest) / (spec_.n_mels + 1);
  const auto edge_hz = [&](int i) { return mel_to_hz(i > spec_.n_mels ? highest : lowest + i * step); };
  offsets_.push_back(0);
  for (int band = 0; band < spec_.n_mels; ++band) {
    const double low = edge_hz(band), middle = edge_hz(band + 1), high = edge_hz(band + 2);
    const double bins_per_hz = double(spec_.n_fft) / spec_.sample_rate_hz;
    const int last_bin = std::min(spec_.n_fft / 2, static_cast<int>(high * bins_per_hz) + 1);
    int first = 0;
    for (int bin = static_cast<int>(low * bins_per_hz); bin <= last_bin; ++bin) {
      const double hz = double(bin) * spec_.sample_rate_hz / spec_.n_fft;
      const double triangle = std::max(0.0, std::min((hz - low) / (middle - low), (high - hz) / (high - middle)));
      const float weight = static_cast<float>(triangle * 2 / (high - low));
      if (!(weight > 0)) continue;
      if (weights_.size() == size(offsets_.back())) first = bin;
      weights_.push_back(weight);
    }
    first_bins_.push_back(first);
    offsets_.push_back(static_cast<int32_t>(weights_.size()));
  }
  filters_ = {spec_.n_mels, first_bins_.data(), offsets_.data(), weights_.data()};
}

void LogMelStages::columns(const float* const* frames, int count) {
  const float* lanes[kMaxLanes];
  for (int i = 0; i < kernels_.spectra_frames; ++i) lanes[i] = i < count ? frames[i] : zeros_.data();
  for (int first = 0; first < count; first += kernels_.fft_frames) {
    kernels_.power_spectra(tables_, lanes + first, work_.data(), power_.data() + first);
  }
  kernels_.mel_decibels(filters_, power_.data(), static_cast<float>(spec_.amin), decibels_.data(), peaks_);
}

void LogMelStages::stack(float* row, float peak, const Quantizer& quantizer, void* out) {
  DeltaOptions options{spec_.frames, peak - static_cast<float>(spec_.top_db), {}, {}, quantizer};
  for (int k = 0; k < 3; ++k) {
    options.mean[k] = static_cast<float>(spec_.mean[k]);
    options.std[k] = static_cast<float>(spec_.std[k]);
  }
  kernels_.stack_row(row, options, delta_work_.data(), out);
}

LogMel::LogMel(const LogMelSpec& spec)
    : spec_(spec),
      stages_(spec),
      row_floats_(spec.frames + 2 * kRowPadding),
      padded_(size(spec.samples() + stages_.frame_floats())),
      decibels_(size(spec.n_mels) * size(row_floats_)) {}

void LogMel::run(const float* waveform, int64_t count, int sample_rate_hz, const Quantizer& quantizer, void* out) {
  check_rate(spec_, sample_rate_hz);
  if (count < 1) bad_data("waveform is empty, 0 samples; leave the recording out or record its sound again");
  check_finite(waveform, count, 0);
  const int64_t before = std::min<int64_t>(spec_.before(), spec_.samples() + spec_.window_samples);
  const int64_t room = static_cast<int64_t>(padded_.size()) - before;
  const int64_t kept = std::min({count, spec_.samples(), room});
  const auto rest = std::copy_n(waveform, kept, padded_.begin() + before);
  std::fill(rest, padded_.end(), 0.0f);

  float peak = -INFINITY;
  const int group = stages_.group();
  for (int first = 0; first < spec_.frames; first += group) {
    const int frames = std::min(group, spec_.frames - first);
    const float* starts[kMaxLanes];
    for (int i = 0; i < frames; ++i) starts[i] = padded_.data() + int64_t{first + i} * spec_.hop_samples;
    stages_.columns(starts, frames);
    for (int i = 0; i < frames; ++i) peak = window_peak(peak, stages_.peaks()[i]);
    for (int band = 0; band < spec_.n_mels; ++band) {
      const float* from = stages_.decibels() + int64_t{band} * group;
      std::copy_n(from, frames, decibels_.begin() + int64_t{band} * row_floats_ + first);
    }
  }
  const size_t band_bytes = size(spec_.frames) * 3 * (quantizer.int8 ? 1 : sizeof(float));
  for (int band = 0; band < spec_.n_mels; ++band) {
    stages_.stack(decibels_.data() + int64_t{band} * row_floats_, peak, quantizer,
                  static_cast<char*>(out) + size(band) * band_bytes);
  }
}

}  // namespace har_native
