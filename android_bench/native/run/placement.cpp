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
    // Alone LiteRT refuses a model that the accelerator does not take whole.
    accelerators |= kCpu;
    model = compile();
  }
}

Placement find_placement(const Litert& litert, const std::string& path, const Options& options, int accelerators) {
  int64_t total = 0;
  const auto kept = [&](int on, bool builtins) {
    CompiledModel model(litert, path, {on, options.threads, true, builtins});
    total = model.operations();
    return model.operations_run_by_litert();
  };
  if (accelerators == kind_of(options.accelerator)) {
    const int64_t own = kept(accelerators, false);
    if (own > 0 && accelerators != kCpu) {
      throw Exit{kDefect, "LiteRT ran operations on the CPU, which it was not allowed to"};
    }
    return {options.accelerator, own < 0 ? -1 : total - own, total};
  }
  // XNNPACK would take what the accelerator leaves and be counted with it. It is left out here, which not every release
  // can do: it can where all operations are LiteRT's own on the CPU.
  const bool can_tell = kept(kCpu, true) == total;
  const int64_t own = can_tell ? kept(accelerators, true) : -1;
  if (own < 0 || own == total) {
    const char* what = own < 0 ? "a part of the model, and this LiteRT does not tell which" : "nothing of the model";
    throw Exit{kBadData, options.accelerator + " was asked for, but it took " + what +
                             "; what LiteRT said is on standard error, use --accelerator cpu"};
  }
  return {options.accelerator + "+cpu", total - own, total};
}

}  // namespace har_native
