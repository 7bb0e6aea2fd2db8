// Part of kernels.cpp: the transform of several frames at once, one in each lane of a vector, in double precision.
// (In float32 a frame's weakest bands, 80 dB below its strongest, would be off by hundredths of a decibel.)
#pragma once

namespace har_native {
namespace {

struct Complex {
  vd re, im;
};

INLINE Complex get(const double* work, ptrdiff_t i) {
  return {load<vd>(work + 2 * L * i), load<vd>(work + 2 * L * i + L)};
}

INLINE void put(double* work, ptrdiff_t i, Complex value) {
  store(work + 2 * L * i, value.re);
  store(work + 2 * L * i + L, value.im);
}

INLINE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
INLINE Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
INLINE Complex times(Complex a, const double* w) { return {a.re * w[0] - a.im * w[1], a.re * w[1] + a.im * w[0]}; }

// L samples of L frames, turned so that a vector holds one sample of every frame.
INLINE void load_turned(const float* const* frames, int sample, vd (&turned)[L]) {
#if defined(__AVX2__)
  const f4 a = load<f4>(frames[0] + sample), b = load<f4>(frames[1] + sample);
  const f4 c = load<f4>(frames[2] + sample), d = load<f4>(frames[3] + sample);
  const f4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const f4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  turned[0] = __builtin_convertvector(__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), vd);
  turned[1] = __builtin_convertvector(__builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7), vd);
  turned[2] = __builtin_convertvector(__builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), vd);
  turned[3] = __builtin_convertvector(__builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7), vd);
#else
  turned[0] = vd{frames[0][sample], frames[1][sample]};
  turned[1] = vd{frames[0][sample + 1], frames[1][sample + 1]};
#endif
}

// Windowed frames as complex numbers (even samples, odd samples), zeros after them.
INLINE void load_frames(const FftTables& tables, const float* const* frames, double* work) {
  int sample = 0;
  for (; sample < tables.window_samples; sample += L) {
    vd turned[L];
    load_turned(frames, sample, turned);
    for (int i = 0; i < L; i += 2) {
      put(work, (sample + i) / 2,
          {turned[i] * tables.window[sample + i], turned[i + 1] * tables.window[sample + i + 1]});
    }
  }
  for (; sample < tables.n; sample += 2) put(work, sample / 2, {vd{}, vd{}});
}

INLINE void radix2(double* work, ptrdiff_t half, const double* w) {
  for (ptrdiff_t j = 0; j < half; ++j, w += 2) {
    const Complex a = get(work, j), b = get(work, j + half);
    put(work, j, a + b);
    put(work, j + half, times(a - b, w));
  }
}

// One butterfly of blocks of length 4 * quarter, without the twiddles.
INLINE void butterfly(const double* work, ptrdiff_t at, ptrdiff_t quarter, Complex (&y)[4]) {
  const Complex a = get(work, at), b = get(work, at + quarter);
  const Complex c = get(work, at + 2 * quarter), d = get(work, at + 3 * quarter);
  const Complex even = a + c, odd = a - c, sum = b + d, difference = b - d;
  y[0] = even + sum;
  y[1] = {odd.re + difference.im, odd.im - difference.re};
  y[2] = even - sum;
  y[3] = {odd.re - difference.im, odd.im + difference.re};
}

INLINE void radix4(double* work, ptrdiff_t count, ptrdiff_t quarter, const double* twiddles) {
  for (ptrdiff_t base = 0; base < count; base += 4 * quarter) {
    const double* w = twiddles;
    for (ptrdiff_t at = base; at < base + quarter; ++at, w += 6) {
      Complex y[4];
      butterfly(work, at, quarter, y);
      put(work, at, y[0]);
      put(work, at + quarter, times(y[1], w));
      put(work, at + 2 * quarter, times(y[2], w + 2));
      put(work, at + 3 * quarter, times(y[3], w + 4));
    }
  }
}

INLINE void last_radix4(double* work, ptrdiff_t count) {
  for (ptrdiff_t at = 0; at < count; at += 4) {
    Complex y[4];
    butterfly(work, at, 1, y);
    for (int i = 0; i < 4; ++i) put(work, at + i, y[i]);
  }
}

INLINE void store_power(float* power, ptrdiff_t bin, vd re, vd im) {
  const vf_l re32 = __builtin_convertvector(re, vf_l), im32 = __builtin_convertvector(im, vf_l);
  store(power + bin * W, re32 * re32 + im32 * im32);
}

void power_spectra(const FftTables& tables, const float* const* frames, double* work, float* power) {
  load_frames(tables, frames, work);
  const ptrdiff_t count = tables.n / 2;
  const double* w = tables.twiddles;
  ptrdiff_t length = count;
  if (__builtin_ctzll(static_cast<unsigned long long>(count)) % 2) {
    radix2(work, count / 2, w);
    w += count;
    length = count / 2;
  }
  for (; length > 4; length /= 4) {
    radix4(work, count, length / 4, w);
    w += 6 * (length / 4);
  }
  last_radix4(work, count);

  // the even samples' transform and the odd ones' come apart by symmetry
  for (ptrdiff_t k = 0; k <= count / 2; ++k) {
    const Complex a = get(work, tables.places[k]), b = get(work, tables.places[(count - k) % count]);
    const double* step = tables.half_steps + 2 * k;
    const Complex even = {(a.re + b.re) * 0.5, (a.im - b.im) * 0.5};
    const Complex odd = times({(a.im + b.im) * 0.5, (b.re - a.re) * 0.5}, step);
    store_power(power, k, even.re + odd.re, even.im + odd.im);
    store_power(power, count - k, even.re - odd.re, even.im - odd.im);
  }
}

}  // namespace
}  // namespace har_native
