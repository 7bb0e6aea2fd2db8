#include "system.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
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

[[noreturn]] void fail_to_read(const std::string& path) {
  throw Exit{kBadData, path + " cannot be read; copy it again"};
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const File file = open(path);
  struct stat status;
  if (fstat(fileno(file.get()), &status) != 0) fail_to_read(path);
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* memory = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fileno(file.get()), 0);
  if (memory == MAP_FAILED) fail_to_read(path);
  data_ = static_cast<const uint8_t*>(memory);
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<uint8_t*>(data_), size_);
}

std::string file_sha256(const std::string& path) {
  const File file = open(path);
  Sha256 sum;
  std::vector<uint8_t> piece(size_t{64} << 10);
  while (const size_t count = std::fread(piece.data(), 1, piece.size(), file.get())) sum.add(piece.data(), count);
  if (std::ferror(file.get())) fail_to_read(path);
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
