#include "manifest.hpp"

#include <cfloat>

#include "errors.hpp"

namespace har_native {
namespace {

constexpr const char* kFields[] = {"version", "name",         "format",      "model_file", "sha256", "size_bytes",
                                   "preset",  "recipe",       "target",      "preprocess", "labels", "inputs",
                                   "outputs", "calibration",  "cost",        "search",     "golden", "verification",
                                   "command", "measurement",  "checkpoint",  "versions"};
constexpr const char* kOptionalFields[] = {"stream", "backbones", "npu"};

const Json& need(const Json& object, const char* name, Json::Kind kind) {
  const Json* value = object.find(name);
  if (!value || value->kind != kind) {
    bad_data("manifest field '" + std::string(name) + "' is missing or not " + kind_name(kind) +
             "; export the artifact again");
  }
  return *value;
}

bool known(const std::string& name) {
  for (const char* field : kFields) {
    if (name == field) return true;
  }
  for (const char* field : kOptionalFields) {
    if (name == field) return true;
  }
  return false;
}

std::vector<TensorInfo> read_tensors(const Json& items, const char* field) {
  std::vector<TensorInfo> tensors;
  if (items.items.size() > 8) bad_data("manifest field '" + std::string(field) + "' has more than 8 tensors");
  for (const Json& item : items.items) {
    if (item.kind != Json::Kind::object || item.items.size() != 5) {
      bad_data("manifest: a tensor of '" + std::string(field) + "' needs name, shape, dtype, scale and zero_point");
    }
    TensorInfo info;
    info.name = need(item, "name", Json::Kind::string).string;
    info.dtype = need(item, "dtype", Json::Kind::string).string;
    for (const Json& size : need(item, "shape", Json::Kind::array).items) {
      if (size.kind != Json::Kind::integer || size.integer < 1) bad_data("manifest: a shape is not positive");
      info.shape.push_back(size.integer);
    }
    const Json* scale = item.find("scale");
    if (!scale || (scale->kind != Json::Kind::real && scale->kind != Json::Kind::integer)) {
      bad_data("manifest: tensor '" + info.name.substr(0, 40) + "' has no scale");
    }
    const int64_t zero_point = need(item, "zero_point", Json::Kind::integer).integer;
    if (info.is_int8() && !(scale->real >= FLT_MIN && scale->real <= FLT_MAX && zero_point >= -128 &&
                            zero_point <= 127)) {
      bad_data("manifest: tensor '" + info.name.substr(0, 40) + "' has scale " + text(scale->real) +
               " and zero point " + std::to_string(zero_point) + ", which int8 cannot have");
    }
    info.scale = info.is_int8() ? static_cast<float>(scale->real) : 0.0f;
    info.zero_point = info.is_int8() ? static_cast<int>(zero_point) : 0;
    tensors.push_back(std::move(info));
  }
  return tensors;
}

void check_input(const TensorInfo* info, const std::vector<int64_t>& shape) {
  if (!info) return;
  if (info->shape != shape) bad_data("manifest: input '" + info->name + "' differs from the specification in shape");
  if (info->dtype != "float32" && info->dtype != "int8") {
    bad_data("manifest: input '" + info->name + "' has dtype '" + info->dtype.substr(0, 40) +
             "'; use float32 or int8");
  }
}

}  // namespace

Manifest Manifest::parse(std::string_view text) {
  const Json data = Json::parse(text);
  if (data.kind != Json::Kind::object) bad_data("manifest is not a JSON object; name an artifact's manifest.json");
  const Json* version = data.find("version");
  if (!version || version->kind != Json::Kind::integer || version->integer != kManifestVersion) {
    bad_data("manifest version is missing or unknown; this release reads " + std::to_string(kManifestVersion));
  }
  for (const std::string& name : data.names) {
    if (!known(name)) bad_data("manifest has the unknown field '" + name.substr(0, 40) + "'");
  }
  for (const char* field : kFields) {
    if (!data.find(field)) bad_data("manifest field '" + std::string(field) + "' is missing");
  }

  Manifest manifest;
  manifest.name = need(data, "name", Json::Kind::string).string;
  manifest.format = need(data, "format", Json::Kind::string).string;
  manifest.model_file = need(data, "model_file", Json::Kind::string).string;
  manifest.sha256 = need(data, "sha256", Json::Kind::string).string;
  manifest.stream = data.find("stream") ? need(data, "stream", Json::Kind::string).string : "fused";
  manifest.preprocess = PreprocessSpec::from_json(need(data, "preprocess", Json::Kind::object));
  for (const Json& item : need(data, "labels", Json::Kind::array).items) {
    manifest.labels.push_back({need(item, "code", Json::Kind::string).string,
                               need(item, "name", Json::Kind::string).string});
  }
  manifest.inputs = read_tensors(need(data, "inputs", Json::Kind::array), "inputs");
  manifest.outputs = read_tensors(need(data, "outputs", Json::Kind::array), "outputs");
  const HeatmapSpec& skeleton = manifest.preprocess.skeleton;
  const LogMelSpec& audio = manifest.preprocess.audio;
  check_input(manifest.input("skeleton"), {1, skeleton.size, skeleton.size, skeleton.channels()});
  check_input(manifest.input("audio"), {1, audio.n_mels, audio.frames, 3});
  return manifest;
}

const TensorInfo* Manifest::input(std::string_view tensor) const {
  for (const TensorInfo& info : inputs) {
    if (info.name == tensor) return &info;
  }
  return nullptr;
}

}  // namespace har_native
