#include "system.hpp"

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include "sha256.hpp"

namespace har_native {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File open(const std::string& path) {
  std::error_code ignored;
  File file(std::filesystem::is_directory(path, ignored) ? nullptr : std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) {
    throw Exit{kMissing, path + " cannot be opened; copy the complete artifact and name its folder with --artifact"};
  }
  return file;
}

template <typename Take>
void read_pieces(const std::string& path, Take take) {
  const File file = open(path);
  std::vector<uint8_t> piece(size_t{64} << 10);
  while (const size_t count = std::fread(piece.data(), 1, piece.size(), file.get())) take(piece.data(), count);
  if (std::ferror(file.get())) throw Exit{kBadData, path + " cannot be read; copy it again"};
}

}  // namespace

std::vector<uint8_t> read_file(const std::string& path) {
  std::vector<uint8_t> content;
  read_pieces(path, [&](const uint8_t* data, size_t count) { content.insert(content.end(), data, data + count); });
  return content;
}

std::string file_sha256(const std::string& path) {
  Sha256 sum;
  read_pieces(path, [&](const uint8_t* data, size_t count) { sum.add(data, count); });
  return sum.hex();
}

std::vector<std::string> recordings_of(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".npz") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string program_folder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

double now_ms() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) * 1e3 + double(time.tv_nsec) * 1e-6;
}

int64_t peak_bytes() {
  const File file(std::fopen("/proc/self/status", "r"), std::fclose);
  char line[256];
  while (file && std::fgets(line, sizeof line, file.get())) {
    if (std::strncmp(line, "VmHWM:", 6) == 0) return std::atoll(line + 6) * 1024;
  }
  throw Exit{kMissing, "/proc/self/status has no VmHWM; use a Linux or Android kernel that reports it"};
}

}  // namespace har_native
