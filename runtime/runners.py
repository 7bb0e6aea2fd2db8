"""Model files in the runtimes that people deploy: LiteRT, tflite-runtime, ONNX Runtime.

Every runner takes float32 tensors and returns float32 logits; it quantizes inputs and dequantizes outputs itself.
"""

from __future__ import annotations

import abc
import importlib
import importlib.util
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from console.child import Server
from preprocess.errors import DataError, MissingComponentError

from .manifest import TensorInfo
from .npu import npu_session

Array = npt.NDArray[Any]
EMULATOR = "qnn-htp"  # of Snapdragon's NPU, see `runtime.npu`
RUNTIMES = {
    "litert": "ai_edge_litert",
    "tflite-runtime": "tflite_runtime",
    "onnxruntime": "onnxruntime",
    EMULATOR: "onnxruntime_qnn",
}
# Without the emulator, which is a thousand times slower than a processor.
RUNTIMES_OF_FORMAT = {"tflite": ("litert", "tflite-runtime"), "onnx": ("onnxruntime",)}
_ISOLATED = ("tflite-runtime", EMULATOR)


class Runner(Protocol):
    """A loaded model file. Calling it maps {name: float32 [1, ...]} to logits float32 [classes]."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def __call__(self, tensors: dict[str, Array]) -> Array: ...


def is_installed(runtime: str) -> bool:
    return importlib.util.find_spec(RUNTIMES[runtime]) is not None


def require_installed(runtime: str) -> None:
    """Raises MissingComponentError when the runtime is not installed."""
    if not is_installed(runtime):
        raise MissingComponentError(f"runtime {runtime} is not installed; run `pip install {distribution_of(runtime)}`")


def distribution_of(runtime: str) -> str:
    """Name of a runtime's package for pip."""
    return RUNTIMES[runtime].replace("_", "-")


def open_model(path: Path, runtime: str, *, threads: int = 1, soc: str | None = None) -> Runner:
    """Loads a model file; `soc` is the chip whose NPU is emulated, None for the chip of a compiled file.

    Raises:
        DataError: the runtime cannot read the file.
        MissingComponentError: the runtime is not installed.
    """
    require_installed(runtime)
    try:
        if runtime in _ISOLATED:
            return IsolatedRunner(path, runtime, threads=threads, soc=soc)
        return open_here(path, runtime, threads=threads)
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{runtime} cannot load {path}: {error}") from error


def open_here(
    path: Path, runtime: str, *, threads: int, weight_cache: Path | None = None, soc: str | None = None
) -> LocalRunner:
    """Loads a model file in this process; `weight_cache`: see `MappedRunner`, `soc`: see `open_model`."""
    if weight_cache:
        return MappedRunner(path, threads=threads, weight_cache=weight_cache)
    if runtime == "onnxruntime":
        return OnnxRunner(_cpu_session(path, threads))
    if runtime == EMULATOR:
        return OnnxRunner(npu_session(path, soc))
    return TfliteRunner(path, runtime, threads=threads)


class LocalRunner(abc.ABC):
    """A model file in this process. A call has three steps, so that a clock can measure the second alone."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @abc.abstractmethod
    def load(self, tensors: dict[str, Array]) -> None:
        """Copies {name: [1, ...]} into the runtime's inputs, float32 or in the type of the file."""

    @abc.abstractmethod
    def invoke(self) -> None:
        """Runs the model."""

    @abc.abstractmethod
    def output(self) -> Array:
        """Logits of the last run, float32 [classes]."""

    def __call__(self, tensors: dict[str, Array]) -> Array:
        self.load(tensors)
        self.invoke()
        return self.output()


class TfliteRunner(LocalRunner):
    """A TFLite file in LiteRT or in tflite-runtime."""

    def __init__(self, path: Path, runtime: str, *, threads: int) -> None:
        # The modules have the same interface; each carries its own native library.
        interpreter_module = importlib.import_module(f"{RUNTIMES[runtime]}.interpreter")
        self._interpreter = interpreter_module.Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._in = {d["name"]: d["index"] for d in self._interpreter.get_input_details()}
        self._out = self._interpreter.get_output_details()[0]["index"]
        self.inputs = tuple(_tflite_tensor(d) for d in self._interpreter.get_input_details())
        self.outputs = tuple(_tflite_tensor(d) for d in self._interpreter.get_output_details())

    def load(self, tensors: dict[str, Array]) -> None:
        for info in self.inputs:
            self._interpreter.set_tensor(self._in[info.name], quantize(tensors[info.name], info))

    def invoke(self) -> None:
        self._interpreter.invoke()

    def output(self) -> Array:
        return dequantize(self._interpreter.get_tensor(self._out)[0], self.outputs[0])


class MappedRunner(LocalRunner):
    """A TFLite file in LiteRT that holds its weights once, in pages that the system may drop.

    XNNPACK reorders weights for its kernels. Here the reordered weights lie in a mapped file, and those of the model
    file are not read again; otherwise both are in memory. The cache file is written at the first use and belongs to
    this model, this release of LiteRT and this kind of processor.
    """

    def __init__(self, path: Path, *, threads: int, weight_cache: Path) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.options import CpuOptions, Options

        cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=os.fspath(weight_cache))
        self._model = CompiledModel.from_file(os.fspath(path), options=Options(cpu_options=cpu))
        self._signature, names = next(iter(self._model.get_signature_list().items()))
        quantization = _quantization(path)
        self.inputs, self.outputs = (
            tuple(
                TensorInfo(name, tuple(d["shape"]), d["dtype"], *quantization[d["index"]])
                for name, d in details(self._signature).items()
            )
            for details in (self._model.get_input_tensor_details, self._model.get_output_tensor_details)
        )
        self._in = {name: self._model.create_input_buffer_by_name(self._signature, name) for name in names["inputs"]}
        self._out = {name: self._model.create_output_buffer_by_name(self._signature, name) for name in names["outputs"]}

    def load(self, tensors: dict[str, Array]) -> None:
        for info in self.inputs:
            self._in[info.name].write(quantize(tensors[info.name], info))

    def invoke(self) -> None:
        self._model.run_by_name(self._signature, self._in, self._out)

    def output(self) -> Array:
        info = self.outputs[0]
        stored = self._out[info.name].read(int(np.prod(info.shape)), np.dtype(info.dtype))
        return dequantize(stored.reshape(info.shape)[0], info)


class OnnxRunner(LocalRunner):
    """A session of ONNX Runtime on any execution provider."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(map(_onnx_tensor, session.get_inputs()))
        self.outputs = tuple(map(_onnx_tensor, session.get_outputs()))
        self._feed: dict[str, Array] = {}
        self._logits: Array = np.zeros(0, np.float32)

    def load(self, tensors: dict[str, Array]) -> None:
        self._feed = {info.name: tensors[info.name] for info in self.inputs}

    def invoke(self) -> None:
        self._logits = self._session.run([self.outputs[0].name], self._feed)[0]

    def output(self) -> Array:
        logits: Array = self._logits[0]
        return logits


def _cpu_session(path: Path, threads: int) -> Any:
    """A session of ONNX Runtime on the CPU. Raises ValueError when the file does not load."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Otherwise its threads spin for about 30 ms after every inference and block cores that other processes need.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no other base in common
        raise ValueError(str(error)) from error


class IsolatedRunner:
    """A model file in a process of its own.

    tflite-runtime's native library crashes where TensorFlow is loaded; Qualcomm's writes on standard output.
    """

    def __init__(self, path: Path, runtime: str, *, threads: int, soc: str | None = None) -> None:
        words = (os.fspath(path.absolute()), runtime, threads, soc)
        self._server = Server("runtime.runners:serve_runner", *words, what=f"{runtime} with {path.name}")
        self._server.ready()
        self.inputs, self.outputs = self._server.ask(None)

    def __call__(self, tensors: dict[str, Array]) -> Array:
        logits: Array = self._server.ask(tensors)
        return logits


def serve_runner(path: str, runtime: str, threads: int, soc: str | None) -> Callable[[Any], Any]:
    """The function of the isolated process: tensors to logits, None to the tensors of the file."""
    runner = open_here(Path(path), runtime, threads=threads, soc=soc)
    return lambda tensors: (runner.inputs, runner.outputs) if tensors is None else runner(tensors)


def quantize(values: Array, info: TensorInfo) -> Array:
    """Converts float values to the type of the tensor: rounds to nearest, saturates. Stored values pass unchanged."""
    if values.dtype == info.dtype:
        return values
    if info.dtype == "float32":
        return np.asarray(values, dtype=np.float32)
    limits = np.iinfo(info.dtype)
    steps: Array = np.rint(values / np.float32(info.scale)) + info.zero_point
    return np.clip(steps, limits.min, limits.max).astype(info.dtype)


def dequantize(stored: Array, info: TensorInfo) -> Array:
    """Converts stored values to float32, the inverse of `quantize` up to rounding."""
    if info.dtype == "float32":
        return stored
    values: Array = (stored.astype(np.float32) - info.zero_point) * np.float32(info.scale)
    return values


def _quantization(path: Path) -> list[tuple[float, int]]:
    """Scale and zero point of every tensor by index, (0, 0) for a float tensor; reads a few pages of the file."""
    from ai_edge_litert import schema_py_generated as schema

    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
        stored = [graph.Tensors(i).Quantization() for i in range(graph.TensorsLength())]
        scales = [(q.Scale(0), q.ZeroPoint(0)) if q and q.ScaleLength() else (0.0, 0) for q in stored]
        del graph, stored  # they refer to the mapping
    return scales


def _tflite_tensor(detail: dict[str, Any]) -> TensorInfo:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(n) for n in detail["shape"])
    return TensorInfo(detail["name"], shape, np.dtype(detail["dtype"]).name, float(scale), int(zero_point))


def _onnx_tensor(node: Any) -> TensorInfo:
    names = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}
    return TensorInfo(node.name, tuple(node.shape), names.get(node.type, node.type))
