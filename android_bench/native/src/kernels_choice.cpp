#include "kernels.hpp"

namespace har_native {

const Kernels& kernels() {
#ifdef HAR_HAVE_AVX2
  static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2) return kAvx2Kernels;
#endif
  return kBaselineKernels;
}

}  // namespace har_native
