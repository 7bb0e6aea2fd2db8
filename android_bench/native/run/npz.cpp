#include "npz.hpp"

#include <cstring>
#include <string_view>

#include "errors.hpp"
#include "inflate.hpp"

namespace har_native {
namespace {

constexpr size_t kEndBytes = 22, kEntryBytes = 46, kLocalBytes = 30;
constexpr uint32_t kEnd = 0x06054b50, kEntry = 0x02014b50, kLocal = 0x04034b50;
constexpr uint32_t kStored = 0, kDeflated = 8;
constexpr uint32_t kEncrypted = 1;
constexpr size_t kMostRatio = 1032;  // deflate cannot pack more tightly

uint32_t read16(const uint8_t* at) { return uint32_t{at[0]} | uint32_t{at[1]} << 8; }
uint32_t read32(const uint8_t* at) { return read16(at) | read16(at + 2) << 16; }

std::string shown(const std::string& name) {
  std::string text;
  for (const char letter : name.substr(0, 40)) text += letter >= ' ' && letter <= '~' ? letter : '?';
  return "'" + text + "'";
}

// The dictionary in front of an array, of the words that NumPy writes.
class NpyHeader {
 public:
  NpyHeader(std::string_view text, const std::string& name) : text_(text), name_(name) {
    need('{');
    bool found[3] = {};
    while (!take('}')) {
      const std::string key = quoted();
      need(':');
      const int which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : -1;
      if (which < 0 || found[which]) fail();
      found[which] = true;
      if (which == 0) descr = quoted();
      if (which == 1) fortran = boolean();
      if (which == 2) tuple();
      if (!take(',')) {
        need('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size() || !(found[0] && found[1] && found[2])) fail();
  }

  std::string descr;
  bool fortran = false;
  std::vector<int64_t> shape;

 private:
  [[noreturn]] void fail() const { bad_data("array " + shown(name_) + " has a header that NumPy does not write"); }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  bool take(char wanted) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void need(char wanted) {
    if (!take(wanted)) fail();
  }

  std::string quoted() {
    need('\'');
    const size_t end = text_.find('\'', at_);
    if (end == std::string_view::npos || end - at_ > 40) fail();
    const std::string found(text_.substr(at_, end - at_));
    at_ = end + 1;
    return found;
  }

  bool boolean() {
    skip_space();
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return word == "True";
      }
    }
    fail();
  }

  void tuple() {
    need('(');
    while (!take(')')) {
      skip_space();
      const size_t start = at_;
      int64_t value = 0;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
        value = 10 * value + (text_[at_] - '0');
        if (value > int64_t{1} << 32) fail();
      }
      if (at_ == start || shape.size() == 8) fail();
      shape.push_back(value);
      if (!take(',')) {
        need(')');
        break;
      }
    }
  }

  const std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
};

}  // namespace

Npz::Npz(const uint8_t* data, size_t bytes) : data_(data) {
  size_t end = bytes < kEndBytes ? 0 : bytes - kEndBytes + 1;
  const size_t first = end > 0xFFFF ? end - 0xFFFF : 0;  // a comment may follow
  while (end > first && !(read32(data + end - 1) == kEnd && read16(data + end + 19) == bytes - (end - 1) - kEndBytes)) {
    --end;
  }
  if (end <= first) bad_data("the file is no ZIP archive, or cut off");
  const uint8_t* last = data + end - 1;
  const uint32_t count = read16(last + 10), directory_bytes = read32(last + 12), directory = read32(last + 16);
  if (read16(last + 4) || read16(last + 6) || read16(last + 8) != count || count == 0xFFFF || directory == 0xFFFFFFFF) {
    bad_data("the archive is one of several disks or of 64 bits, which a recording does not need");
  }
  if (uint64_t{directory} + directory_bytes != end - 1) bad_data("the archive's directory is damaged");
  directory_ = directory;

  size_t at = directory;
  for (uint32_t i = 0; i < count; ++i) {
    if (end - 1 - at < kEntryBytes || read32(data + at) != kEntry) bad_data("the archive's directory is damaged");
    const uint8_t* entry = data + at;
    const size_t name_bytes = read16(entry + 28), more = size_t{read16(entry + 30)} + read16(entry + 32);
    if (end - 1 - at - kEntryBytes < name_bytes + more) bad_data("the archive's directory is damaged");
    std::string name(reinterpret_cast<const char*>(entry + kEntryBytes), name_bytes);
    Member member{{},
                  read16(entry + 10),
                  read32(entry + 16),
                  read32(entry + 20),
                  read32(entry + 24),
                  read32(entry + 42)};
    if (name_bytes < 5 || name.compare(name_bytes - 4, 4, ".npy") != 0) {
      bad_data("the archive has the member " + shown(name) + ", which is no array");
    }
    name.resize(name_bytes - 4);
    if (find(name)) bad_data("the archive has the array " + shown(name) + " twice");
    if (read16(entry + 8) & kEncrypted) bad_data("array " + shown(name) + " is encrypted");
    if (member.method != kStored && member.method != kDeflated) {
      bad_data("array " + shown(name) + " is packed by method " + std::to_string(member.method) +
               "; use stored or deflate");
    }
    member.name = std::move(name);
    members_.push_back(std::move(member));
    at += kEntryBytes + name_bytes + more;
  }
  if (at != end - 1) bad_data("the archive's directory is damaged");
}

std::vector<std::string> Npz::names() const {
  std::vector<std::string> found;
  for (const Member& member : members_) found.push_back(member.name);
  return found;
}

const Npz::Member* Npz::find(const std::string& name) const {
  for (const Member& member : members_) {
    if (member.name == name) return &member;
  }
  return nullptr;
}

// Sizes are those of the directory: NumPy leaves them out of the header in front of the member.
const uint8_t* Npz::content(const Member& member) const {
  const size_t offset = member.offset;
  if (offset > directory_ || directory_ - offset < kLocalBytes || read32(data_ + offset) != kLocal) {
    bad_data("array " + shown(member.name) + " is not where the archive says");
  }
  const size_t name_bytes = read16(data_ + offset + 26), more = read16(data_ + offset + 28);
  const size_t left = directory_ - offset - kLocalBytes;
  if (left < name_bytes + more || left - name_bytes - more < member.packed_bytes) {
    bad_data("array " + shown(member.name) + " is cut off");
  }
  const std::string file = member.name + ".npy";
  if (name_bytes != file.size() || std::memcmp(data_ + offset + kLocalBytes, file.data(), name_bytes) != 0) {
    bad_data("array " + shown(member.name) + " has another name in front of it");
  }
  return data_ + offset + kLocalBytes + name_bytes + more;
}

FloatArray Npz::read(const std::string& name) const {
  const Member* member = find(name);
  if (!member) bad_data("the archive has no array " + shown(name));
  const uint8_t* packed = content(*member);
  const size_t size = member->bytes;
  if (size > kMaxMemberBytes || size > kMostRatio * (size_t{member->packed_bytes} + 1)) {
    bad_data("array " + shown(name) + " claims to have " + std::to_string(size) + " bytes");
  }
  std::vector<uint8_t> unpacked;
  const uint8_t* file = packed;
  if (member->method == kDeflated) {
    unpacked = inflate(packed, member->packed_bytes, size);
    file = unpacked.data();
  } else if (member->packed_bytes != size) {
    bad_data("array " + shown(name) + " is stored with two different sizes");
  }
  if (crc32(file, size) != member->crc) bad_data("array " + shown(name) + " is damaged: its checksum is wrong");
  return parse_npy(file, size, name);
}

FloatArray parse_npy(const uint8_t* data, size_t bytes, const std::string& name) {
  const bool long_header = bytes > 6 && data[6] > 1;
  const size_t prefix = long_header ? 12 : 10;
  if (bytes < prefix || std::memcmp(data, "\x93NUMPY", 6) != 0 || data[6] < 1 || data[6] > 3 || data[7] != 0) {
    bad_data("array " + shown(name) + " is no .npy file of version 1 to 3");
  }
  const size_t header_bytes = long_header ? read32(data + 8) : read16(data + 8);
  if (header_bytes > bytes - prefix || header_bytes > 4096) bad_data("array " + shown(name) + " is cut off");
  const NpyHeader header({reinterpret_cast<const char*>(data) + prefix, header_bytes}, name);
  const bool wide = header.descr == "<f8";
  if (!wide && header.descr != "<f4") {
    bad_data("array " + shown(name) + " has the type " + shown(header.descr) + "; use float32 or float64");
  }
  if (header.fortran) bad_data("array " + shown(name) + " is in Fortran's order; save it row by row");

  FloatArray array{header.shape, {}};
  const size_t content = bytes - prefix - header_bytes, item = wide ? 8 : 4;
  uint64_t count = 1;
  for (const int64_t length : header.shape) {
    count *= static_cast<uint64_t>(length);  // lengths are at most 2^32, what passed is at most 2^28
    if (count > content) bad_data("array " + shown(name) + " has another size than its shape says");
  }
  if (count * item != content) bad_data("array " + shown(name) + " has another size than its shape says");
  array.values.resize(count);
  const uint8_t* values = data + prefix + header_bytes;
  if (!wide) {
    if (count) std::memcpy(array.values.data(), values, content);
    return array;
  }
  for (size_t i = 0; i < count; ++i) {
    double value;
    std::memcpy(&value, values + 8 * i, 8);
    array.values[i] = static_cast<float>(value);
  }
  return array;
}

}  // namespace har_native
