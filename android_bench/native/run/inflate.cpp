#include "inflate.hpp"

#include <array>
#include <cstring>

#include "errors.hpp"

namespace har_native {
namespace {

constexpr int kMaxBits = 15;
constexpr int kLiterals = 286, kDistances = 30, kEndOfBlock = 256;
constexpr uint16_t kLengthBase[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                      31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
constexpr uint8_t kLengthBits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                     2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
constexpr uint16_t kDistanceBase[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                        33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                        1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
constexpr uint8_t kDistanceBits[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                       6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
constexpr uint8_t kCodeOrder[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

class Bits {
 public:
  Bits(const uint8_t* data, size_t bytes) : data_(data), bytes_(bytes) {}

  // The next bits without taking them; zeros follow the end.
  uint32_t peek(int count) {
    while (held_ < count && at_ < bytes_) {
      buffer_ |= uint64_t{data_[at_++]} << held_;
      held_ += 8;
    }
    return static_cast<uint32_t>(buffer_ & ((uint64_t{1} << count) - 1));
  }

  void drop(int count) {
    if (count > held_) bad_data("a deflate stream is cut off");
    buffer_ >>= count;
    held_ -= count;
  }

  uint32_t take(int count) {
    const uint32_t value = peek(count);
    drop(count);
    return value;
  }

  // Copies whole bytes that begin at the next byte's border.
  void take_bytes(uint8_t* out, size_t count) {
    for (; count && held_; --count) *out++ = static_cast<uint8_t>(take(8));
    if (count > bytes_ - at_) bad_data("a deflate stream is cut off");
    if (count) std::memcpy(out, data_ + at_, count);
    at_ += count;
  }

  void align() { drop(held_ % 8); }
  bool at_end() const { return at_ == bytes_ && held_ < 8; }

 private:
  const uint8_t* data_;
  size_t bytes_, at_ = 0;
  uint64_t buffer_ = 0;
  int held_ = 0;
};

// A canonical Huffman code as a table of all the ways its longest word can continue.
class Code {
 public:
  // lengths: bits of every symbol's word, 0 for a symbol that does not occur.
  void make(const uint8_t* lengths, int symbols) {
    std::array<int, kMaxBits + 1> counts{};
    for (int i = 0; i < symbols; ++i) ++counts[lengths[i]];
    bits_ = kMaxBits;
    while (bits_ > 0 && counts[static_cast<size_t>(bits_)] == 0) --bits_;
    int free = 1;  // words of the length that no shorter one begins
    std::array<int, kMaxBits + 2> next{};
    for (size_t length = 1; length <= static_cast<size_t>(bits_); ++length) {
      next[length + 1] = (next[length] + counts[length]) << 1;
      free = 2 * free - counts[length];
      if (free < 0) bad_data("a deflate stream has a code with too many words");
    }
    // One word of one bit is what an encoder writes for a single distance.
    if (bits_ > 0 && free > 0 && !(bits_ == 1 && counts[1] == 1)) bad_data("a deflate stream has an incomplete code");
    table_.assign(size_t{1} << bits_, 0);
    for (int symbol = 0; symbol < symbols; ++symbol) {
      const int length = lengths[symbol];
      if (!length) continue;
      uint32_t word = static_cast<uint32_t>(next[static_cast<size_t>(length)]++), reversed = 0;
      for (int i = 0; i < length; ++i, word >>= 1) reversed = reversed << 1 | (word & 1);
      for (size_t i = reversed; i < table_.size(); i += size_t{1} << length) {
        table_[i] = static_cast<uint16_t>(symbol << 4 | length);
      }
    }
  }

  int read(Bits& bits) const {
    const uint16_t entry = table_[bits.peek(bits_)];
    if (!entry) bad_data("a deflate stream has a word that its code does not");
    bits.drop(entry & 15);
    return entry >> 4;
  }

 private:
  int bits_ = 0;
  std::vector<uint16_t> table_;
};

class Inflater {
 public:
  Inflater(const uint8_t* data, size_t bytes, size_t size) : bits_(data, bytes), out_(size) {}

  std::vector<uint8_t> run() {
    bool last = false;
    while (!last) {
      last = bits_.take(1);
      switch (bits_.take(2)) {
        case 0: stored(); break;
        case 1: fixed(); break;
        case 2: dynamic(); break;
        default: bad_data("a deflate stream has a block of an unknown kind");
      }
    }
    if (at_ != out_.size()) bad_data("a deflate stream is shorter than its archive says");
    if (!bits_.at_end()) bad_data("something follows the end of a deflate stream");
    return std::move(out_);
  }

 private:
  void need_room(size_t count) const {
    if (count > out_.size() - at_) bad_data("a deflate stream is longer than its archive says");
  }

  void stored() {
    bits_.align();
    const uint32_t count = bits_.take(16);
    if (bits_.take(16) != (count ^ 0xFFFF)) bad_data("a deflate stream has a stored block of a wrong length");
    need_room(count);
    bits_.take_bytes(out_.data() + at_, count);
    at_ += count;
  }

  void fixed() {
    std::array<uint8_t, 288> lengths;
    for (size_t i = 0; i < lengths.size(); ++i) {
      lengths[i] = static_cast<uint8_t>(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
    }
    literals_.make(lengths.data(), 288);
    lengths.fill(5);
    distances_.make(lengths.data(), 32);
    block();
  }

  void dynamic() {
    const int literals = static_cast<int>(bits_.take(5)) + 257, distances = static_cast<int>(bits_.take(5)) + 1;
    const int codes = static_cast<int>(bits_.take(4)) + 4;
    if (literals > kLiterals || distances > kDistances) bad_data("a deflate stream has a code with too many symbols");
    std::array<uint8_t, kLiterals + kDistances> lengths{};
    for (int i = 0; i < codes; ++i) lengths[kCodeOrder[i]] = static_cast<uint8_t>(bits_.take(3));
    Code code;
    code.make(lengths.data(), 19);
    lengths.fill(0);
    for (int i = 0; i < literals + distances;) {
      const int symbol = code.read(bits_);
      if (symbol < 16) {
        lengths[static_cast<size_t>(i++)] = static_cast<uint8_t>(symbol);
        continue;
      }
      if (symbol == 16 && i == 0) bad_data("a deflate stream repeats a length before the first");
      const uint8_t length = symbol == 16 ? lengths[static_cast<size_t>(i - 1)] : uint8_t{0};
      const int width = symbol == 16 ? 2 : symbol == 17 ? 3 : 7;
      int count = static_cast<int>(bits_.take(width)) + (symbol == 18 ? 11 : 3);
      if (count > literals + distances - i) bad_data("a deflate stream has more lengths than symbols");
      while (count--) lengths[static_cast<size_t>(i++)] = length;
    }
    if (!lengths[kEndOfBlock]) bad_data("a deflate stream has a block without an end");
    literals_.make(lengths.data(), literals);
    distances_.make(lengths.data() + literals, distances);
    block();
  }

  void block() {
    for (int symbol = literals_.read(bits_); symbol != kEndOfBlock; symbol = literals_.read(bits_)) {
      if (symbol < kEndOfBlock) {
        need_room(1);
        out_[at_++] = static_cast<uint8_t>(symbol);
        continue;
      }
      symbol -= 257;
      if (symbol >= 29) bad_data("a deflate stream has an unknown length");
      const size_t length = kLengthBase[symbol] + bits_.take(kLengthBits[symbol]);
      const int code = distances_.read(bits_);
      if (code >= kDistances) bad_data("a deflate stream has an unknown distance");
      const size_t distance = kDistanceBase[code] + bits_.take(kDistanceBits[code]);
      if (distance > at_) bad_data("a deflate stream refers to what was before its beginning");
      need_room(length);
      for (size_t i = 0; i < length; ++i, ++at_) out_[at_] = out_[at_ - distance];
    }
  }

  Bits bits_;
  std::vector<uint8_t> out_;
  size_t at_ = 0;
  Code literals_, distances_;
};

}  // namespace

std::vector<uint8_t> inflate(const uint8_t* data, size_t bytes, size_t size) {
  return Inflater(data, bytes, size).run();
}

uint32_t crc32(const uint8_t* data, size_t bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> made;
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
      made[i] = value;
    }
    return made;
  }();
  uint32_t value = 0xFFFFFFFF;
  for (size_t i = 0; i < bytes; ++i) value = value >> 8 ^ table[(value ^ data[i]) & 255];
  return ~value;
}

}  // namespace har_native
