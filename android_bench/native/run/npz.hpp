// Reading .npz files, which are ZIP archives of .npy files (numpy/lib/format.py). Strict: what NumPy does not write is
// refused. No archive is believed: every offset and length is checked against the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace har_native {

constexpr size_t kMaxMemberBytes = size_t{256} << 20;

struct FloatArray {
  std::vector<int64_t> shape;
  std::vector<float> values;  // row-major
};

class Npz {
 public:
  // data: the whole file; it must stay. Throws Error (HAR_BAD_DATA): not such an archive.
  Npz(const uint8_t* data, size_t bytes);

  // Names of the arrays, in the order of the archive.
  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return find(name) != nullptr; }

  // An array of float32 or float64, as float32. Throws Error (HAR_BAD_DATA): it is not there, damaged, or of another
  // type.
  FloatArray read(const std::string& name) const;

 private:
  struct Member {
    std::string name;  // without .npy
    uint32_t method, crc, packed_bytes, bytes, offset;
  };

  const Member* find(const std::string& name) const;
  const uint8_t* content(const Member& member) const;

  const uint8_t* data_;
  size_t directory_ = 0;  // where it begins
  std::vector<Member> members_;
};

// The array of a whole .npy file. Throws as Npz::read; `name` is for the message.
FloatArray parse_npy(const uint8_t* data, size_t bytes, const std::string& name);

}  // namespace har_native
