#include "json.hpp"

#include <cmath>
#include <locale>
#include <sstream>

#include "errors.hpp"

namespace har_native {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json document() {
    Json value = parse_value(0);
    skip_space();
    if (at_ != text_.size()) fail("something follows the document");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* reason) const {
    bad_data("manifest is not JSON: " + std::string(reason) + " at byte " + std::to_string(at_));
  }

  bool more() const { return at_ < text_.size(); }
  char peek() const { return more() ? text_[at_] : '\0'; }

  void skip_space() {
    while (more() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) ++at_;
  }

  bool take(char expected) {
    if (!more() || peek() != expected) return false;
    ++at_;
    return true;
  }

  void need(char expected, const char* reason) {
    skip_space();
    if (!take(expected)) fail(reason);
  }

  void need_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("unknown word");
    at_ += word.size();
  }

  Json parse_value(int depth) {
    if (depth > kMaxJsonDepth) fail("nested too deeply");
    skip_space();
    Json value;
    switch (peek()) {
      case '{': parse_object(value, depth); break;
      case '[': parse_array(value, depth); break;
      case '"':
        value.kind = Json::Kind::string;
        value.string = parse_string();
        break;
      case 't':
        need_word("true");
        value.kind = Json::Kind::boolean;
        value.boolean = true;
        break;
      case 'f':
        need_word("false");
        value.kind = Json::Kind::boolean;
        break;
      case 'n': need_word("null"); break;
      default: parse_number(value);
    }
    return value;
  }

  void parse_object(Json& value, int depth) {
    value.kind = Json::Kind::object;
    ++at_;
    skip_space();
    if (take('}')) return;
    do {
      skip_space();
      if (peek() != '"') fail("a name in quotes is missing");
      std::string name = parse_string();
      if (value.find(name)) fail("a name appears twice");
      need(':', "a colon is missing");
      value.names.push_back(std::move(name));
      value.items.push_back(parse_value(depth + 1));
      if (value.items.size() > kMaxFields) fail("an object has too many names");
      skip_space();
    } while (take(','));
    need('}', "a comma or closing brace is missing");
  }

  void parse_array(Json& value, int depth) {
    value.kind = Json::Kind::array;
    ++at_;
    skip_space();
    if (take(']')) return;
    do {
      value.items.push_back(parse_value(depth + 1));
      skip_space();
    } while (take(','));
    need(']', "a comma or closing bracket is missing");
  }

  std::string parse_string() {
    std::string result;
    ++at_;
    while (true) {
      if (!more()) fail("a string does not end");
      const auto byte = static_cast<unsigned char>(peek());
      if (byte == '"') break;
      if (byte < 0x20) fail("a control character stands in a string");
      if (byte == '\\') {
        ++at_;
        if (!more()) fail("a string does not end");
        parse_escape(result);
      } else if (byte < 0x80) {
        result += peek();
        ++at_;
      } else {
        copy_utf8(result, byte);
      }
    }
    ++at_;
    return result;
  }

  void copy_utf8(std::string& result, unsigned char first) {
    const int length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text_.size() - at_ < static_cast<size_t>(length)) fail("not UTF-8");
    for (int i = 1; i < length; ++i) {
      const auto byte = static_cast<unsigned char>(text_[at_ + i]);
      // the second byte rules out overlong forms, surrogates and code points above U+10FFFF
      const unsigned low = i > 1 ? 0x80 : first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
      const unsigned high = i > 1 ? 0xBF : first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
      if (byte < low || byte > high) fail("not UTF-8");
    }
    result.append(text_.substr(at_, static_cast<size_t>(length)));
    at_ += static_cast<size_t>(length);
  }

  void parse_escape(std::string& result) {
    const char kind = peek();
    ++at_;
    switch (kind) {
      case '"': case '\\': case '/': result += kind; return;
      case 'b': result += '\b'; return;
      case 'f': result += '\f'; return;
      case 'n': result += '\n'; return;
      case 'r': result += '\r'; return;
      case 't': result += '\t'; return;
      case 'u': break;
      default: fail("unknown escape");
    }
    uint32_t point = parse_hex();
    if (point >= 0xDC00 && point < 0xE000) fail("half a surrogate pair");
    if (point >= 0xD800 && point < 0xDC00) {
      if (!take('\\') || !take('u')) fail("half a surrogate pair");
      const uint32_t low = parse_hex();
      if (low < 0xDC00 || low >= 0xE000) fail("half a surrogate pair");
      point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(result, point);
  }

  uint32_t parse_hex() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) fail("four hexadecimal digits are missing");
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    return value;
  }

  static void append_utf8(std::string& result, uint32_t point) {
    const auto put = [&](uint32_t byte) { result += static_cast<char>(byte); };
    if (point < 0x80) return put(point);
    if (point < 0x800) {
      put(0xC0 | point >> 6);
    } else if (point < 0x10000) {
      put(0xE0 | point >> 12);
      put(0x80 | (point >> 6 & 0x3F));
    } else {
      put(0xF0 | point >> 18);
      put(0x80 | (point >> 12 & 0x3F));
      put(0x80 | (point >> 6 & 0x3F));
    }
    put(0x80 | (point & 0x3F));
  }

  size_t digits() {
    const size_t first = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    if (at_ == first) fail("a value is missing");
    return at_ - first;
  }

  void parse_number(Json& value) {
    const size_t first = at_;
    const bool negative = take('-');
    const bool zero = peek() == '0';
    if (digits() > 1 && zero) fail("a number begins with 0");
    bool whole = true;
    if (take('.')) {
      whole = false;
      digits();
    }
    if (take('e') || take('E')) {
      whole = false;
      if (!take('+')) take('-');
      digits();
    }
    const std::string_view number = text_.substr(first, at_ - first);
    if (number.size() > 64) fail("a number is too long");
    if (whole) {
      value.kind = Json::Kind::integer;
      for (const char c : number.substr(negative)) {
        if (__builtin_mul_overflow(value.integer, int64_t{10}, &value.integer) ||
            __builtin_sub_overflow(value.integer, int64_t{c - '0'}, &value.integer)) fail("a number is too large");
      }
      if (!negative && __builtin_sub_overflow(int64_t{0}, value.integer, &value.integer)) fail("a number is too large");
      value.real = static_cast<double>(value.integer);
      return;
    }
    value.kind = Json::Kind::real;
    std::istringstream stream{std::string(number)};  // strtod would follow the process's decimal point
    stream.imbue(std::locale::classic());
    if (!(stream >> value.real) || !std::isfinite(value.real)) fail("a number is too large");
  }

  static constexpr size_t kMaxFields = 256;  // names are searched one by one

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

Json Json::parse(std::string_view text) {
  if (text.size() > kMaxJsonBytes) {
    bad_data("manifest has " + std::to_string(text.size()) + " bytes; at most " + std::to_string(kMaxJsonBytes) +
             " are read");
  }
  return Parser(text).document();
}

const Json* Json::find(std::string_view name) const {
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return &items[i];
  }
  return nullptr;
}

const char* kind_name(Json::Kind kind) {
  switch (kind) {
    case Json::Kind::null: return "null";
    case Json::Kind::boolean: return "a boolean";
    case Json::Kind::integer: return "an integer";
    case Json::Kind::real: return "a real number";
    case Json::Kind::string: return "a string";
    case Json::Kind::array: return "an array";
    case Json::Kind::object: return "an object";
  }
  return "unknown";
}

}  // namespace har_native
