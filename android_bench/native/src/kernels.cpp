#include "kernels.hpp"

#include "vectors.hpp"

#ifndef HAR_KERNELS
#define HAR_KERNELS kBaselineKernels
#define HAR_KERNELS_NAME "baseline"
#endif

namespace har_native {
namespace {

void gaussian(float first, float step, float weight, int count, float* out) {
  for (int i = 0; i < count; i += W) {
    const vf x = (count_up() + static_cast<float>(i) + first) * step;
    store(out + i, weight * exp2_negative(x * x));
  }
}

INLINE float* pixels_of(const Band& band, int row, int channel, int column) {
  return band.pixels + (static_cast<ptrdiff_t>(channel) * band.rows + row - band.first_row) * band.stride + column;
}

INLINE int max_int(int a, int b) { return a > b ? a : b; }
INLINE int min_int(int a, int b) { return a < b ? a : b; }

void draw_joint(const JointMark& mark, const Band& band) {
  const int last = min_int(mark.last_row, band.last_row);
  const int columns = mark.last_column - mark.first_column;
  for (int row = max_int(mark.first_row, band.first_row); row < last; ++row) {
    float* pixels = pixels_of(band, row, mark.channel, mark.first_column);
    const vf weight = all(mark.row[row - mark.first_row]);
    for (int i = 0; i < columns; i += W) {
      store(pixels + i, load<vf>(pixels + i) + weight * load<vf>(mark.column + i));
    }
  }
}

// Columns from <= i < to of a row that the limb reaches.
struct Span {
  float from, to;
};

INLINE float max_float(float a, float b) { return a > b ? a : b; }
INLINE float min_float(float a, float b) { return a < b ? a : b; }

void draw_limb(const LimbMark& mark, const Band& band, float reach) {
  const int last = min_int(mark.last_row, band.last_row);
  const int all_columns = mark.last_column - mark.first_column;
  const float columns = static_cast<float>(all_columns);
  // The pixels within reach lie in a strip beside the line and between two lines across it. Where the strip or
  // the lines are parallel to the row they bound nothing (and their slope must not be a divisor).
  const float step = max_float(mark.across_column, -mark.across_column);
  const bool beside = step * columns > reach, ends = mark.along_column * columns > reach;
  const float inverse_across = beside ? 1 / mark.across_column : 0.0f, half = beside ? reach / step : 0.0f;
  const float inverse_along = ends ? 1 / mark.along_column : 0.0f;
  const vf across_column = all(mark.across_column), along_column = all(mark.along_column), weight = all(mark.weight);
  const vf zero = all(0.0f), columns_up = count_up();
  for (int row = max_int(mark.first_row, band.first_row); row < last; ++row) {
    const float down = static_cast<float>(row - mark.first_row);
    const float across_row = mark.across + down * mark.across_row;
    const float before_row = mark.before - down * mark.along_row;
    const float after_row = mark.after + down * mark.along_row;
    Span span{0, columns};
    if (beside) {
      const float center = -across_row * inverse_across;
      span = {max_float(0, center - half), min_float(columns, center + half + 1)};
    }
    if (ends) {
      span.from = max_float(span.from, (before_row - reach) * inverse_along);
      span.to = min_float(span.to, (reach - after_row) * inverse_along + 1);
    }
    if (!(span.from < span.to)) continue;
    const int from = static_cast<int>(span.from), to = min_int(static_cast<int>(span.to) + 1, all_columns);
    float* pixels = pixels_of(band, row, mark.channel, mark.first_column);
    vf column = columns_up + static_cast<float>(from);
    for (int i = from; i < to; i += W, column = column + static_cast<float>(W)) {
      const vf across = across_row + across_column * column;
      const vf along = along_column * column;
      const vf beyond = larger(larger(before_row - along, after_row + along), zero);
      store(pixels + i, load<vf>(pixels + i) + weight * exp2_negative(across * across + beyond * beyond));
    }
  }
}

// NumPy divides, rounds, adds and clips; clipping first is equivalent, since its limits are integers.
INLINE vi quantized(vf value, const Quantizer& q) {
  const vf steps = smaller(larger(value / q.scale, all(-128.0f - q.zero_point)), all(127.0f - q.zero_point));
  return __builtin_convertvector((steps + kRounder) - kRounder + q.zero_point, vi);
}

INLINE vu low_byte(vi value) { return bits<vu>(value) & 255u; }

// Values in [0, 1] as steps, without the zero point, in the lowest byte.
INLINE vu map_steps(vf value, const Quantizer& q, vf reciprocal) {
#if defined(__FMA__)
  const vf estimate = value * reciprocal;  // one step of Newton's gives the rounded quotient, sooner than dividing
  const vf quotient = estimate + (value - estimate * q.scale) * reciprocal;
#else
  (void)reciprocal;
  const vf quotient = value / q.scale;
#endif
  return bits<vu>(smaller(quotient, all(127.0f - q.zero_point)) + kRounder) & 255u;  // the low bits are the integer
}

// Four channels of W pixels, from planes to channels last. The surplus channels of the last four spill into the next
// pixel; they are zero, which is correct even where that pixel is already complete.
INLINE vf load_map(const float* plane) { return smaller(load<vf>(plane), all(1.0f)); }

INLINE void transpose(const float* planes, int stride, int channels, const Quantizer&, float* out) {
  float limited[4][W];
  for (int channel = 0; channel < 4; ++channel) store(limited[channel], load_map(planes + channel * stride));
  for (int i = 0; i < W; i += 4) {
    const f4 a = load<f4>(limited[0] + i), b = load<f4>(limited[1] + i);
    const f4 c = load<f4>(limited[2] + i), d = load<f4>(limited[3] + i);
    const f4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const f4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    float* to = out + static_cast<ptrdiff_t>(i) * channels;
    store(to, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    store(to + channels, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    store(to + 2 * channels, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    store(to + 3 * channels, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
  }
}

INLINE void transpose(const float* planes, int stride, int channels, const Quantizer& q, int8_t* out) {
  const vf reciprocal = 1.0f / all(q.scale);
  const vb zero_point = vb{} + static_cast<uint8_t>(static_cast<int>(q.zero_point));
  vu pixels = map_steps(load_map(planes), q, reciprocal);
  for (int i = 1; i < 4; ++i) pixels |= map_steps(load_map(planes + i * stride), q, reciprocal) << (8 * i);
  uint32_t words[W];
  store(words, bits<vb>(pixels) + zero_point);
  for (int i = 0; i < W; ++i) std::memcpy(out + static_cast<ptrdiff_t>(i) * channels, &words[i], 4);
}

INLINE float limited(float value) { return value < 1 ? value : 1; }

INLINE float stored(float value, const Quantizer&, float) { return value; }

INLINE int8_t stored(float value, const Quantizer& q, int8_t) {
  const float low = -128.0f - q.zero_point, high = 127.0f - q.zero_point;
  float steps = value / q.scale;
  steps = steps < low ? low : steps > high ? high : steps;
  return static_cast<int8_t>((steps + kRounder) - kRounder + q.zero_point);
}

template <typename T>
INLINE void write_row(const float* row, int stride, int channels, int first, int last, const Quantizer& q, T* out,
                      const T* guard) {
  int column = first;
  // the last lanes of a block spill at most three channels beyond its last pixel
  for (; column + W <= last && out + static_cast<ptrdiff_t>(column + W) * channels + 3 <= guard; column += W) {
    // from the last channels to the first: the spill over the end of a pixel is overwritten by the next pixel's first
    for (int channel = (channels - 1) / 4 * 4; channel >= 0; channel -= 4) {
      transpose(row + static_cast<ptrdiff_t>(channel) * stride + column, stride, channels, q,
                out + static_cast<ptrdiff_t>(column) * channels + channel);
    }
  }
  for (; column < last; ++column) {
    for (int channel = 0; channel < channels; ++channel) {
      out[static_cast<ptrdiff_t>(column) * channels + channel] =
          stored(limited(row[static_cast<ptrdiff_t>(channel) * stride + column]), q, T{});
    }
  }
}

void finish_row(float* row, int stride, int sampled_frames, int first, int last, const Quantizer& q, void* out,
                const void* guard) {
  const int maps = 6 * sampled_frames;
  for (int i = first; i < last; i += W) {
    vf motion = all(0.0f), earlier = load_map(row + i);
    for (int frame = 1; frame < sampled_frames; ++frame) {
      const vf later = load_map(row + static_cast<ptrdiff_t>(6 * frame) * stride + i);
      motion = larger(motion, larger(later - earlier, earlier - later));
      earlier = later;
    }
    store(row + static_cast<ptrdiff_t>(maps) * stride + i, motion);
  }
  if (q.int8) {
    write_row(row, stride, maps + 1, first, last, q, static_cast<int8_t*>(out), static_cast<const int8_t*>(guard));
  } else {
    write_row(row, stride, maps + 1, first, last, q, static_cast<float*>(out), static_cast<const float*>(guard));
  }
}

void mel_decibels(const MelFilters& filters, const float* power, float amin, float* decibels, float* peak) {
  vf largest = all(-1e30f), defect = all(0.0f);
  for (int band = 0; band < filters.n_mels; ++band) {
    const float* weight = filters.weights + filters.offset[band];
    const float* bin = power + static_cast<ptrdiff_t>(filters.first[band]) * W;
    const int count = filters.offset[band + 1] - filters.offset[band];
    vf sum = all(0.0f);
    for (int i = 0; i < count; ++i) sum = sum + weight[i] * load<vf>(bin + static_cast<ptrdiff_t>(i) * W);
    defect = defect + (sum - sum);  // NaN where it is not finite
    const vf decibel = 4.342944819032518f * logarithm(larger(sum, all(amin)));
    store(decibels + static_cast<ptrdiff_t>(band) * W, decibel);
    largest = larger(largest, decibel);
  }
  store(peak, largest + defect);
}

INLINE void interleave(vf a_wide, vf b_wide, vf c_wide, const Quantizer&, float* out) {
  float a_all[W], b_all[W], c_all[W];
  store(a_all, a_wide);
  store(b_all, b_wide);
  store(c_all, c_wide);
  for (int i = 0; i < W; i += 4) {
    const f4 a = load<f4>(a_all + i), b = load<f4>(b_all + i), c = load<f4>(c_all + i);
    const f4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), bc = __builtin_shufflevector(b, c, 1, 5, 2, 6);
    const f4 ab_last = __builtin_shufflevector(a, b, 3, 7, 3, 7);
    store(out + 3 * i, __builtin_shufflevector(ab, c, 0, 1, 4, 2));
    store(out + 3 * i + 4, __builtin_shufflevector(bc, a, 0, 1, 6, 2));
    store(out + 3 * i + 8, __builtin_shufflevector(ab_last, c, 6, 0, 1, 7));
  }
}

INLINE void interleave(vf a, vf b, vf c, const Quantizer& q, int8_t* out) {
  uint32_t words[W];
  store(words, low_byte(quantized(a, q)) | low_byte(quantized(b, q)) << 8 | low_byte(quantized(c, q)) << 16);
  for (int i = 0; i < W; ++i) std::memcpy(out + static_cast<ptrdiff_t>(3) * i, &words[i], 3);
}

template <typename T>
INLINE void write_stack(const float* value, const float* delta, const float* delta2, const DeltaOptions& options,
                        T* out) {
  const float* channels[3] = {value, delta, delta2};
  int frame = 0;
  for (; frame + W <= options.frames; frame += W) {
    vf scaled[3];
    for (int k = 0; k < 3; ++k) scaled[k] = (load<vf>(channels[k] + frame) - options.mean[k]) / options.std[k];
    interleave(scaled[0], scaled[1], scaled[2], options.quantizer, out + static_cast<ptrdiff_t>(3) * frame);
  }
  for (; frame < options.frames; ++frame) {
    for (int k = 0; k < 3; ++k) {
      const float scaled = (channels[k][frame] - options.mean[k]) / options.std[k];
      out[static_cast<ptrdiff_t>(3) * frame + k] = stored(scaled, options.quantizer, T{});
    }
  }
}

void stack_row(float* decibels, const DeltaOptions& options, float* work, void* out) {
  constexpr int half = 4;
  const int frames = options.frames;
  float* delta = work;
  float* delta2 = work + frames + kRowPadding;
  for (int i = 0; i < frames; i += W) store(decibels + i, larger(load<vf>(decibels + i), all(options.floor)));
  for (int i = half; i < frames - half; i += W) {
    const auto at = [&](int distance) { return load<vf>(decibels + i + distance); };
    const vf first = (at(1) - at(-1)) * (1.0f / 60) + (at(2) - at(-2)) * (2.0f / 60) + (at(3) - at(-3)) * (3.0f / 60) +
                     (at(4) - at(-4)) * (4.0f / 60);
    const vf second = at(0) * (-20.0f / 462) + (at(1) + at(-1)) * (-17.0f / 462) + (at(2) + at(-2)) * (-8.0f / 462) +
                      (at(3) + at(-3)) * (7.0f / 462) + (at(4) + at(-4)) * (28.0f / 462);
    store(delta + i, first);
    store(delta2 + i, second);
  }
  // the polynomial fitted to the first or last 9 frames has a constant derivative: the edge repeats its neighbour
  for (int i = 0; i < half; ++i) {
    delta[i] = delta[half];
    delta[frames - 1 - i] = delta[frames - 1 - half];
    delta2[i] = delta2[half];
    delta2[frames - 1 - i] = delta2[frames - 1 - half];
  }
  if (options.quantizer.int8) {
    write_stack(decibels, delta, delta2, options, static_cast<int8_t*>(out));
  } else {
    write_stack(decibels, delta, delta2, options, static_cast<float*>(out));
  }
}

}  // namespace
}  // namespace har_native

#include "kernels_fft.hpp"

namespace har_native {

const Kernels HAR_KERNELS = {HAR_KERNELS_NAME, L,          W,           gaussian,     draw_joint, draw_limb,
                             finish_row,       power_spectra, mel_decibels, stack_row};

}  // namespace har_native
