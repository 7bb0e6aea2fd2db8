// The reader of recordings for tests, as a library with a C interface.

#include <algorithm>
#include <cstdio>

#include "errors.hpp"
#include "har.h"
#include "npz.hpp"

using namespace har_native;

extern "C" {

// Returns 0, or a har_status with a message in `error`, which has 400 bytes.
// shape: 8 numbers, of which the first `dimensions` count; out: room for `size` floats.
HAR_PUBLIC int test_npz(const uint8_t* data, size_t bytes, const char* name, int64_t* shape, int* dimensions,
                        float* out, size_t size, char* error) {
  try {
    const FloatArray array = Npz(data, bytes).read(name);
    *dimensions = static_cast<int>(array.shape.size());
    std::copy(array.shape.begin(), array.shape.end(), shape);
    if (array.values.size() > size) wrong_use("the test has too little room");
    std::copy(array.values.begin(), array.values.end(), out);
    return 0;
  } catch (const Error& refusal) {
    std::snprintf(error, 400, "%s", refusal.message.c_str());
    return refusal.status;
  }
}

}  // extern "C"
