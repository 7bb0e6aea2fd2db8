"""Time of every operation of a TFLite file, from LiteRT's profiler during complete inferences.

Profiling takes time, so an inference is a little slower here than in `runtime.measure`. The profiler is reached through
the C interface of the library in LiteRT's wheel; the Python package has no interface to it. Functions, options and the
event's structure are those of LiteRT 2.3 (litert/c/litert_profiler.h and litert_profiler_event.h in
github.com/google-ai-edge/LiteRT). The library is another copy of the runtime in `runtime.runners`, with the same
kernels. XNNPACK's events are its operators in the order of its partition of the graph; `name_events` maps them to the
file's layers.
"""

from __future__ import annotations

import ctypes
import importlib.util
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from console.child import run_function
from preprocess.errors import DataError
from runtime.blocks import plain_name

from .file_cost import TfliteFile, read_tflite_graph

_WARMUP, _RUNS = 3, 30
_CPU, _WRITE, _FLOAT32 = 1, 1, 1  # kLiteRtHwAcceleratorCpu, kLiteRtTensorBufferLockModeWrite, kLiteRtElementTypeFloat32
_OPERATOR, _DELEGATED = 1 << 1, 1 << 3  # OPERATOR_INVOKE_EVENT, DELEGATE_PROFILED_OPERATOR_INVOKE_EVENT
_TENSOR_TYPE_BYTES = 512  # more than LiteRtRankedTensorType has

# XNNPACK's main operator for one of TFLite. Others come before (_BEFORE) or after it.
_MAIN = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), ("Convolution", "Fully Connected")),
    "BATCH_MATMUL": ("Batch Matrix Multiply",),
    "ADD": ("Add",),
    "SUB": ("Subtract",),
    "MUL": ("Multiply", "Square"),
    "GELU": ("GELU",),
    "RSQRT": ("Reciprocal Square Root",),
    "SOFTMAX": ("Softmax",),
    "MEAN": ("Mean", "Global Average Pooling"),
    "RESHAPE": ("Static Reshape", "Copy"),
    "TRANSPOSE": ("Transpose",),
    "PAD": ("Constant Pad",),
    "MAX_POOL_2D": ("Max Pooling",),
    "QUANTIZE": ("Convert",),
    "DEQUANTIZE": ("Convert",),
}
_BEFORE = ("Convert", "Pack")  # quantizes an activation at run time
_MAY_VANISH = ("PAD", "RESHAPE", "QUANTIZE", "DEQUANTIZE")  # merged into the next operator, or computed at load


@dataclass(frozen=True)
class LayerTime:
    """One operation of the runtime's graph.

    Attributes:
        name: of the layer in the file (`benchmarks.graph.file_cost`), or of the runtime's operation without a layer.
        op: the runtime's kind of operation; several for one layer are joined by ` + `.
        median_us: microseconds, median over the fastest quarter of the runs: other programs interrupt the slow ones.
        share: of the median time of a complete inference in those runs.
    """

    name: str
    op: str
    median_us: float
    share: float


def layer_times(path: Path, *, runs: int = _RUNS) -> list[LayerTime]:
    """Runs a `.tflite` file on random inputs in a fresh process, on one thread; layers in the order of execution.

    The shares add up to less than one: the rest of an inference is the runtime's work between operations. LiteRT
    truncates times to microseconds, so small operations appear too short, down to 0.

    Raises:
        DataError: LiteRT cannot run the file, or its profiler differs from that of the release this was written for.
    """
    words = [str(path.resolve()), runs]
    entries = run_function("benchmarks.graph.layer_time:profile", *words, what=f"profiling {path.name} in LiteRT")
    return [LayerTime(**entry) for entry in entries]


def profile(path: str, runs: int) -> list[dict[str, Any]]:
    """`layer_times` in this process."""
    profiler = LitertProfiler(Path(path))
    for _ in range(_WARMUP):
        profiler.run()
    recorded = [profiler.run() for _ in range(runs)]
    first = recorded[0][0]
    kinds = [(event.op, event.index, event.delegated) for event in first]
    if any([(event.op, event.index, event.delegated) for event in events] != kinds for events, _ in recorded):
        raise DataError("LiteRT ran other operations in some inferences than in the first")
    groups = name_events(first, Path(path))
    labels = [(name, " + ".join(first[i].op for i in members)) for name, members in groups]
    times = [[float(sum(events[i].us for i in members)) for _, members in groups] for events, _ in recorded]
    return [asdict(layer) for layer in summarise(labels, times, [total_us for _, total_us in recorded])]


def summarise(
    labels: Sequence[tuple[str, str]], times: Sequence[Sequence[float]], totals: Sequence[float]
) -> list[LayerTime]:
    """Medians over the fastest quarter of the runs.

    Args:
        labels: name and op of every operation.
        times: microseconds of every run and operation.
        totals: microseconds of every run.
    """
    quick = sorted(range(len(totals)), key=lambda run: totals[run])[: -(-len(totals) // 4)]
    total = statistics.median(totals[run] for run in quick)
    medians = [statistics.median(column) for column in zip(*(times[run] for run in quick), strict=True)]
    return [LayerTime(*label, us, us / total) for label, us in zip(labels, medians, strict=True)]


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_uint64 * 6),
        ("index", ctypes.c_uint64),
        ("detail", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


@dataclass(frozen=True)
class Event:
    """One executed operation.

    Attributes:
        op: TFLite's or XNNPACK's operator.
        index: of TFLite's operator in the file, or of XNNPACK's in its partition.
        delegated: XNNPACK computed it.
        us: whole microseconds.
    """

    op: str
    index: int
    delegated: bool
    us: int


class LitertProfiler:
    """A TFLite file in LiteRT with XNNPACK and random inputs, until the process ends.

    Raises:
        DataError: a call of the library failed.
    """

    def __init__(self, path: Path) -> None:
        package = importlib.util.find_spec("ai_edge_litert")
        assert package is not None
        assert package.origin is not None
        self._library = ctypes.CDLL(str(Path(package.origin).parent / "libLiteRt.so"))
        self._kept: list[Any] = []  # memory that the library refers to
        environment = self._new("LiteRtCreateEnvironment", ctypes.c_int(0), ctypes.c_void_p())
        model = self._new("LiteRtCreateModelFromFile", environment, ctypes.c_char_p(str(path).encode()))
        options = self._new("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(_CPU))
        self._add_option(options, "runtime_options_string", "enable_profiling = true\n")
        self._add_option(options, "xnnpack", "num_threads = 1\n")
        self._model = self._new("LiteRtCreateCompiledModel", environment, model, options)
        self._profiler = self._new("LiteRtCompiledModelGetProfiler", self._model)
        signature = self._new("LiteRtGetModelSignature", model, ctypes.c_size_t(0))
        self._buffers = [self._allocate(kind, environment, signature) for kind in ("Input", "Output")]

    def run(self) -> tuple[tuple[Event, ...], float]:
        """Operations of one inference, and its total time in microseconds."""
        words: list[Any] = [ctypes.c_size_t(0)]
        for buffers in self._buffers:
            words += [ctypes.c_size_t(len(buffers)), buffers]
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        start = time.perf_counter()
        self._call("LiteRtRunCompiledModel", self._model, *words)
        total_us = 1e6 * (time.perf_counter() - start)
        self._call("LiteRtStopProfiler", self._profiler)
        return self._events(), total_us

    def _events(self) -> tuple[Event, ...]:
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        return tuple(
            Event(event.tag.decode(), event.index, event.kind == _DELEGATED, event.elapsed_us)
            for event in events
            if event.kind in (_OPERATOR, _DELEGATED)
        )

    def _allocate(self, kind: str, environment: ctypes.c_void_p, signature: ctypes.c_void_p) -> Any:
        """Tensor buffers of all inputs, with random contents, or outputs."""
        count = ctypes.c_size_t()
        self._call(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(count))
        buffers = []
        for position in map(ctypes.c_size_t, range(count.value)):
            tensor = self._new(f"LiteRtGetSignature{kind}TensorByIndex", signature, position)
            tensor_type = ctypes.create_string_buffer(_TENSOR_TYPE_BYTES)
            self._call("LiteRtGetRankedTensorType", tensor, tensor_type)
            needs = self._new(
                f"LiteRtGetCompiledModel{kind}BufferRequirements", self._model, ctypes.c_size_t(0), position
            )
            buffer = self._new("LiteRtCreateManagedTensorBufferFromRequirements", environment, tensor_type, needs)
            if kind == "Input":
                self._fill(buffer, is_float=ctypes.c_int.from_buffer(tensor_type).value == _FLOAT32)
            buffers.append(buffer.value)
        return (ctypes.c_void_p * len(buffers))(*buffers)

    def _fill(self, buffer: ctypes.c_void_p, *, is_float: bool) -> None:
        size = ctypes.c_size_t()
        self._call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        rng = np.random.default_rng(0)
        content = rng.random(size.value // 4, dtype=np.float32).tobytes() if is_float else rng.bytes(size.value)
        address = ctypes.c_void_p()
        self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), ctypes.c_int(_WRITE))
        ctypes.memmove(address, content, len(content))
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def _add_option(self, options: ctypes.c_void_p, group: str, toml: str) -> None:
        text, release = ctypes.create_string_buffer(toml.encode()), ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_keep)
        self._kept += [text, release]
        option = self._new("LiteRtCreateOpaqueOptions", ctypes.c_char_p(group.encode()), text, release)
        self._call("LiteRtAddOpaqueOptions", options, option)

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise DataError(f"{function} of LiteRT failed with status {status}")

    def _new(self, function: str, *arguments: Any) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._call(function, *arguments, ctypes.byref(handle))
        return handle


def _keep(_: Any) -> None:
    """Python frees its memory itself."""


def name_events(events: Sequence[Event], path: Path) -> list[tuple[str, list[int]]]:
    """The events of one inference by layer of the file: its name and the positions of its events.

    If XNNPACK's operators do not match the file's, each is a layer `xnnpack/<partition>/<index>`.
    """
    file = read_tflite_graph(path)
    partitions = _partitions(file, {event.index for event in events if not event.delegated})
    named: list[tuple[str, list[int]]] = []
    number, position = -1, 0
    while position < len(events):
        event = events[position]
        if not event.delegated:
            named.append((_layer_name(file, event.index), [position]))
            position += 1
            continue
        end = position + 1
        while end < len(events) and events[end].delegated and events[end].index != 0:
            end += 1
        number += 1
        operators = partitions[number] if number < len(partitions) else []
        names = [event.op for event in events[position:end]]
        groups = align(names, [file.operators[i].op for i in operators])
        if groups is None:
            named += [(f"xnnpack/{number}/{events[i].index}", [i]) for i in range(position, end)]
        else:
            named += [(_layer_name(file, operators[i]), [position + j for j in members]) for i, members in groups]
        position = end
    return named


def _layer_name(file: TfliteFile, operator: int) -> str:
    return plain_name(file.tensors[file.operators[operator].outputs[0]].name)


def _partitions(file: TfliteFile, kept: set[int]) -> list[list[int]]:
    """Operators of every delegated partition; TFLite computes those in `kept` itself.

    As in TFLite's graph_info.cc: the first ready operator decides whether the next partition is delegated, and all
    operators of this kind that are ready, or become ready, join it.
    """
    written = {index for operator in file.operators for index in operator.outputs}
    waiting, partitions = list(range(len(file.operators))), []
    while waiting:
        turn: bool | None = None
        chosen = []
        for i in waiting:
            if all(index not in written for index in file.operators[i].inputs) and turn in (None, i in kept):
                turn = i in kept
                chosen.append(i)
                written -= set(file.operators[i].outputs)
        waiting = [i for i in waiting if i not in chosen]
        if not turn:
            partitions.append(chosen)
    return partitions


def align(events: Sequence[str], operators: Sequence[str]) -> list[tuple[int, list[int]]] | None:
    """Matches XNNPACK's operators to those of TFLite, both in the order of execution.

    Returns:
        (TFLite's operator, XNNPACK's operators) by position, or None if the two do not match.
    """
    groups: list[tuple[int, list[int]]] = []
    ahead: list[int] = []
    following = 0
    for position, event in enumerate(events):
        match = following
        while match < len(operators) and not event.startswith(_MAIN.get(operators[match], ())):
            match = match + 1 if operators[match] in _MAY_VANISH else len(operators)
        if match < len(operators):
            groups.append((match, [*ahead, position]))
            ahead, following = [], match + 1
        elif event.startswith(_BEFORE):
            ahead.append(position)
        elif groups and not ahead:
            groups[-1][1].append(position)
        else:
            return None
    complete = all(operator in _MAY_VANISH for operator in operators[following:])
    return groups if complete and not ahead else None
