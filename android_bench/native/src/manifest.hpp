// manifest.json of an artifact: the part that a device needs (runtime/manifest.py writes and describes it).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "spec.hpp"

namespace har_native {

constexpr int kManifestVersion = 1;

struct TensorInfo {
  std::string name;  // "skeleton", "audio" or "logits"
  std::vector<int64_t> shape;
  std::string dtype;  // "float32" or "int8"
  float scale = 0;    // real = scale * (stored - zero_point)
  int zero_point = 0;

  bool is_int8() const { return dtype == "int8"; }
};

struct Label {
  std::string code, name;
};

struct Manifest {
  std::string name, format, model_file, sha256, stream;
  PreprocessSpec preprocess;
  std::vector<Label> labels;
  std::vector<TensorInfo> inputs, outputs;

  // Throws Error (HAR_BAD_DATA): not JSON, another version, a field missing or unknown, a shape other than the
  // specification's.
  static Manifest parse(std::string_view text);

  // nullptr when the model has no such input (a file with a single stream).
  const TensorInfo* input(std::string_view tensor) const;
};

}  // namespace har_native
