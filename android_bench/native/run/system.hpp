// What the runner asks the system: files, the clock, memory; and how the program ends with an error.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace har_native {

// Ends the program with its one `error` line. Codes are those of the Python programs.
struct Exit {
  int code;
  std::string message;  // one line: what was wrong, the value, the remedy
};

constexpr int kUsage = 2, kMissing = 3, kBadData = 4, kDefect = 70;

// Throws Exit (kMissing, or kBadData for what cannot be read).
std::vector<uint8_t> read_file(const std::string& path);

// SHA-256 of a file, read piece by piece. Throws as read_file.
std::string file_sha256(const std::string& path);

// Paths of the files *.npz of a folder, sorted; none where it does not exist.
std::vector<std::string> recordings_of(const std::string& folder);

// The folder that this program is in; empty where the system does not say.
std::string own_folder();

double now_ms();  // monotonic

// VmHWM of /proc/self/status, in bytes. Throws Exit (kMissing).
int64_t peak_bytes();

}  // namespace har_native
