// Files, the clock, memory, and the error that ends the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace har_native {

// Ends the program with one `error` line. Codes are those of the Python programs.
struct Exit {
  int code;
  std::string message;  // one line: what was wrong, the value, the remedy
};

constexpr int kUsage = 2, kMissing = 3, kBadData = 4, kDefect = 70;

// A file as memory, of which only the parts that are read count towards peak_bytes().
class MappedFile {
 public:
  // Throws Exit (kMissing; kBadData where reading fails).
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// SHA-256 of a file, read piece by piece. Throws as MappedFile.
std::string file_sha256(const std::string& path);

// Paths of the files *.npz of a folder, sorted; empty where it does not exist.
std::vector<std::string> recordings_of(const std::string& folder);

// The folder of this program; empty where the system does not report it.
std::string program_folder();

double now_ms();  // monotonic

// VmHWM of /proc/self/status, in bytes. Throws Exit (kMissing).
int64_t peak_bytes();

}  // namespace har_native
