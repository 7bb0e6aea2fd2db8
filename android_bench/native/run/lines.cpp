#include "lines.hpp"

#include <unistd.h>

#include <cstdint>
#include <cstdio>

#include "system.hpp"

namespace har_native {
namespace {

int output = STDOUT_FILENO;

// Length of the UTF-8 character that begins there, in bytes; 0 where none does.
size_t character(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(at);
  const size_t count = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
  if (at + count > text.size()) return 0;
  for (size_t i = 1; i < count; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (first == 0xE0 && byte(at + 1) < 0xA0) || (first == 0xF0 && byte(at + 1) < 0x90);
  const bool no_character = (first == 0xED && byte(at + 1) > 0x9F) || (first == 0xF4 && byte(at + 1) > 0x8F);
  return overlong || no_character ? 0 : count;
}

template <typename Number>
std::string list(const std::vector<Number>& values, const char* format) {
  std::string text = "[";
  for (const Number value : values) {
    char word[40];
    std::snprintf(word, sizeof word, format, static_cast<double>(value));
    if (text.size() > 1) text += ',';
    text += word;
  }
  return text + "]";
}

}  // namespace

void claim_output() {
  output = dup(STDOUT_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (size_t i = 0; i < text.size();) {
    const size_t count = character(text, i);
    if (count == 0 || static_cast<uint8_t>(text[i]) < ' ') {
      result += count ? ' ' : '?';
      ++i;
      continue;
    }
    if (text[i] == '"' || text[i] == '\\') result += '\\';
    result.append(text, i, count);
    i += count;
  }
  return result + "\"";
}

std::string numbers(const std::vector<float>& values) { return list(values, "%.9g"); }

std::string numbers(const std::vector<double>& values) { return list(values, "%.6f"); }

void write_line(const std::string& line) {
  const std::string whole = line + "\n";
  for (size_t at = 0; at < whole.size();) {
    const ssize_t count = write(output, whole.data() + at, whole.size() - at);
    if (count <= 0) _exit(kDefect);  // the reader is gone
    at += static_cast<size_t>(count);
  }
}

void write_error(const std::string& message) {
  write_line("{\"event\":\"error\",\"message\":" + quoted(message) + "}");
}

}  // namespace har_native
