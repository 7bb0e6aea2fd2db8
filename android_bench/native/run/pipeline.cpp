#include "pipeline.hpp"

#include <cstring>

#include "errors.hpp"
#include "system.hpp"

namespace har_native {
namespace {

constexpr const char* kRemedy = "; export the artifact again";

size_t bytes_of(const TensorInfo& info) {
  size_t bytes = info.is_int8() ? 1 : sizeof(float);
  for (const int64_t length : info.shape) bytes *= static_cast<size_t>(length);
  return bytes;
}

void require_match(const CompiledModel::Tensor& tensor, const TensorInfo& info) {
  const int type = info.is_int8() ? kInt8Element : kFloat32Element;
  if (tensor.element_type == type && tensor.bytes == bytes_of(info)) return;
  throw Exit{kBadData, "the model's tensor '" + info.name + "' has " + std::to_string(tensor.bytes) +
                           " bytes and type " + std::to_string(tensor.element_type) +
                           ", which is not what the manifest says" + kRemedy};
}

void need(har_status status, const std::string& name, const char* reason) {
  if (status != HAR_OK) throw Exit{status == HAR_BAD_DATA ? kBadData : kDefect, name + ": " + reason};
}

}  // namespace

Artifact::Artifact(const std::string& folder) : golden_folder(folder + "/golden") {
  const std::string path = folder + "/manifest.json";
  const MappedFile file(path);
  const std::string text(file.data(), file.data() + file.size());
  try {
    manifest = Manifest::parse(text);
  } catch (const Error& error) {
    throw Exit{kBadData, path + ": " + error.message};
  }
  if (manifest.format != "tflite") {
    throw Exit{kBadData, path + " has the format '" + manifest.format.substr(0, 40) + "'; har_run reads tflite"};
  }
  if (manifest.model_file.empty() || manifest.model_file.find('/') != std::string::npos) {
    throw Exit{kBadData, path + " names no model file of its folder" + kRemedy};
  }
  if (manifest.outputs.size() != 1) throw Exit{kBadData, path + " has several outputs or none" + kRemedy};
  const std::string& type = manifest.outputs[0].dtype;
  if (type != "int8" && type != "float32") throw Exit{kBadData, path + " has an output of type " + type + kRemedy};
  for (const TensorInfo& info : manifest.inputs) {
    if (info.name != "skeleton" && info.name != "audio") {
      throw Exit{kBadData, path + " has the input '" + info.name.substr(0, 40) + "'; use skeleton and audio"};
    }
  }
  if (manifest.inputs.empty()) throw Exit{kBadData, path + " has no input" + kRemedy};
  model_path = folder + "/" + manifest.model_file;
  char error[400] = "";
  har* created = nullptr;
  need(har_create(text.data(), text.size(), &created, error, sizeof error), path, error);
  handle.reset(created);
}

Pipeline::Pipeline(const Artifact& artifact, CompiledModel& model)
    : artifact_(artifact), model_(model), skeleton_(find_input("skeleton")), audio_(find_input("audio")) {
  if (model.inputs().size() != artifact.manifest.inputs.size()) {
    throw Exit{kBadData, "the model has " + std::to_string(model.inputs().size()) +
                             " inputs, which is not what the manifest says" + kRemedy};
  }
  if (model.outputs().size() != 1) throw Exit{kBadData, std::string("the model has several outputs") + kRemedy};
  output_info_ = &artifact.manifest.outputs[0];
  output_ = &model.outputs()[0];  // of any name: files without a signature have another
  require_match(*output_, *output_info_);
}

Pipeline::Input Pipeline::find_input(const char* name) const {
  const TensorInfo* info = artifact_.manifest.input(name);
  if (!info) return {nullptr, HAR_FLOAT32};
  for (const CompiledModel::Tensor& tensor : model_.inputs()) {
    if (tensor.name != info->name) continue;
    require_match(tensor, *info);
    return {&tensor, info->is_int8() ? HAR_INT8 : HAR_FLOAT32};
  }
  throw Exit{kBadData, std::string("the model has no input '") + name + "', which the manifest names" + kRemedy};
}

void Pipeline::preprocess(const Recording& recording) {
  har* handle = artifact_.handle.get();
  if (skeleton_.tensor) {
    model_.write(*skeleton_.tensor, [&](void* out) {
      need(har_heatmaps(handle, recording.joints.data(), recording.confidence.data(), recording.frames,
                        recording.bodies, recording.layout, skeleton_.type, out, skeleton_.tensor->bytes, nullptr),
           recording.name, har_error(handle));
    });
  }
  if (audio_.tensor) {
    model_.write(*audio_.tensor, [&](void* out) {
      need(har_logmel(handle, recording.waveform.data(), static_cast<int64_t>(recording.waveform.size()),
                      artifact_.manifest.preprocess.audio.sample_rate_hz, audio_.type, out, audio_.tensor->bytes),
           recording.name, har_error(handle));
    });
  }
}

void Pipeline::preprocess(har_stream* stream) {
  if (skeleton_.tensor) {
    model_.write(*skeleton_.tensor, [&](void* out) {
      need(har_stream_heatmaps(stream, skeleton_.type, out, skeleton_.tensor->bytes, nullptr), "stream",
           har_stream_error(stream));
    });
  }
  if (audio_.tensor) {
    model_.write(*audio_.tensor, [&](void* out) {
      need(har_stream_logmel(stream, audio_.type, out, audio_.tensor->bytes), "stream", har_stream_error(stream));
    });
  }
}

void Pipeline::fill_inputs() {
  uint32_t state = 1;
  const auto next = [&state] { return (state = state * 1664525u + 1013904223u) >> 8; };
  for (const Input& input : {skeleton_, audio_}) {
    if (!input.tensor) continue;
    model_.write(*input.tensor, [&](void* out) {
      if (input.type == HAR_INT8) {
        for (size_t i = 0; i < input.tensor->bytes; ++i) static_cast<uint8_t*>(out)[i] = static_cast<uint8_t>(next());
      } else {
        const size_t count = input.tensor->bytes / sizeof(float);
        for (size_t i = 0; i < count; ++i) static_cast<float*>(out)[i] = static_cast<float>(next()) / 16777216.0f;
      }
    });
  }
}

void Pipeline::infer() {
  model_.run();
  model_.read(*output_, [](const void*) {});
}

std::vector<float> Pipeline::logits() const {
  std::vector<float> values(output_->bytes / (output_info_->is_int8() ? 1 : sizeof(float)));
  model_.read(*output_, [&](const void* memory) {
    if (!output_info_->is_int8()) {
      std::memcpy(values.data(), memory, output_->bytes);
      return;
    }
    const auto* stored = static_cast<const int8_t*>(memory);
    const auto zero_point = static_cast<float>(output_info_->zero_point);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = (static_cast<float>(stored[i]) - zero_point) * output_info_->scale;
    }
  });
  return values;
}

}  // namespace har_native
