// The reader of recordings for tests, as a library with a C interface. Every function gives 0, or 4 with a sentence.

#include <cstdio>
#include <cstring>

#include "errors.hpp"
#include "har.h"
#include "inflate.hpp"
#include "npz.hpp"

using namespace har_native;

namespace {

constexpr size_t kErrorBytes = 400;

template <typename Work>
int guarded(char* error, Work work) {
  try {
    work();
    return 0;
  } catch (const Error& found) {
    std::snprintf(error, kErrorBytes, "%s", found.message.c_str());
    return found.status;
  }
}

}  // namespace

extern "C" {

HAR_PUBLIC int test_inflate(const uint8_t* data, size_t bytes, uint8_t* out, size_t size, char* error) {
  return guarded(error, [&] {
    const std::vector<uint8_t> content = inflate(data, bytes, size);
    if (size) std::memcpy(out, content.data(), size);
  });
}

HAR_PUBLIC uint32_t test_crc32(const uint8_t* data, size_t bytes) { return crc32(data, bytes); }

// shape: 8 numbers, the first `dimensions` of which count; out: as much as the array may have.
HAR_PUBLIC int test_npz(const uint8_t* data, size_t bytes, const char* name, int64_t* shape, int* dimensions, float* out,
                        size_t size, char* error) {
  return guarded(error, [&] {
    const FloatArray array = Npz(data, bytes).read(name);
    *dimensions = static_cast<int>(array.shape.size());
    std::copy(array.shape.begin(), array.shape.end(), shape);
    if (array.values.size() > size) wrong_use("the test has too little room");
    std::copy(array.values.begin(), array.values.end(), out);
  });
}

}  // extern "C"
