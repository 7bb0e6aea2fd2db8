#include "spec.hpp"

#include <cfloat>
#include <cstdio>

#include "errors.hpp"

namespace har_native {

std::string text(double value) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%g", value);
  return buffer;
}

namespace {

constexpr int64_t kMaxElements = int64_t{1} << 26;  // of a tensor, and of the buffers behind it

// Reads the fields of one part; finish() refuses a part with further fields.
class Part {
 public:
  Part(const Json* data, const char* name) : data_(data), name_(name) {
    if (!data || data->kind != Json::Kind::object) {
      bad_data("specification part '" + std::string(name) + "' is missing or not a JSON object");
    }
  }

  int integer(const char* field, int64_t limit) {
    const Json& value = get(field, Json::Kind::integer);
    if (value.integer > limit || value.integer < -limit) {
      bad_data(full(field) + " is " + std::to_string(value.integer) + "; use at most " + std::to_string(limit));
    }
    return static_cast<int>(value.integer);
  }

  double real(const char* field) { return number(get(field, Json::Kind::real), field); }

  std::string string(const char* field) { return get(field, Json::Kind::string).string; }

  void triple(const char* field, double (&result)[3]) {
    const Json& value = get(field, Json::Kind::array);
    if (value.items.size() != 3) bad_data(full(field) + " must have one number for each of log-Mel, Δ and Δ²");
    for (int i = 0; i < 3; ++i) result[i] = number(value.items[static_cast<size_t>(i)], field);
  }

  void finish() const {
    if (data_->items.size() != asked_) {
      bad_data("specification part '" + std::string(name_) + "' has " + std::to_string(data_->items.size()) +
               " fields, " + std::to_string(asked_) + " of which are known");
    }
  }

 private:
  std::string full(const char* field) const { return std::string(name_) + "." + field; }

  const Json& get(const char* field, Json::Kind kind) {
    const Json* value = data_->find(field);
    if (!value) bad_data(full(field) + " is missing from the specification");
    ++asked_;
    const bool fits = value->kind == kind || (kind == Json::Kind::real && value->kind == Json::Kind::integer);
    if (!fits) bad_data(full(field) + " is " + kind_name(value->kind) + "; " + kind_name(kind) + " belongs there");
    return *value;
  }

  double number(const Json& value, const char* field) const {
    if (value.kind != Json::Kind::real && value.kind != Json::Kind::integer) {
      bad_data(full(field) + " holds " + kind_name(value.kind) + "; numbers belong there");
    }
    return value.real;
  }

  const Json* data_;
  const char* name_;
  size_t asked_ = 0;
};

void require(bool condition, const char* name, double value, const char* remedy) {
  if (!condition) bad_data(std::string(name) + " is " + text(value) + "; " + remedy);
}

HeatmapSpec read_skeleton(const Json* data) {
  Part part(data, "skeleton");
  HeatmapSpec s;
  s.size = part.integer("size", 4096);
  s.sampled_frames = part.integer("sampled_frames", 1024);
  s.sigma_px = part.real("sigma_px");
  s.field_of_view_torso = part.real("field_of_view_torso");
  s.min_confidence = part.real("min_confidence");
  s.max_bodies = part.integer("max_bodies", 16);
  s.default_torso_m = part.real("default_torso_m");
  s.min_torso_m = part.real("min_torso_m");
  s.layout = &find_layout(part.string("layout"));
  part.finish();
  require(s.size >= 8, "size", s.size, "use at least 8 pixels");
  require(s.sampled_frames >= 2, "sampled_frames", s.sampled_frames, "the motion map needs at least 2");
  // the limits are tighter than Python's, so that float32 neither overflows nor vanishes
  require(s.sigma_px >= 1e-3 && s.sigma_px <= 1e4, "sigma_px", s.sigma_px, "use a number of pixels in [0.001, 10000]");
  require(s.field_of_view_torso >= 1e-3 && s.field_of_view_torso <= 1e6, "field_of_view_torso", s.field_of_view_torso,
          "use a length in [0.001, 1e6]");
  require(s.min_confidence >= 1e-30 && s.min_confidence <= 1, "min_confidence", s.min_confidence,
          "use a number in (0, 1]");
  require(s.max_bodies >= 1, "max_bodies", s.max_bodies, "keep at least one body");
  require(s.default_torso_m >= 1e-3 && s.default_torso_m <= 1e6, "default_torso_m", s.default_torso_m,
          "use a length in [0.001, 1e6] metres");
  require(s.min_torso_m >= 1e-9 && s.min_torso_m <= 1e6, "min_torso_m", s.min_torso_m,
          "use a length in [1e-9, 1e6] metres");
  require(s.elements() <= kMaxElements, "size", s.size, "the heatmaps would have more than 2^26 numbers");
  return s;
}

LogMelSpec read_audio(const Json* data) {
  Part part(data, "audio");
  LogMelSpec s;
  s.sample_rate_hz = part.integer("sample_rate_hz", 1 << 24);
  s.window_samples = part.integer("window_samples", 1 << 16);
  s.n_fft = part.integer("n_fft", 1 << 16);
  s.hop_samples = part.integer("hop_samples", 1 << 20);
  s.n_mels = part.integer("n_mels", 4096);
  s.fmin_hz = part.real("fmin_hz");
  s.fmax_hz = part.real("fmax_hz");
  s.frames = part.integer("frames", 1 << 20);
  s.amin = part.real("amin");
  s.top_db = part.real("top_db");
  part.triple("mean", s.mean);
  part.triple("std", s.std);
  part.finish();
  require(s.sample_rate_hz > 0, "sample_rate_hz", s.sample_rate_hz, "use a positive rate");
  require(s.window_samples > 0 && s.window_samples <= s.n_fft, "window_samples", s.window_samples,
          "use 1 to n_fft samples");
  require(s.n_fft >= 8 && (s.n_fft & (s.n_fft - 1)) == 0, "n_fft", s.n_fft, "use a power of two, at least 8");
  require(s.hop_samples > 0, "hop_samples", s.hop_samples, "use a positive number of samples");
  require(s.n_mels > 0, "n_mels", s.n_mels, "use at least one band");
  require(0 <= s.fmin_hz && s.fmin_hz < s.fmax_hz && s.fmax_hz <= s.sample_rate_hz / 2.0, "fmax_hz", s.fmax_hz,
          "use 0 <= fmin_hz < fmax_hz <= half the sample rate");
  require(s.frames >= kDeltaWidth, "frames", s.frames, "Δ needs at least 9 frames");
  require(s.amin >= FLT_MIN && s.amin <= 1, "amin", s.amin, "use a power in [1.2e-38, 1]");
  require(s.top_db > 0 && s.top_db <= 1e6, "top_db", s.top_db, "use a positive range of at most 1e6 dB");
  for (int i = 0; i < 3; ++i) {
    require(s.mean[i] >= -1e30 && s.mean[i] <= 1e30, "mean", s.mean[i], "use a number in [-1e30, 1e30]");
    require(s.std[i] >= 1e-30 && s.std[i] <= 1e30, "std", s.std[i], "use a number in [1e-30, 1e30]");
  }
  require(s.elements() <= kMaxElements, "frames", s.frames, "the log-Mel tensor would have more than 2^26 numbers");
  require(s.samples() <= kMaxElements, "frames", s.frames, "the waveform would have more than 2^26 samples");
  return s;
}

}  // namespace

PreprocessSpec PreprocessSpec::from_json(const Json& data) {
  if (data.kind != Json::Kind::object) bad_data("a specification must be a JSON object");
  const Json* version = data.find("version");
  if (!version || version->kind != Json::Kind::integer || version->integer != kSpecVersion) {
    bad_data("specification version is missing or unknown; this release reads " + std::to_string(kSpecVersion));
  }
  for (const std::string& name : data.names) {
    if (name != "version" && name != "skeleton" && name != "audio") {
      bad_data("specification has the unknown part '" + name.substr(0, 40) + "'; it holds skeleton and audio");
    }
  }
  PreprocessSpec spec;
  spec.skeleton = read_skeleton(data.find("skeleton"));
  spec.audio = read_audio(data.find("audio"));
  return spec;
}

}  // namespace har_native
