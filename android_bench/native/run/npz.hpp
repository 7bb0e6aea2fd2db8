// Reading .npz files, which are ZIP archives of .npy files (numpy/lib/format.py), as numpy.savez writes them: stored,
// not compressed. Every offset and length is checked against the file before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace har_native {

struct FloatArray {
  std::vector<int64_t> shape;
  std::vector<float> values;  // row-major
};

class Npz {
 public:
  // data: the complete file; it must outlive this object. Throws Error (HAR_BAD_DATA): not such an archive.
  Npz(const uint8_t* data, size_t bytes);

  // Names of the arrays, in the order of the archive.
  std::vector<std::string> names() const;

  // A float32 array. Throws Error (HAR_BAD_DATA): missing, damaged, or of another type.
  FloatArray read(const std::string& name) const;

 private:
  struct Member {
    std::string name;  // without .npy
    uint32_t crc, bytes, offset;
  };

  const Member* find(const std::string& name) const;
  const uint8_t* content(const Member& member) const;

  const uint8_t* data_;
  size_t directory_ = 0;  // offset of the archive's directory
  std::vector<Member> members_;
};

// The array of a complete .npy file. Throws as Npz::read; `name` is for the message.
FloatArray parse_npy(const uint8_t* data, size_t bytes, const std::string& name);

}  // namespace har_native
