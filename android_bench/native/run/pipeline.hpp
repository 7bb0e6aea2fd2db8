// An artifact on a device: a recording into the model's inputs, inference, logits.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "har.h"
#include "litert.hpp"
#include "manifest.hpp"
#include "recording.hpp"

namespace har_native {

// manifest.json and the files that it names.
struct Artifact {
  // Throws Exit (kMissing, kBadData): the manifest is missing or not that of a TFLite artifact.
  explicit Artifact(const std::string& folder);

  bool has(const char* input) const { return manifest.input(input) != nullptr; }

  std::string model_path, golden_folder;
  Manifest manifest;
  std::unique_ptr<har, void (*)(har*)> handle{nullptr, har_destroy};
};

class Pipeline {
 public:
  // Throws Exit (kBadData): the model's tensors differ from the manifest's.
  Pipeline(const Artifact& artifact, CompiledModel& model);

  // Writes a recording's tensors into the model's inputs. Throws Exit (kBadData).
  void preprocess(const Recording& recording);

  // Writes the tensors of a stream's window.
  void preprocess(har_stream* stream);

  // Random numbers in all inputs.
  void fill_inputs();

  // Returns when the output is readable: a GPU may still compute when LiteRT's call returns. Free on a CPU.
  void infer();

  // Of the last inference, dequantized.
  std::vector<float> logits() const;

 private:
  struct Input {
    const CompiledModel::Tensor* tensor;
    har_type type;
  };

  Input find_input(const char* name) const;

  const Artifact& artifact_;
  CompiledModel& model_;
  Input skeleton_, audio_;  // tensor is nullptr where the model has no such input
  const CompiledModel::Tensor* output_ = nullptr;
  const TensorInfo* output_info_ = nullptr;
};

}  // namespace har_native
