// The measured runs.
#pragma once

#include <vector>

#include "options.hpp"
#include "pipeline.hpp"

namespace har_native {

struct Times {
  std::vector<double> preprocessing_ms, inference_ms;
};

// Predicts every recording, then measures runs over them in turn; uses random inputs where there are none.
Times run_recordings(Pipeline& pipeline, const std::vector<Recording>& recordings, const Options& options);

// Pushes a synthetic person and sound frame by frame and predicts every half second. A time of preprocessing covers all
// pushes since the last prediction and both tensors of the window.
Times run_stream(Pipeline& pipeline, const Artifact& artifact, const Options& options);

}  // namespace har_native
