// JSON lines on standard output.
#pragma once

#include <string>
#include <vector>

namespace har_native {

// Takes standard output for the lines alone: what libraries print goes to standard error from then on.
void claim_output();

std::string quoted(const std::string& text);  // a JSON string; what is no UTF-8 becomes '?'
std::string numbers(const std::vector<float>& values);
std::string numbers(const std::vector<double>& values);

// Writes the line and flushes it.
void write_line(const std::string& line);
void write_error(const std::string& message);

}  // namespace har_native
