// LiteRT's C interface, from a library that is loaded at run time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace har_native {

// The functions in use, after litert/c/*.h of github.com/google-ai-edge/LiteRT. Every handle is an opaque
// pointer, every status an int that is 0 for success.
//
// Why these: the library in the wheel ai-edge-litert and the one for Android have the same name and version, and the
// wheel's exports only this "compiled model" interface; no function TfLite* of the older interface.
// From 2.1.3 to 2.3.0 the functions below exist with the same signatures, except LiteRtCreateModelFromFile.
struct LitertFunctions {
  int (*LiteRtCreateEnvironment)(int, const void*, void**);
  void (*LiteRtDestroyEnvironment)(void*);
  int (*LiteRtGetNumAccelerators)(void*, size_t*);
  int (*LiteRtGetAccelerator)(void*, size_t, void**);
  int (*LiteRtGetAcceleratorHardwareSupport)(void*, int*);
  void (*LiteRtDestroyModel)(void*);
  int (*LiteRtGetNumModelSignatures)(void*, size_t*);
  int (*LiteRtGetModelSignature)(void*, size_t, void**);
  int (*LiteRtGetSignatureSubgraph)(void*, void**);
  int (*LiteRtGetNumSubgraphOps)(void*, size_t*);
  int (*LiteRtGetNumSignatureInputs)(void*, size_t*);
  int (*LiteRtGetNumSignatureOutputs)(void*, size_t*);
  int (*LiteRtGetSignatureInputName)(void*, size_t, const char**);
  int (*LiteRtGetSignatureOutputName)(void*, size_t, const char**);
  int (*LiteRtGetSignatureInputTensorByIndex)(void*, size_t, void**);
  int (*LiteRtGetSignatureOutputTensorByIndex)(void*, size_t, void**);
  int (*LiteRtGetRankedTensorType)(void*, void*);
  int (*LiteRtCreateOptions)(void**);
  void (*LiteRtDestroyOptions)(void*);
  int (*LiteRtSetOptionsHardwareAccelerators)(void*, int);
  int (*LiteRtCreateOpaqueOptions)(const char*, void*, void (*)(void*), void**);
  int (*LiteRtAddOpaqueOptions)(void*, void*);
  int (*LiteRtCreateCompiledModel)(void*, void*, void*, void**);
  void (*LiteRtDestroyCompiledModel)(void*);
  int (*LiteRtRunCompiledModel)(void*, size_t, size_t, void**, size_t, void**);
  int (*LiteRtGetCompiledModelInputBufferRequirements)(void*, size_t, size_t, void**);
  int (*LiteRtGetCompiledModelOutputBufferRequirements)(void*, size_t, size_t, void**);
  int (*LiteRtCreateManagedTensorBufferFromRequirements)(void*, const void*, void*, void**);
  void (*LiteRtDestroyTensorBuffer)(void*);
  int (*LiteRtGetTensorBufferPackedSize)(void*, size_t*);
  int (*LiteRtLockTensorBuffer)(void*, void**, int);
  int (*LiteRtUnlockTensorBuffer)(void*);
  int (*LiteRtCompiledModelIsFullyAccelerated)(void*, bool*);
  int (*LiteRtCompiledModelGetProfiler)(void*, void**);
  int (*LiteRtStartProfiler)(void*);
  int (*LiteRtStopProfiler)(void*);
  int (*LiteRtGetNumProfilerEvents)(void*, int*);
  int (*LiteRtGetProfilerEvents)(void*, int, void*);
};

enum Accelerators { kCpu = 1, kGpu = 2, kNpu = 4 };  // kLiteRtHwAccelerator*
enum ElementType { kFloat32Element = 1, kInt8Element = 9 };  // kLiteRtElementType*

class Litert {
 public:
  // Loads the library: `path`, else $HAR_LITERT_LIBRARY, else the one beside the program, else the system's.
  // accelerators: a mask of Accelerators; their libraries are looked for beside the library.
  // Throws Exit (kMissing): it is missing, does not load, or lacks a function.
  Litert(const std::string& path, int accelerators);
  ~Litert();
  Litert(const Litert&) = delete;

  // Throws Exit (kDefect).
  void check(int status, const char* function) const;

  // Name and SHA-256 of the library's file, since it does not report its version.
  std::string version() const;

  // Throws Exit (kMissing) where the library has no accelerator of the kind.
  void require_accelerator(int kind, const std::string& name) const;

  // Throws Exit (kBadData): no TFLite model.
  void* open_model(const std::string& path) const;

  LitertFunctions api{};
  void* environment = nullptr;

 private:
  void load(const std::string& path);

  void* library_ = nullptr;
  std::string path_;
  bool model_needs_environment_ = false;
};

// A model that is ready to run, with its tensors. The Litert must outlive it.
class CompiledModel {
 public:
  struct Settings {
    int accelerators = kCpu;
    int threads = 1;
    bool profile = false;   // for operations_run_by_litert()
    bool builtins = false;  // LiteRT's kernels instead of XNNPACK's
  };

  struct Tensor {
    std::string name;
    int element_type;
    size_t bytes;
    void* buffer;
  };

  // Throws Exit (kBadData): LiteRT refuses the model.
  CompiledModel(const Litert& litert, const std::string& path, const Settings& settings);
  ~CompiledModel();
  CompiledModel(const CompiledModel&) = delete;

  const std::vector<Tensor>& inputs() const { return inputs_; }
  const std::vector<Tensor>& outputs() const { return outputs_; }

  // Calls `use` with the memory of a tensor, to write or to read it. Passes on exceptions of `use`.
  template <typename Use>
  void write(const Tensor& tensor, Use use) const { access(tensor, 1, use); }
  template <typename Use>
  void read(const Tensor& tensor, Use use) const { access(tensor, 0, use); }

  void run();

  // Number of operations in the model file.
  int64_t operations() const;

  // Operations of one inference that no delegate ran; -1 where the profile is not understood.
  int64_t operations_run_by_litert();

 private:
  void compile(const std::string& path, const Settings& settings);
  void add_option(void* options, const char* group, const std::string& text) const;
  void make_tensors(bool inputs, std::vector<Tensor>& tensors, std::vector<void*>& buffers) const;
  void release();

  template <typename Use>
  void access(const Tensor& tensor, int mode, Use use) const {
    void* memory = nullptr;
    litert_.check(litert_.api.LiteRtLockTensorBuffer(tensor.buffer, &memory, mode), "LiteRtLockTensorBuffer");
    try {
      use(memory);
    } catch (...) {
      litert_.api.LiteRtUnlockTensorBuffer(tensor.buffer);
      throw;
    }
    litert_.check(litert_.api.LiteRtUnlockTensorBuffer(tensor.buffer), "LiteRtUnlockTensorBuffer");
  }

  const Litert& litert_;
  void* model_ = nullptr;
  void* compiled_ = nullptr;
  void* signature_ = nullptr;
  std::vector<Tensor> inputs_, outputs_;
  std::vector<void*> input_buffers_, output_buffers_;
};

}  // namespace har_native
