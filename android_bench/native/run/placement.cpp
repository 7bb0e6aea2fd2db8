#include "placement.hpp"

#include "system.hpp"

namespace har_native {

int kind_of(const std::string& accelerator) {
  return accelerator == "gpu" ? kGpu : accelerator == "npu" ? kNpu : kCpu;
}

PlacedModel::PlacedModel(const Litert& litert, const std::string& path, const Options& options)
    : accelerators(kind_of(options.accelerator)) {
  const auto compile = [&] {
    return std::make_unique<CompiledModel>(litert, path, CompiledModel::Settings{accelerators, options.threads});
  };
  if (accelerators == kCpu) {
    model = compile();
    return;
  }
  litert.require_accelerator(accelerators, options.accelerator);
  try {
    model = compile();
  } catch (const Exit&) {
    // Without the CPU LiteRT refuses a model with operations that the accelerator does not support.
    accelerators |= kCpu;
    model = compile();
  }
}

Placement find_placement(const Litert& litert, const std::string& path, const Options& options, int accelerators) {
  int64_t total = 0;
  const auto left_on_cpu = [&](int on, bool builtins) {
    CompiledModel model(litert, path, {on, options.threads, true, builtins});
    total = model.operations();
    return model.operations_run_by_litert();
  };
  if (accelerators == kind_of(options.accelerator)) {
    const int64_t left = left_on_cpu(accelerators, false);
    if (left > 0 && accelerators != kCpu) {
      throw Exit{kDefect, "LiteRT ran operations on the CPU although it was excluded"};
    }
    return {options.accelerator, left < 0 ? -1 : total - left, total};
  }
  // XNNPACK would run the remaining operations and be counted with the accelerator. It is disabled here, which not
  // every release supports: where one does, LiteRT's kernels run all operations on the CPU.
  const bool can_count = left_on_cpu(kCpu, true) == total;
  const int64_t left = can_count ? left_on_cpu(accelerators, true) : -1;
  if (left < 0 || left == total) {
    const char* share = left < 0 ? "an unknown part of the model, which this LiteRT does not report" : "none of it";
    throw Exit{kBadData, options.accelerator + " was asked for, but it ran " + share +
                             "; see LiteRT's messages on standard error, or use --accelerator cpu"};
  }
  return {options.accelerator + "+cpu", total - left, total};
}

}  // namespace har_native
