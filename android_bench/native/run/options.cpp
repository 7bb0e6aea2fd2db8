#include "options.hpp"

#include <cmath>
#include <cstdlib>
#include <string_view>

#include "system.hpp"

namespace har_native {

const char* const kUsageText =
    "usage: har_run [--artifact DIR] [--accelerator cpu|gpu|npu] [--library libLiteRt.so] [--threads N]\n"
    "               [--warmup-runs N] [--min-runs N] [--min-seconds S] [--max-seconds S] [--stream S]\n"
    "Runs an artifact and prints JSON lines, see docs/har_run.md of pocket-har.\n";

namespace {

[[noreturn]] void wrong(const std::string& option, const std::string& value, const std::string& remedy) {
  throw Exit{kUsage, option + " is '" + value.substr(0, 40) + "'; " + remedy};
}

double number(const std::string& option, const std::string& value, double least, double most, bool whole) {
  char* end = nullptr;
  const double parsed = std::strtod(value.c_str(), &end);
  const bool plain = !value.empty() && value.find_first_not_of("0123456789.") == std::string::npos && !*end;
  if (!plain || !(parsed >= least && parsed <= most) || (whole && parsed != std::floor(parsed))) {
    const auto shown = [](double limit) { return std::to_string(static_cast<int>(limit)); };
    const std::string range = shown(least) + " to " + shown(most);
    wrong(option, value, std::string(whole ? "use a whole number from " : "use a number from ") + range);
  }
  return parsed;
}

}  // namespace

Options parse_options(int count, char** words) {
  constexpr double kMostRuns = 1e9, kMostSeconds = 1e6, kMostStream = 3600;
  Options options;
  for (int i = 1; i < count; i += 2) {
    const std::string option = words[i];
    if (option == "--help") {
      options.help = true;
      return options;
    }
    if (option.substr(0, 2) != "--") {
      throw Exit{kUsage, "'" + option.substr(0, 40) + "' is no option; see har_run --help"};
    }
    if (i + 1 == count) throw Exit{kUsage, option.substr(0, 40) + " has no value; see har_run --help"};
    const std::string value = words[i + 1];
    const auto whole = [&](double least, double most) {
      return static_cast<int>(number(option, value, least, most, true));
    };
    if (option == "--artifact") {
      options.artifact = value;
    } else if (option == "--accelerator") {
      if (value != "cpu" && value != "gpu" && value != "npu") wrong(option, value, "use cpu, gpu or npu");
      options.accelerator = value;
    } else if (option == "--library") {
      if (value.empty()) wrong(option, value, "name a file");
      options.library = value;
    } else if (option == "--threads") {
      options.threads = whole(1, 64);
    } else if (option == "--warmup-runs") {
      options.warmup_runs = whole(0, kMostRuns);
    } else if (option == "--min-runs") {
      options.min_runs = whole(1, kMostRuns);
    } else if (option == "--min-seconds") {
      options.min_seconds = number(option, value, 0, kMostSeconds, false);
    } else if (option == "--max-seconds") {
      options.max_seconds = number(option, value, 0, kMostSeconds, false);
    } else if (option == "--stream") {
      options.stream_seconds = number(option, value, 1, kMostStream, false);
    } else {
      throw Exit{kUsage, option.substr(0, 40) + " is an unknown option; see har_run --help"};
    }
  }
  return options;
}

}  // namespace har_native
