// har_run: an artifact on a device, from raw recordings to logits. docs/har_run.md describes its output.

#include <cstdio>
#include <new>

#include "errors.hpp"
#include "lines.hpp"
#include "measure.hpp"
#include "placement.hpp"
#include "system.hpp"

namespace har_native {
namespace {

std::string count_text(int64_t count) { return count < 0 ? "null" : std::to_string(count); }

void check_model(const Artifact& artifact, const std::string& sha256) {
  if (sha256 != artifact.manifest.sha256) {
    throw Exit{kBadData, artifact.model_path + " is not the file that the manifest describes (SHA-256 " +
                             sha256.substr(0, 16) + "…); copy or export the artifact again"};
  }
}

void run(const Options& options) {
  const Artifact artifact(options.artifact);
  const Litert litert(options.library, kind_of(options.accelerator));
  std::vector<Recording> recordings;
  if (options.stream_seconds == 0) {
    for (const std::string& path : recordings_of(artifact.golden_folder)) {
      recordings.push_back(
          read_recording(path, artifact.handle.get(), artifact.has("skeleton"), artifact.has("audio")));
    }
  }
  const std::string sha256 = file_sha256(artifact.model_path);
  check_model(artifact, sha256);
  const std::string version = litert.version();

  const int64_t start_bytes = peak_bytes();
  PlacedModel placed(litert, artifact.model_path, options);
  Pipeline pipeline(artifact, *placed.model);
  write_line("{\"event\":\"start\",\"schema\":1,\"runtime\":\"litert\",\"runtime_version\":" + quoted(version) +
             ",\"model_sha256\":" + quoted(sha256) + ",\"kernels\":" + quoted(har_kernels()) + "}");
  const bool streaming = options.stream_seconds > 0;
  const Times times =
      streaming ? run_stream(pipeline, artifact, options) : run_recordings(pipeline, recordings, options);
  const int64_t bytes = peak_bytes();
  placed.model.reset();
  const Placement placement = find_placement(litert, artifact.model_path, options, placed.accelerators);
  write_line("{\"event\":\"result\",\"accelerator\":" + quoted(placement.accelerator) +
             ",\"delegated_ops\":" + count_text(placement.delegated) + ",\"total_ops\":" + count_text(placement.total) +
             ",\"preprocessing\":{\"samples_ms\":" + numbers(times.preprocessing_ms) +
             "},\"inference\":{\"samples_ms\":" + numbers(times.inference_ms) +
             "},\"vm_hwm_bytes\":" + std::to_string(bytes) + ",\"vm_hwm_start_bytes\":" + std::to_string(start_bytes) +
             (streaming ? ",\"stream_predictions\":" + std::to_string(times.inference_ms.size()) : "") + "}");
}

int run_program(int count, char** words) {
  try {
    const Options options = parse_options(count, words);
    if (options.help) {
      std::fputs(kUsageText, stderr);
      return 0;
    }
    run(options);
    return 0;
  } catch (const Exit& error) {
    write_error(error.message);
    return error.code;
  } catch (const Error& error) {
    write_error(error.message);
    return error.status == HAR_BAD_DATA ? kBadData : kDefect;
  } catch (const std::bad_alloc&) {
    write_error("there is not enough memory for this model; try a smaller one");
    return kDefect;
  } catch (const std::exception& error) {
    write_error(std::string("a defect of har_run: ") + error.what());
    return kDefect;
  }
}

}  // namespace
}  // namespace har_native

int main(int count, char** words) {
  har_native::claim_output();
  return har_native::run_program(count, words);
}
