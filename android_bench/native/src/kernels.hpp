// The inner loops. kernels.cpp is compiled once for every instruction set; kernels() chooses at run time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace har_native {

constexpr int kMaxLanes = 8;    // upper limit of Kernels::spectra_frames
constexpr int kRowPadding = 8;  // floats that a kernel may read or write beyond the end of a row

// How numbers are stored: float32 as they are, or int8 as round(value / scale) + zero_point, saturated.
struct Quantizer {
  bool int8;
  float scale;
  float zero_point;
};

// A joint in one map: the product of two tables, of which the row's contains the confidence.
struct JointMark {
  const float* column;  // [last_column - first_column, padded]
  const float* row;     // [last_row - first_row]
  int first_column, last_column, first_row, last_row;
  int channel;
};

// A limb in one map; its stop is not left of its start. Three distances are affine in the pixel, stored for the first
// row and column: across the limb's line, along it before its start and after its stop. Their unit is the length at which
// the map is 2^-distance².
struct LimbMark {
  float across, before, after;
  float across_column, across_row;  // step of `across` to the next column and row
  float along_column, along_row;    // step of `after`, and of -`before`
  float weight;
  int first_column, last_column, first_row, last_row;
  int channel;
};

// Some rows of all maps: pixel (row, column) of a channel is at [channel][row - first_row][column].
struct Band {
  float* pixels;
  int rows;    // from a channel to the next
  int stride;  // floats from a row to the next
  int first_row, last_row;
};

// A transform of real length n as a complex one of length n / 2, radix 4, in place.
struct FftTables {
  int n;
  int window_samples;
  const double* window;      // [window_samples, padded with zeros]
  const double* twiddles;    // of the stages, in the order of use
  const double* half_steps;  // [n / 4 + 1][2]: exp(-2πik / n)
  const int32_t* places;     // [n / 2]: where the in-place transform leaves frequency k
};

// Triangles: band m weighs the bins from first[m] on with weights[offset[m]] to weights[offset[m + 1] - 1].
struct MelFilters {
  int n_mels;
  const int32_t* first;
  const int32_t* offset;
  const float* weights;
};

struct DeltaOptions {
  int frames;
  float floor;  // in dB; smaller values are raised to it
  float mean[3], std[3];
  Quantizer quantizer;
};

struct Kernels {
  const char* name;
  int fft_frames;      // frames that power_spectra transforms at once
  int spectra_frames;  // frames that mel_decibels converts at once, a multiple of fft_frames

  // weight * 2^-((i + first)² * step²) for 0 <= i < count; writes up to kRowPadding beyond.
  void (*gaussian)(float first, float step, float weight, int count, float* out);
  void (*draw_joint)(const JointMark&, const Band&);
  // reach: distance from the limb in its units at which its map ends
  void (*draw_limb)(const LimbMark&, const Band&, float reach);
  // Limits a row to 1, adds the motion map, and writes columns [first, last) with channels last.
  // stride: floats from a channel to the next; up to three channels beyond the last are read, and are zero.
  // out: the row's first pixel; guard: one past the last byte that may be written.
  void (*finish_row)(float* row, int stride, int sampled_frames, int first, int last, const Quantizer&, void* out,
                     const void* guard);
  // |STFT|² of fft_frames frames, each readable (and finite) 3 floats beyond window_samples.
  // work: [n / 2][2][fft_frames]; power: [n / 2 + 1] rows of spectra_frames, of which fft_frames columns are written.
  void (*power_spectra)(const FftTables&, const float* const* frames, double* work, float* power);
  // power: [bins][spectra_frames] → decibels: [n_mels][spectra_frames]; peak: [spectra_frames], a frame's largest
  // decibel, NaN where its power is not finite.
  void (*mel_decibels)(const MelFilters&, const float* power, float amin, float* decibels, float* peak);
  // One band: decibels [frames] → [frames][3] of (log-Mel, Δ, Δ²), standardised. `decibels` is
  // raised to the floor in place, kRowPadding floats beyond its end included. work: [2 * (frames + kRowPadding)].
  void (*stack_row)(float* decibels, const DeltaOptions&, float* work, void* out);
};

extern const Kernels kBaselineKernels;
#ifdef HAR_HAVE_AVX2
extern const Kernels kAvx2Kernels;
#endif

const Kernels& kernels();

}  // namespace har_native
