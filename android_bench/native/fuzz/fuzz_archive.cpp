// Any bytes as a recording's archive, an array of it, or a deflate stream: refused with a sentence, or what comes out
// holds together. The first byte says which.
#include <cstdio>
#include <cstdlib>

#include "errors.hpp"
#include "inflate.hpp"
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
    require(error.status == HAR_BAD_DATA && !error.message.empty(), "a refusal has its status and a sentence");
  }
}

void check(const har_native::FloatArray& array) {
  size_t count = 1;
  for (const int64_t length : array.shape) count *= static_cast<size_t>(length);
  require(count == array.values.size(), "as many values as the shape says");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size < 3) return 0;
  const uint8_t* data = bytes + 3;
  const size_t count = size - 3;
  switch (bytes[0] % 3) {
    case 0:
      guarded([&] {
        const har_native::Npz archive(data, count);
        for (const std::string& name : archive.names()) guarded([&] { check(archive.read(name)); });
      });
      break;
    case 1: guarded([&] { check(har_native::parse_npy(data, count, "any")); }); break;
    default: {
      const size_t length = size_t{bytes[1]} | size_t{bytes[2]} << 8;
      guarded([&] { require(har_native::inflate(data, count, length).size() == length, "the length asked for"); });
    }
  }
  return 0;
}
