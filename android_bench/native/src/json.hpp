// A small strict JSON reader: RFC 8259 without duplicate names, with limits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace har_native {

constexpr size_t kMaxJsonBytes = size_t{4} << 20;
constexpr int kMaxJsonDepth = 32;

struct Json {
  enum class Kind { null, boolean, integer, real, string, array, object };

  Kind kind = Kind::null;
  bool boolean = false;
  int64_t integer = 0;
  double real = 0;                 // also set for an integer
  std::string string;              // UTF-8
  std::vector<std::string> names;  // of an object's members, in the order of `items`
  std::vector<Json> items;

  // Throws Error (HAR_BAD_DATA) with the byte at which the text stops being JSON.
  static Json parse(std::string_view text);

  // The member of an object, nullptr when there is none.
  const Json* find(std::string_view name) const;
};

const char* kind_name(Json::Kind kind);

}  // namespace har_native
