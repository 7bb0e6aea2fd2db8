// A recording of an artifact's golden/ folder.
#pragma once

#include <string>
#include <vector>

#include "har.h"

namespace har_native {

struct Recording {
  std::string name;  // of the file, without .npz
  int64_t frames = 0;
  int32_t bodies = 0;
  const char* layout = nullptr;     // argument of har_heatmaps
  std::vector<float> joints, confidence;  // empty where the model has no skeleton
  std::vector<float> waveform;      // empty where the model has no sound
};

// handle: the artifact's; skeleton, audio: inputs of its model. Throws Exit (kMissing, kBadData) with the file's path.
Recording read_recording(const std::string& path, const har* handle, bool skeleton, bool audio);

}  // namespace har_native
