// Vectors of the compiler (GCC 12, clang 14 or newer), as wide as the registers of the instruction set.
// Everything here is local to the file that includes it: it is compiled with different instructions in each.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX2__)
constexpr int W = 8;  // floats in a register
constexpr int L = 4;  // doubles
#else
constexpr int W = 4;
constexpr int L = 2;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint8_t vb __attribute__((vector_size(4 * W)));
typedef double vd __attribute__((vector_size(8 * L)));
typedef float vf_l __attribute__((vector_size(4 * L)));
typedef float f4 __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline))

template <typename V, typename T>
INLINE V load(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename V, typename T>
INLINE void store(T* to, V value) {
  std::memcpy(to, &value, sizeof value);
}

template <typename To, typename From>
INLINE To bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

INLINE vf all(float value) { return vf{} + value; }

INLINE vf count_up() {
  vf result;
  for (int i = 0; i < W; ++i) result[i] = static_cast<float>(i);
  return result;
}

// Maximum and minimum; without -ffinite-math-only compilers do not emit these instructions.
INLINE vf larger(vf a, vf b) {
#if defined(__AVX2__)
  return __builtin_ia32_maxps256(a, b);
#elif defined(__SSE2__)
  return __builtin_ia32_maxps(a, b);
#else
  return a > b ? a : b;
#endif
}

INLINE vf smaller(vf a, vf b) {
#if defined(__AVX2__)
  return __builtin_ia32_minps256(a, b);
#elif defined(__SSE2__)
  return __builtin_ia32_minps(a, b);
#else
  return a < b ? a : b;
#endif
}

constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, half to even

// 2^-x for x >= 0, relative error below 2e-7 up to 100, at most 2^-100 beyond. The polynomial is 1 at 0 and minimax in
// relative error, 9e-8, within half a power (by a linear program).
INLINE vf exp2_negative(vf x) {
  const vf y = -smaller(x, all(100.0f));
  const vf shifted = y + kRounder;
  const vf f = y - (shifted - kRounder);
  vf p = all(1.326472731e-03f);
  p = p * f + 9.671512991e-03f;
  p = p * f + 5.550733581e-02f;
  p = p * f + 2.402224243e-01f;
  p = p * f + 6.931470037e-01f;
  p = p * f + 1.0f;
  return bits<vf>(bits<vu>(p) + (bits<vu>(shifted) << 23));  // the low bits of `shifted` are the integer part
}

// Natural logarithm of normal positive numbers, to a relative error of about 1e-7 (Cephes' logf).
INLINE vf logarithm(vf x) {
  const vu shifted = bits<vu>(x) - 0x3f3504f3u;  // sqrt(1/2) becomes 0
  const vf e = __builtin_convertvector(bits<vi>(shifted) >> 23, vf);
  const vf m = bits<vf>((shifted & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
  const vf z = m * m;
  vf p = all(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  p = p * m * z;
  p = p - e * 2.12194440e-4f;
  p = p - 0.5f * z;
  return m + p + e * 0.693359375f;
}

}  // namespace
