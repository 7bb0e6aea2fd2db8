#include <cstring>
#include <memory>
#include <new>

#include "errors.hpp"
#include "har.h"
#include "heatmaps.hpp"
#include "logmel.hpp"
#include "manifest.hpp"
#include "stream.hpp"

using namespace har_native;

namespace {

constexpr size_t kErrorBytes = 512;

struct ErrorText {
  char text[kErrorBytes] = "";

  void set(const char* message) {
    std::strncpy(text, message, kErrorBytes - 1);
    text[kErrorBytes - 1] = '\0';
  }
};

struct SkeletonStages {
  const SkeletonLayout* layout;
  SceneMaker maker;
  HeatmapDrawing drawing;

  SkeletonStages(const HeatmapSpec& spec, const SkeletonLayout& joints)
      : layout(&joints), maker(spec, joints), drawing(spec, joints) {}
};

// Calls `work`; turns every exception into a status and a message.
template <typename Work>
har_status guarded(ErrorText& error, Work work) {
  try {
    work();
    return HAR_OK;
  } catch (const Error& thrown) {
    error.set(thrown.message.c_str());
    return thrown.status;
  } catch (const std::bad_alloc&) {
    error.set("there is not enough memory");
    return HAR_NO_MEMORY;
  } catch (...) {
    error.set("a defect of pocket-har: an unexpected exception");
    return HAR_DEFECT;
  }
}

void need(const void* pointer, const char* name) {
  if (!pointer) wrong_use(std::string(name) + " is NULL");
}

Quantizer quantizer_for(const TensorInfo* info, har_type type, int64_t elements, size_t out_bytes) {
  if (type != HAR_FLOAT32 && type != HAR_INT8) {
    wrong_use("type is " + std::to_string(type) + "; use HAR_FLOAT32 or HAR_INT8");
  }
  if (type == HAR_INT8 && !(info && info->is_int8())) {
    wrong_use("the model's input is not int8, so it has no scale; ask for HAR_FLOAT32");
  }
  const size_t needed = static_cast<size_t>(elements) * (type == HAR_INT8 ? 1 : sizeof(float));
  if (out_bytes != needed) {
    wrong_use("out has " + std::to_string(out_bytes) + " bytes; the tensor has " + std::to_string(needed));
  }
  if (type == HAR_FLOAT32) return {false, 1.0f, 0.0f};
  return {true, info->scale, static_cast<float>(info->zero_point)};
}

}  // namespace

struct har {
  Manifest manifest;
  std::unique_ptr<SkeletonStages> skeleton;  // for the layout of the last call
  std::unique_ptr<LogMel> audio;
  std::vector<float> joints, confidence;
  ErrorText error;

  const SkeletonLayout& layout(const char* name) const {
    return name ? find_layout(std::string(name, strnlen(name, 64))) : *manifest.preprocess.skeleton.layout;
  }

  Quantizer skeleton_quantizer(har_type type, size_t out_bytes) const {
    return quantizer_for(manifest.input("skeleton"), type, manifest.preprocess.skeleton.elements(), out_bytes);
  }

  Quantizer audio_quantizer(har_type type, size_t out_bytes) const {
    return quantizer_for(manifest.input("audio"), type, manifest.preprocess.audio.elements(), out_bytes);
  }
};

struct har_stream {
  har settings;
  SkeletonStream skeleton;
  AudioStream audio;
  ErrorText error;

  har_stream(const har& handle, const SkeletonLayout& layout, int window_frames, int bodies)
      : skeleton(handle.manifest.preprocess.skeleton, layout, window_frames, bodies),
        audio(handle.manifest.preprocess.audio) {
    settings.manifest = handle.manifest;
  }
};

namespace {

template <typename Work>
har_status create(char* error, size_t error_bytes, Work work) {
  ErrorText text;
  const har_status status = guarded(text, work);
  if (status != HAR_OK && error && error_bytes) {
    std::strncpy(error, text.text, error_bytes - 1);
    error[error_bytes - 1] = '\0';
  }
  return status;
}

}  // namespace

extern "C" {

har_status har_create(const char* manifest, size_t length, har** handle, char* error, size_t error_bytes) {
  if (handle) *handle = nullptr;
  return create(error, error_bytes, [&] {
    need(manifest, "manifest");
    need(handle, "handle");
    auto result = std::make_unique<har>();
    result->manifest = Manifest::parse({manifest, length});
    *handle = result.release();
  });
}

void har_destroy(har* handle) { delete handle; }

const char* har_error(const har* handle) { return handle ? handle->error.text : "handle is NULL"; }

har_status har_get_sizes(const har* handle, har_sizes* sizes) {
  if (!handle || !sizes) return HAR_WRONG_USE;
  const HeatmapSpec& skeleton = handle->manifest.preprocess.skeleton;
  const LogMelSpec& audio = handle->manifest.preprocess.audio;
  const TensorInfo* skeleton_info = handle->manifest.input("skeleton");
  const TensorInfo* audio_info = handle->manifest.input("audio");
  *sizes = {{skeleton.size, skeleton.size, skeleton.channels()},
            {audio.n_mels, audio.frames, 3},
            skeleton_info && skeleton_info->is_int8(),
            audio_info && audio_info->is_int8(),
            skeleton.layout->joint_count,
            audio.sample_rate_hz,
            audio.samples()};
  return HAR_OK;
}

int32_t har_label_count(const har* handle) {
  return handle ? static_cast<int32_t>(handle->manifest.labels.size()) : 0;
}

const char* har_label_name(const har* handle, int32_t index) {
  if (index < 0 || index >= har_label_count(handle)) return nullptr;
  return handle->manifest.labels[static_cast<size_t>(index)].name.c_str();
}

int32_t har_layout_joints(const har* handle, const char* layout) {
  int32_t joints = 0;
  ErrorText ignored;
  if (handle) guarded(ignored, [&] { joints = handle->layout(layout).joint_count; });
  return joints;
}

const char* har_kernels(void) { return kernels().name; }

har_status har_heatmaps(har* handle, const float* joints, const float* confidence, int64_t frames, int32_t bodies,
                        const char* layout, har_type type, void* out, size_t out_bytes, uint32_t* notes) {
  if (!handle) return HAR_WRONG_USE;
  return guarded(handle->error, [&] {
    need(out, "out");
    const Quantizer quantizer = handle->skeleton_quantizer(type, out_bytes);
    const SkeletonLayout& skeleton = handle->layout(layout);
    if (frames < 1) bad_data("the recording has no frame; leave it out");
    if (bodies < 0 || bodies > 1024) wrong_use("bodies is " + std::to_string(bodies) + "; use 0 to 1024");
    if (frames > (int64_t{1} << 40) / (3 * skeleton.joint_count * (bodies + 1))) wrong_use("the recording is too long");
    const int64_t count = frames * bodies * skeleton.joint_count;
    if (count) {
      need(joints, "joints");
      need(confidence, "confidence");
    }
    const auto floats = static_cast<size_t>(count);
    if (handle->confidence.size() < floats) {
      handle->joints.resize(3 * floats);
      handle->confidence.resize(floats);
    }
    if (!handle->skeleton || handle->skeleton->layout != &skeleton) {
      handle->skeleton = std::make_unique<SkeletonStages>(handle->manifest.preprocess.skeleton, skeleton);
    }
    const int64_t invalid =
        copy_valid_joints(joints, confidence, count, handle->joints.data(), handle->confidence.data());
    const Frames all{handle->joints.data(), handle->confidence.data(), frames, frames, 0, bodies, skeleton.joint_count};
    const uint32_t bits = handle->skeleton->maker.make(all) | (invalid ? uint32_t{HAR_NOTE_INVALID_JOINTS} : 0);
    handle->skeleton->drawing.draw(handle->skeleton->maker.scene(), quantizer, out);
    if (notes) *notes = bits;
  });
}

har_status har_logmel(har* handle, const float* waveform, int64_t samples, int32_t sample_rate_hz, har_type type,
                      void* out, size_t out_bytes) {
  if (!handle) return HAR_WRONG_USE;
  return guarded(handle->error, [&] {
    need(out, "out");
    if (samples > 0) need(waveform, "waveform");
    const Quantizer quantizer = handle->audio_quantizer(type, out_bytes);
    if (!handle->audio) handle->audio = std::make_unique<LogMel>(handle->manifest.preprocess.audio);
    handle->audio->run(waveform, samples, sample_rate_hz, quantizer, out);
  });
}

har_status har_stream_create(const har* handle, int32_t window_frames, int32_t bodies, const char* layout,
                             har_stream** stream, char* error, size_t error_bytes) {
  if (stream) *stream = nullptr;
  return create(error, error_bytes, [&] {
    need(handle, "handle");
    need(stream, "stream");
    *stream = new har_stream(*handle, handle->layout(layout), window_frames, bodies);
  });
}

void har_stream_destroy(har_stream* stream) { delete stream; }

const char* har_stream_error(const har_stream* stream) { return stream ? stream->error.text : "stream is NULL"; }

int32_t har_stream_joints(const har_stream* stream) { return stream ? stream->skeleton.joints() : 0; }

har_status har_stream_reset(har_stream* stream) {
  if (!stream) return HAR_WRONG_USE;
  stream->skeleton.reset();
  stream->audio.reset();
  return HAR_OK;
}

har_status har_stream_push_frame(har_stream* stream, int64_t index, const float* joints, const float* confidence,
                                 int32_t bodies) {
  if (!stream) return HAR_WRONG_USE;
  return guarded(stream->error, [&] {
    if (bodies > 0) {
      need(joints, "joints");
      need(confidence, "confidence");
    }
    stream->skeleton.push(index, joints, confidence, bodies);
  });
}

har_status har_stream_push_audio(har_stream* stream, const float* samples, int64_t count, int32_t sample_rate_hz) {
  if (!stream) return HAR_WRONG_USE;
  return guarded(stream->error, [&] {
    if (count > 0) need(samples, "samples");
    stream->audio.push(samples, count, sample_rate_hz);
  });
}

har_status har_stream_get_window(const har_stream* stream, har_stream_window* window) {
  if (!stream || !window) return HAR_WRONG_USE;
  const SkeletonStream& skeleton = stream->skeleton;
  *window = {skeleton.frames(), skeleton.first_index(), skeleton.last_index(), stream->audio.first_sample(),
             stream->audio.end_sample()};
  return HAR_OK;
}

har_status har_stream_heatmaps(har_stream* stream, har_type type, void* out, size_t out_bytes, uint32_t* notes) {
  if (!stream) return HAR_WRONG_USE;
  return guarded(stream->error, [&] {
    need(out, "out");
    const uint32_t bits = stream->skeleton.draw(stream->settings.skeleton_quantizer(type, out_bytes), out);
    if (notes) *notes = bits;
  });
}

har_status har_stream_logmel(har_stream* stream, har_type type, void* out, size_t out_bytes) {
  if (!stream) return HAR_WRONG_USE;
  return guarded(stream->error, [&] {
    need(out, "out");
    stream->audio.stack(stream->settings.audio_quantizer(type, out_bytes), out);
  });
}

}  // extern "C"
