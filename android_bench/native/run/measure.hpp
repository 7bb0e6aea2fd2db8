// The runs that count.
#pragma once

#include <vector>

#include "options.hpp"
#include "pipeline.hpp"

namespace har_native {

struct Times {
  std::vector<double> preprocessing_ms, inference_ms;
};

// A prediction of every recording, then the runs, which take them in turn; random inputs where there are none.
Times run_recordings(Pipeline& pipeline, const std::vector<Recording>& recordings, const Options& options);

// A person and a sound, made up, that arrive frame by frame, and a prediction every half second. A time of
// preprocessing is that of all that arrived since the last prediction and of the window's tensors.
Times run_stream(Pipeline& pipeline, const Artifact& artifact, const Options& options);

}  // namespace har_native
