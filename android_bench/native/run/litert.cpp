#include "litert.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "system.hpp"

namespace har_native {
namespace {

constexpr const char* kName = "libLiteRt.so";
constexpr const char* kRemedy =
    "take libLiteRt.so 2.1.3 or newer for this device, from the package ai-edge-litert for Linux or "
    "com.google.ai.edge.litert:litert for Android, and put it beside har_run or name it with --library";
constexpr int kProfileCapacity = 2048;  // events that LiteRT records at most
constexpr size_t kTensorTypeBytes = 512;  // at least sizeof(LiteRtRankedTensorType), which begins with the element type

// LiteRtEnvOption, a tag and a LiteRtAny.
struct EnvironmentOption {
  int tag;
  alignas(8) int type;
  alignas(8) const char* text;
};
constexpr int kDispatchLibraryFolder = 1, kRuntimeLibraryFolder = 22;  // tags
constexpr int kText = 8;                                               // kLiteRtAnyTypeString

// LiteRtProfiledEventData.
struct ProfiledEvent {
  const char* tag;
  int kind;
  uint64_t start_us, elapsed_us, memory[6], index, detail;
  int source;
};
constexpr int kOperatorEvent = 2, kHighestEvent = 1 << 10;

template <typename Function>
void find(void* library, const char* name, const std::string& path, Function& function) {
  void* symbol = dlsym(library, name);
  if (!symbol) throw Exit{kMissing, path + " has no function " + name + "; " + kRemedy};
  static_assert(sizeof symbol == sizeof function, "functions have addresses of data's size");
  std::memcpy(&function, &symbol, sizeof symbol);
}

}  // namespace

Litert::Litert(const std::string& path, int accelerators) {
  load(path);
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  const EnvironmentOption options[] = {{kDispatchLibraryFolder, kText, folder.c_str()},
                                       {kRuntimeLibraryFolder, kText, folder.c_str()}};
  const int count = accelerators == kCpu || folder.empty() ? 0 : 2;
  check(api.LiteRtCreateEnvironment(count, count ? options : nullptr, &environment), "LiteRtCreateEnvironment");
}

Litert::~Litert() {
  if (environment) api.LiteRtDestroyEnvironment(environment);
}

void Litert::load(const std::string& path) {
  const char* variable = std::getenv("HAR_LITERT_LIBRARY");
  std::string name = !path.empty() ? path : variable ? variable : "";
  if (name.empty()) {
    const std::string beside = program_folder() + "/" + kName;
    std::error_code ignored;
    name = std::filesystem::exists(beside, ignored) ? beside : kName;
  } else if (name.find('/') == std::string::npos) {
    name = "./" + name;  // a file of this folder, not of the search path
  }
  library_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library_) {
    const char* reason = dlerror();
    throw Exit{kMissing, "LiteRT's library cannot be loaded: " + std::string(reason ? reason : name) + "; " + kRemedy};
  }
  const auto get = [&](const char* function, auto& place) { find(library_, function, name, place); };
#define HAR_FUNCTION(function) get(#function, api.function)
  HAR_FUNCTION(LiteRtCreateEnvironment);
  HAR_FUNCTION(LiteRtDestroyEnvironment);
  HAR_FUNCTION(LiteRtGetNumAccelerators);
  HAR_FUNCTION(LiteRtGetAccelerator);
  HAR_FUNCTION(LiteRtGetAcceleratorHardwareSupport);
  HAR_FUNCTION(LiteRtDestroyModel);
  HAR_FUNCTION(LiteRtGetNumModelSignatures);
  HAR_FUNCTION(LiteRtGetModelSignature);
  HAR_FUNCTION(LiteRtGetSignatureSubgraph);
  HAR_FUNCTION(LiteRtGetNumSubgraphOps);
  HAR_FUNCTION(LiteRtGetNumSignatureInputs);
  HAR_FUNCTION(LiteRtGetNumSignatureOutputs);
  HAR_FUNCTION(LiteRtGetSignatureInputName);
  HAR_FUNCTION(LiteRtGetSignatureOutputName);
  HAR_FUNCTION(LiteRtGetSignatureInputTensorByIndex);
  HAR_FUNCTION(LiteRtGetSignatureOutputTensorByIndex);
  HAR_FUNCTION(LiteRtGetRankedTensorType);
  HAR_FUNCTION(LiteRtCreateOptions);
  HAR_FUNCTION(LiteRtDestroyOptions);
  HAR_FUNCTION(LiteRtSetOptionsHardwareAccelerators);
  HAR_FUNCTION(LiteRtCreateOpaqueOptions);
  HAR_FUNCTION(LiteRtAddOpaqueOptions);
  HAR_FUNCTION(LiteRtCreateCompiledModel);
  HAR_FUNCTION(LiteRtDestroyCompiledModel);
  HAR_FUNCTION(LiteRtRunCompiledModel);
  HAR_FUNCTION(LiteRtGetCompiledModelInputBufferRequirements);
  HAR_FUNCTION(LiteRtGetCompiledModelOutputBufferRequirements);
  HAR_FUNCTION(LiteRtCreateManagedTensorBufferFromRequirements);
  HAR_FUNCTION(LiteRtDestroyTensorBuffer);
  HAR_FUNCTION(LiteRtGetTensorBufferPackedSize);
  HAR_FUNCTION(LiteRtLockTensorBuffer);
  HAR_FUNCTION(LiteRtUnlockTensorBuffer);
  HAR_FUNCTION(LiteRtCompiledModelIsFullyAccelerated);
  HAR_FUNCTION(LiteRtCompiledModelGetProfiler);
  HAR_FUNCTION(LiteRtStartProfiler);
  HAR_FUNCTION(LiteRtStopProfiler);
  HAR_FUNCTION(LiteRtGetNumProfilerEvents);
  HAR_FUNCTION(LiteRtGetProfilerEvents);
#undef HAR_FUNCTION
  // Until 2.1.2 options were functions; those releases ignore the texts of CompiledModel::compile.
  if (dlsym(library_, "LiteRtCreateCpuOptions")) {
    throw Exit{kMissing, name + " is a LiteRT before 2.1.3, whose options differ; " + kRemedy};
  }
  // 2.1.6 added the environment to LiteRtCreateModelFromFile, and LiteRtCreateModelFromFd; 2.1.5 has neither.
  model_needs_environment_ = dlsym(library_, "LiteRtCreateModelFromFd");
  Dl_info info{};
  void* known = dlsym(library_, "LiteRtCreateEnvironment");
  path_ = dladdr(known, &info) && info.dli_fname ? info.dli_fname : name;
}

void Litert::check(int status, const char* function) const {
  if (status) throw Exit{kDefect, std::string(function) + " of LiteRT failed with status " + std::to_string(status)};
}

std::string Litert::version() const {
  try {
    return std::filesystem::path(path_).filename().string() + " " + file_sha256(path_).substr(0, 12);
  } catch (const Exit&) {
    return "unknown";
  }
}

void Litert::require_accelerator(int kind, const std::string& name) const {
  size_t count = 0;
  check(api.LiteRtGetNumAccelerators(environment, &count), "LiteRtGetNumAccelerators");
  for (size_t i = 0; i < count; ++i) {
    void* accelerator = nullptr;
    int supported = 0;
    check(api.LiteRtGetAccelerator(environment, i, &accelerator), "LiteRtGetAccelerator");
    check(api.LiteRtGetAcceleratorHardwareSupport(accelerator, &supported), "LiteRtGetAcceleratorHardwareSupport");
    if (supported & kind) return;
  }
  throw Exit{kMissing, "this LiteRT has no accelerator '" + name + "': its library (" +
                           (kind == kGpu ? "libLiteRt*Accelerator.so" : "libLiteRtDispatch_*.so and the chip's") +
                           ") is not beside libLiteRt.so, or the device lacks what it needs; use --accelerator cpu"};
}

void* Litert::open_model(const std::string& path) const {
  void* symbol = dlsym(library_, "LiteRtCreateModelFromFile");
  if (!symbol) throw Exit{kMissing, path_ + " has no function LiteRtCreateModelFromFile; " + kRemedy};
  void* model = nullptr;
  int status;
  if (model_needs_environment_) {
    int (*create)(void*, const char*, void**);
    std::memcpy(&create, &symbol, sizeof symbol);
    status = create(environment, path.c_str(), &model);
  } else {
    int (*create)(const char*, void**);
    std::memcpy(&create, &symbol, sizeof symbol);
    status = create(path.c_str(), &model);
  }
  if (status || !model) {
    throw Exit{kBadData, path + " is no TFLite model that LiteRT reads (status " + std::to_string(status) +
                             "); export the artifact again"};
  }
  return model;
}

CompiledModel::CompiledModel(const Litert& litert, const std::string& path, const Settings& settings)
    : litert_(litert) {
  try {
    compile(path, settings);
    make_tensors(true, inputs_, input_buffers_);
    make_tensors(false, outputs_, output_buffers_);
  } catch (...) {
    release();
    throw;
  }
}

CompiledModel::~CompiledModel() { release(); }

void CompiledModel::release() {
  for (void* buffer : input_buffers_) litert_.api.LiteRtDestroyTensorBuffer(buffer);
  for (void* buffer : output_buffers_) litert_.api.LiteRtDestroyTensorBuffer(buffer);
  if (compiled_) litert_.api.LiteRtDestroyCompiledModel(compiled_);
  if (model_) litert_.api.LiteRtDestroyModel(model_);
}

void CompiledModel::compile(const std::string& path, const Settings& settings) {
  const LitertFunctions& api = litert_.api;
  model_ = litert_.open_model(path);
  size_t signatures = 0;
  litert_.check(api.LiteRtGetNumModelSignatures(model_, &signatures), "LiteRtGetNumModelSignatures");
  if (signatures == 0) throw Exit{kBadData, path + " has no signature; export the artifact again"};
  litert_.check(api.LiteRtGetModelSignature(model_, 0, &signature_), "LiteRtGetModelSignature");
  void* options = nullptr;
  litert_.check(api.LiteRtCreateOptions(&options), "LiteRtCreateOptions");
  litert_.check(api.LiteRtSetOptionsHardwareAccelerators(options, settings.accelerators),
                "LiteRtSetOptionsHardwareAccelerators");
  if (settings.profile) add_option(options, "runtime_options_string", "enable_profiling = true\n");
  add_option(options, "xnnpack", "num_threads = " + std::to_string(settings.threads) + "\n" +
                                     (settings.builtins ? "kernel_mode = 2\n" : ""));
  const int status = api.LiteRtCreateCompiledModel(litert_.environment, model_, options, &compiled_);
  api.LiteRtDestroyOptions(options);
  if (status || !compiled_) {
    throw Exit{kBadData, "LiteRT refuses " + path + " with this accelerator (status " + std::to_string(status) +
                             "); see its messages on standard error"};
  }
}

// The options own the text and free it.
void CompiledModel::add_option(void* options, const char* group, const std::string& text) const {
  char* copy = strdup(text.c_str());
  void* option = nullptr;
  litert_.check(litert_.api.LiteRtCreateOpaqueOptions(group, copy, std::free, &option), "LiteRtCreateOpaqueOptions");
  litert_.check(litert_.api.LiteRtAddOpaqueOptions(options, option), "LiteRtAddOpaqueOptions");
}

void CompiledModel::make_tensors(bool inputs, std::vector<Tensor>& tensors, std::vector<void*>& buffers) const {
  const LitertFunctions& api = litert_.api;
  const auto count_of = inputs ? api.LiteRtGetNumSignatureInputs : api.LiteRtGetNumSignatureOutputs;
  const auto name_of = inputs ? api.LiteRtGetSignatureInputName : api.LiteRtGetSignatureOutputName;
  const auto tensor_of = inputs ? api.LiteRtGetSignatureInputTensorByIndex : api.LiteRtGetSignatureOutputTensorByIndex;
  const auto needs_of = inputs ? api.LiteRtGetCompiledModelInputBufferRequirements
                               : api.LiteRtGetCompiledModelOutputBufferRequirements;
  size_t count = 0;
  litert_.check(count_of(signature_, &count), "LiteRtGetNumSignatureInputs or Outputs");
  for (size_t i = 0; i < count; ++i) {
    const char* name = nullptr;
    void *tensor = nullptr, *needs = nullptr, *buffer = nullptr;
    alignas(8) unsigned char type[kTensorTypeBytes] = {};
    litert_.check(name_of(signature_, i, &name), "LiteRtGetSignatureInputName or OutputName");
    litert_.check(tensor_of(signature_, i, &tensor), "LiteRtGetSignatureInput or OutputTensorByIndex");
    litert_.check(api.LiteRtGetRankedTensorType(tensor, type), "LiteRtGetRankedTensorType");
    litert_.check(needs_of(compiled_, 0, i, &needs), "LiteRtGetCompiledModelInput or OutputBufferRequirements");
    litert_.check(api.LiteRtCreateManagedTensorBufferFromRequirements(litert_.environment, type, needs, &buffer),
                  "LiteRtCreateManagedTensorBufferFromRequirements");
    buffers.push_back(buffer);
    Tensor result{name ? name : "", 0, 0, buffer};
    std::memcpy(&result.element_type, type, sizeof result.element_type);
    litert_.check(api.LiteRtGetTensorBufferPackedSize(buffer, &result.bytes), "LiteRtGetTensorBufferPackedSize");
    tensors.push_back(std::move(result));
  }
}

void CompiledModel::run() {
  litert_.check(litert_.api.LiteRtRunCompiledModel(compiled_, 0, input_buffers_.size(), input_buffers_.data(),
                                                   output_buffers_.size(), output_buffers_.data()),
                "LiteRtRunCompiledModel");
}

int64_t CompiledModel::operations() const {
  void* graph = nullptr;
  size_t count = 0;
  litert_.check(litert_.api.LiteRtGetSignatureSubgraph(signature_, &graph), "LiteRtGetSignatureSubgraph");
  litert_.check(litert_.api.LiteRtGetNumSubgraphOps(graph, &count), "LiteRtGetNumSubgraphOps");
  return static_cast<int64_t>(count);
}

int64_t CompiledModel::operations_run_by_litert() {
  const LitertFunctions& api = litert_.api;
  void* profiler = nullptr;
  litert_.check(api.LiteRtCompiledModelGetProfiler(compiled_, &profiler), "LiteRtCompiledModelGetProfiler");
  if (!profiler) return -1;
  litert_.check(api.LiteRtStartProfiler(profiler), "LiteRtStartProfiler");
  run();
  litert_.check(api.LiteRtStopProfiler(profiler), "LiteRtStopProfiler");
  int count = 0;
  litert_.check(api.LiteRtGetNumProfilerEvents(profiler, &count), "LiteRtGetNumProfilerEvents");
  if (count < 1 || count >= kProfileCapacity) return -1;
  std::vector<ProfiledEvent> events(2 * static_cast<size_t>(count));  // another release's events may be longer
  litert_.check(api.LiteRtGetProfilerEvents(profiler, count, events.data()), "LiteRtGetProfilerEvents");
  int64_t operators = 0;
  for (int i = 0; i < count; ++i) {
    const int kind = events[static_cast<size_t>(i)].kind;
    if (kind < 1 || kind > kHighestEvent || (kind & (kind - 1)) != 0) return -1;
    operators += kind == kOperatorEvent;
  }
  bool all_delegated = false;
  litert_.check(api.LiteRtCompiledModelIsFullyAccelerated(compiled_, &all_delegated),
                "LiteRtCompiledModelIsFullyAccelerated");
  return operators <= operations() && all_delegated == (operators == 0) ? operators : -1;
}

}  // namespace har_native
