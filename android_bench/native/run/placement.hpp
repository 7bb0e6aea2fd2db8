// On which accelerator a model runs, and how much of it.
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
  int64_t delegated, total;  // operations; -1 where LiteRT does not tell
};

// A model on the accelerator that is asked for alone, or, where that does not take all of it, with the CPU's help.
struct PlacedModel {
  // Throws Exit (kMissing, kBadData): there is no such accelerator, or LiteRT does not take the model.
  PlacedModel(const Litert& litert, const std::string& path, const Options& options);

  int accelerators;
  std::unique_ptr<CompiledModel> model;
};

// What ran where, by a profile of another model with the same settings: profiling slows a model down.
// Throws Exit (kBadData): another accelerator than the CPU took nothing, or how much is not to be known.
Placement find_placement(const Litert& litert, const std::string& path, const Options& options, int accelerators);

}  // namespace har_native
