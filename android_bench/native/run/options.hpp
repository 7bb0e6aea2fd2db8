// The command line.
#pragma once

#include <string>

namespace har_native {

// Every field is the option of the same name; `--stream` is stream_seconds.
struct Options {
  // Folder with manifest.json, the model file and golden/.
  std::string artifact = "artifact";
  // "cpu", "gpu" or "npu".
  std::string accelerator = "cpu";
  // Path of libLiteRt.so; empty: see Litert.
  std::string library;
  // CPU threads of LiteRT.
  int threads = 1;
  // Inferences before the measured runs.
  int warmup_runs = 5;
  // Measured runs: at least min_runs and min_seconds, at most max_seconds, in seconds of wall clock.
  int min_runs = 20;
  double min_seconds = 1;
  double max_seconds = 30;
  // Length of a synthetic stream in seconds; 0 runs the recordings of the artifact.
  double stream_seconds = 0;
  // Print the usage and stop.
  bool help = false;
};

extern const char* const kUsageText;

// Throws Exit (kUsage).
Options parse_options(int count, char** words);

}  // namespace har_native
