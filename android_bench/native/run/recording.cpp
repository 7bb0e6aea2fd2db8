#include "recording.hpp"

#include <climits>
#include <filesystem>

#include "errors.hpp"
#include "npz.hpp"
#include "system.hpp"

namespace har_native {
namespace {

std::string shape_text(const FloatArray& array) {
  std::string text = "(";
  for (const int64_t length : array.shape) text += (text.size() > 1 ? ", " : "") + std::to_string(length);
  return text + ")";
}

// The layout with this number of joints: the specification's, or another.
const char* layout_of(const har* handle, int64_t joints) {
  for (const char* layout : {static_cast<const char*>(nullptr), "ntu25", "msr20"}) {
    if (har_layout_joints(handle, layout) == joints) return layout;
  }
  bad_data("a body has " + std::to_string(joints) + " joints; the layouts have 25 and 20");
}

void read_skeleton(const Npz& archive, const har* handle, Recording& recording) {
  FloatArray joints = archive.read("joints"), confidence = archive.read("confidence");
  std::vector<int64_t> expected = confidence.shape;
  expected.push_back(3);
  if (confidence.shape.size() != 3 || joints.shape != expected || confidence.shape[1] > INT32_MAX) {
    bad_data("joints are " + shape_text(joints) + " and confidence is " + shape_text(confidence) +
             "; use (frames, bodies, joints, 3) and (frames, bodies, joints)");
  }
  recording.frames = confidence.shape[0];
  recording.bodies = static_cast<int32_t>(confidence.shape[1]);
  recording.layout = layout_of(handle, confidence.shape[2]);
  recording.joints = std::move(joints.values);
  recording.confidence = std::move(confidence.values);
}

}  // namespace

Recording read_recording(const std::string& path, const har* handle, bool skeleton, bool audio) {
  Recording recording;
  recording.name = std::filesystem::path(path).stem().string();
  const MappedFile file(path);
  try {
    const Npz archive(file.data(), file.size());
    if (skeleton) read_skeleton(archive, handle, recording);
    if (audio) {
      FloatArray waveform = archive.read("waveform");
      if (waveform.shape.size() != 1) bad_data("waveform is " + shape_text(waveform) + "; use (samples,)");
      recording.waveform = std::move(waveform.values);
    }
  } catch (const Error& error) {
    throw Exit{kBadData, path + ": " + error.message + "; export the artifact again"};
  }
  return recording;
}

}  // namespace har_native
