// Any bytes as a recording's archive or, where the first byte is odd, as one array: refused with a message, or shape
// and values agree.
#include <cstdio>
#include <cstdlib>

#include "errors.hpp"
#include "npz.hpp"

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

template <typename Work>
void guarded(Work work) {
  try {
    work();
  } catch (const har_native::Error& error) {
    require(error.status == HAR_BAD_DATA && !error.message.empty(), "a refusal has its status and a message");
  }
}

void check(const har_native::FloatArray& array) {
  size_t count = 1;
  for (const int64_t length : array.shape) count *= static_cast<size_t>(length);
  require(count == array.values.size(), "as many values as the shape says");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size < 1) return 0;
  const uint8_t* data = bytes + 1;
  const size_t count = size - 1;
  if (bytes[0] % 2) {
    guarded([&] { check(har_native::parse_npy(data, count, "any")); });
  } else {
    guarded([&] {
      const har_native::Npz archive(data, count);
      for (const std::string& name : archive.names()) guarded([&] { check(archive.read(name)); });
    });
  }
  return 0;
}
