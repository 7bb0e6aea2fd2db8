// The command line.
#pragma once

#include <string>

namespace har_native {

struct Options {
  std::string artifact = "artifact";
  std::string accelerator = "cpu";
  std::string library;  // empty: look for it
  int threads = 1;
  int warmup_runs = 5;
  int min_runs = 20;
  double min_seconds = 1;
  double max_seconds = 30;
  double stream_seconds = 0;  // 0: recordings of the artefact
  bool help = false;
};

extern const char* const kUsageText;

// Throws Exit (kUsage).
Options parse_options(int count, char** words);

}  // namespace har_native
