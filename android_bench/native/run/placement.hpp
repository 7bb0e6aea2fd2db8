// The accelerator that runs a model, and the share of operations that it runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "litert.hpp"
#include "options.hpp"

namespace har_native {

int kind_of(const std::string& accelerator);

struct Placement {
  std::string accelerator;   // "cpu", "gpu", "npu", "gpu+cpu" or "npu+cpu"
  int64_t delegated, total;  // operations; -1 where LiteRT does not report them
};

// A model on the requested accelerator alone or, where that cannot run every operation, with the CPU's help.
struct PlacedModel {
  // Throws Exit (kMissing, kBadData): there is no such accelerator, or LiteRT refuses the model.
  PlacedModel(const Litert& litert, const std::string& path, const Options& options);

  int accelerators;
  std::unique_ptr<CompiledModel> model;
};

// Counts the delegated operations in a profile of a second model with the same settings: profiling slows a model down.
// Throws Exit (kBadData): an accelerator other than the CPU ran nothing, or an unknown number of operations.
Placement find_placement(const Litert& litert, const std::string& path, const Options& options, int accelerators);

}  // namespace har_native
