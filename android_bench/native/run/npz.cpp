#include "npz.hpp"

#include <array>
#include <cstring>
#include <string_view>

#include "errors.hpp"

namespace har_native {
namespace {

constexpr size_t kEndBytes = 22, kEntryBytes = 46, kLocalBytes = 30, kPrefixBytes = 10;
constexpr uint32_t kEnd = 0x06054b50, kEntry = 0x02014b50, kLocal = 0x04034b50;
constexpr uint32_t kStored = 0;
constexpr uint32_t kEncrypted = 1;

uint32_t read16(const uint8_t* at) { return uint32_t{at[0]} | uint32_t{at[1]} << 8; }
uint32_t read32(const uint8_t* at) { return read16(at) | read16(at + 2) << 16; }

uint32_t crc32(const uint8_t* data, size_t bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> entries;
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
      entries[i] = value;
    }
    return entries;
  }();
  uint32_t value = 0xFFFFFFFF;
  for (size_t i = 0; i < bytes; ++i) value = value >> 8 ^ table[(value ^ data[i]) & 255];
  return ~value;
}

std::string printable(const std::string& name) {
  std::string text;
  for (const char letter : name.substr(0, 40)) text += letter >= ' ' && letter <= '~' ? letter : '?';
  return "'" + text + "'";
}

bool take(std::string_view& text, std::string_view expected) {
  if (text.substr(0, expected.size()) != expected) return false;
  text.remove_prefix(expected.size());
  return true;
}

// The shape from an array's header, which NumPy writes as {'descr': '<f4', 'fortran_order': False, 'shape': (7, 2), }.
std::vector<int64_t> read_header(std::string_view text, const std::string& name) {
  const std::string array = "array " + printable(name);
  const auto require = [&](bool condition) {
    if (!condition) bad_data(array + " has a header that NumPy does not write");
  };
  require(take(text, "{'descr': '"));
  const size_t end = text.find("', 'fortran_order': ");
  require(end <= 40);  // npos is larger
  const std::string type(text.substr(0, end));
  text.remove_prefix(end);
  require(take(text, "', 'fortran_order': "));
  const bool fortran = take(text, "True");
  require((fortran || take(text, "False")) && take(text, ", 'shape': ("));
  std::vector<int64_t> shape;
  while (!take(text, "), }")) {
    size_t digits = 0;
    int64_t length = 0;
    for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
      length = 10 * length + (text[digits] - '0');
      require(length <= int64_t{1} << 32);
    }
    require(digits > 0 && shape.size() < 8);
    shape.push_back(length);
    text.remove_prefix(digits);
    if (!take(text, ", ")) take(text, ",");
  }
  require(text.find_first_not_of(" \n") == std::string_view::npos);
  if (type != "<f4") bad_data(array + " has the type " + printable(type) + "; har_run reads float32");
  if (fortran) bad_data(array + " is in Fortran order; har_run reads C order");
  return shape;
}

}  // namespace

Npz::Npz(const uint8_t* data, size_t bytes) : data_(data) {
  if (bytes < kEndBytes || read32(data + bytes - kEndBytes) != kEnd) {
    bad_data("the file is no ZIP archive, or cut off");
  }
  const size_t end = bytes - kEndBytes;
  const uint8_t* last = data + end;
  const uint32_t count = read16(last + 10), directory_bytes = read32(last + 12), directory = read32(last + 16);
  if (read16(last + 4) || read16(last + 6) || read16(last + 8) != count || count == 0xFFFF || directory == 0xFFFFFFFF) {
    bad_data("the archive spans several disks or needs 64-bit offsets; recordings are smaller");
  }
  if (uint64_t{directory} + directory_bytes != end) bad_data("the archive's directory is damaged");
  directory_ = directory;

  size_t at = directory;
  for (uint32_t i = 0; i < count; ++i) {
    if (end - at < kEntryBytes || read32(data + at) != kEntry) bad_data("the archive's directory is damaged");
    const uint8_t* entry = data + at;
    const size_t name_bytes = read16(entry + 28), more = size_t{read16(entry + 30)} + read16(entry + 32);
    if (end - at - kEntryBytes < name_bytes + more) bad_data("the archive's directory is damaged");
    std::string name(reinterpret_cast<const char*>(entry + kEntryBytes), name_bytes);
    const uint32_t method = read16(entry + 10), bytes_stored = read32(entry + 20), size = read32(entry + 24);
    if (name_bytes < 5 || name.compare(name_bytes - 4, 4, ".npy") != 0) {
      bad_data("the archive has the member " + printable(name) + ", which is no array");
    }
    name.resize(name_bytes - 4);
    if (find(name)) bad_data("the archive has the array " + printable(name) + " twice");
    if (read16(entry + 8) & kEncrypted) bad_data("array " + printable(name) + " is encrypted");
    if (method != kStored) bad_data("array " + printable(name) + " is compressed; har_run reads stored arrays");
    if (bytes_stored != size) bad_data("array " + printable(name) + " is stored with two different sizes");
    members_.push_back({std::move(name), read32(entry + 16), size, read32(entry + 42)});
    at += kEntryBytes + name_bytes + more;
  }
  if (at != end) bad_data("the archive's directory is damaged");
}

std::vector<std::string> Npz::names() const {
  std::vector<std::string> names;
  for (const Member& member : members_) names.push_back(member.name);
  return names;
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
    bad_data("array " + printable(member.name) + " is not where the archive says");
  }
  const size_t name_bytes = read16(data_ + offset + 26), more = read16(data_ + offset + 28);
  const size_t left = directory_ - offset - kLocalBytes;
  if (left < name_bytes + more || left - name_bytes - more < member.bytes) {
    bad_data("array " + printable(member.name) + " is cut off");
  }
  const std::string file = member.name + ".npy";
  if (name_bytes != file.size() || std::memcmp(data_ + offset + kLocalBytes, file.data(), name_bytes) != 0) {
    bad_data("array " + printable(member.name) + " has another name in front of it");
  }
  return data_ + offset + kLocalBytes + name_bytes + more;
}

FloatArray Npz::read(const std::string& name) const {
  const Member* member = find(name);
  if (!member) bad_data("the archive has no array " + printable(name));
  const uint8_t* file = content(*member);
  if (crc32(file, member->bytes) != member->crc) {
    bad_data("array " + printable(name) + " is damaged: its checksum is wrong");
  }
  return parse_npy(file, member->bytes, name);
}

FloatArray parse_npy(const uint8_t* data, size_t bytes, const std::string& name) {
  if (bytes < kPrefixBytes || std::memcmp(data, "\x93NUMPY\1", 8) != 0) {
    bad_data("array " + printable(name) + " is no .npy file of version 1");
  }
  const size_t header_bytes = read16(data + kPrefixBytes - 2);
  if (header_bytes > bytes - kPrefixBytes) bad_data("array " + printable(name) + " is cut off");
  FloatArray array{read_header({reinterpret_cast<const char*>(data) + kPrefixBytes, header_bytes}, name), {}};
  const size_t content = bytes - kPrefixBytes - header_bytes;
  uint64_t count = 1;
  for (const int64_t length : array.shape) {
    count *= static_cast<uint64_t>(length);  // lengths are at most 2^32, and `content` is below that
    if (count > content) break;
  }
  if (count > content || count * sizeof(float) != content) {
    bad_data("array " + printable(name) + " has another size than its shape says");
  }
  array.values.resize(count);
  if (count) std::memcpy(array.values.data(), data + kPrefixBytes + header_bytes, content);
  return array;
}

}  // namespace har_native
