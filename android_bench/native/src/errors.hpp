// The library's one exception. It never leaves the C interface.
#pragma once

#include <string>
#include <utility>

#include "har.h"

namespace har_native {

struct Error {
  har_status status;
  std::string message;  // one sentence: what was wrong, the value, the remedy
};

[[noreturn]] inline void bad_data(std::string message) { throw Error{HAR_BAD_DATA, std::move(message)}; }
[[noreturn]] inline void wrong_use(std::string message) { throw Error{HAR_WRONG_USE, std::move(message)}; }

std::string text(double value);  // formatted with %g

}  // namespace har_native
