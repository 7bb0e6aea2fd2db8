// Prints the number of a stream's allocations after its creation. Linked with --wrap for the C functions.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "../bench/motion.hpp"
#include "har.h"

namespace {
long allocations = 0;
bool counting = false;

void* counted(void* memory) {
  if (counting) ++allocations;
  return memory;
}
}  // namespace

extern "C" {
void* __real_malloc(size_t);
void* __real_calloc(size_t, size_t);
void* __real_realloc(void*, size_t);
void* __real_aligned_alloc(size_t, size_t);
int __real_posix_memalign(void**, size_t, size_t);

void* __wrap_malloc(size_t size) { return counted(__real_malloc(size)); }
void* __wrap_calloc(size_t count, size_t size) { return counted(__real_calloc(count, size)); }
void* __wrap_realloc(void* memory, size_t size) { return counted(__real_realloc(memory, size)); }
void* __wrap_aligned_alloc(size_t alignment, size_t size) { return counted(__real_aligned_alloc(alignment, size)); }
int __wrap_posix_memalign(void** memory, size_t alignment, size_t size) {
  if (counting) ++allocations;
  return __real_posix_memalign(memory, alignment, size);
}
}

// operator new of libstdc++ would call malloc where --wrap does not reach.
__attribute__((noinline)) void* operator new(size_t size) {
  if (void* memory = counted(__real_malloc(size ? size : 1))) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, size_t) noexcept { std::free(memory); }

int main() {
  const int frames = 200, piece = 1067;
  const Recording recording = make_recording(frames, 2, int64_t{frames} * piece);
  char error[400];
  har* handle;
  har_stream* stream;
  counting = true;
  if (har_create(paper_manifest(), std::strlen(paper_manifest()), &handle, error, sizeof error) != HAR_OK ||
      har_stream_create(handle, 90, 2, nullptr, &stream, error, sizeof error) != HAR_OK) {
    std::fprintf(stderr, "error: %s\n", error);
    return 4;
  }
  const long at_creation = allocations;
  std::vector<float> skeleton(224 * 224 * 31), audio(128 * 384 * 3);
  allocations = 0;
  bool good = true;
  for (int t = 0; t < frames; ++t) {
    good &= har_stream_push_frame(stream, t, recording.frame(t), recording.confidence_of(t), t % 3) == HAR_OK;
    good &= har_stream_push_audio(stream, recording.waveform.data() + t * piece, piece, 32000) == HAR_OK;
    if (t % 10) continue;
    const bool int8 = t % 20 == 0;
    const size_t bytes = int8 ? 1 : sizeof(float);
    const har_type type = int8 ? HAR_INT8 : HAR_FLOAT32;
    good &= har_stream_heatmaps(stream, type, skeleton.data(), skeleton.size() * bytes, nullptr) == HAR_OK;
    good &= har_stream_logmel(stream, type, audio.data(), audio.size() * bytes) == HAR_OK;
    if (t == 100) good &= har_stream_reset(stream) == HAR_OK;
  }
  const long after_creation = allocations;
  har_stream_destroy(stream);
  har_destroy(handle);
  if (!good) {
    std::fprintf(stderr, "error: a call failed\n");
    return 1;
  }
  std::printf("{\"at_creation\": %ld, \"after_creation\": %ld}\n", at_creation, after_creation);
}
