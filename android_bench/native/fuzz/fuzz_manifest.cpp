// Any bytes as a manifest: refused with a message or accepted with consistent sizes and labels.
#include "fuzz_common.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  char error[200] = "";
  har* handle = nullptr;
  const har_status status = har_create(reinterpret_cast<const char*>(bytes), size, &handle, error, sizeof error);
  require((status == HAR_OK) == (handle != nullptr), "a handle with success and only then");
  if (!handle) {
    require(status == HAR_BAD_DATA && error[0], "a refusal has its status and a message");
    return 0;
  }
  har_sizes sizes;
  har_get_sizes(handle, &sizes);
  require(sizes.skeleton[0] >= 8 && sizes.skeleton[2] >= 13 && sizes.audio[1] >= 9 && sizes.audio_samples > 0, "sizes");
  for (int32_t i = 0; i < har_label_count(handle); ++i) require(har_label_name(handle, i), "every label has a name");
  har_destroy(handle);
  return 0;
}
