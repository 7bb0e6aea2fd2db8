// JSON lines on standard output.
#pragma once

#include <string>
#include <vector>

namespace har_native {

// Reserves standard output for the lines: later output of libraries goes to standard error.
void claim_output();

std::string quoted(const std::string& text);  // a JSON string; invalid UTF-8 becomes '?'
std::string numbers(const std::vector<float>& values);
std::string numbers(const std::vector<double>& values);

// Writes the line and flushes it.
void write_line(const std::string& line);
void write_error(const std::string& message);

}  // namespace har_native
