"""Time of the preprocessing in C++ beside NumPy on one thread: `python -m benchmarks.native`.

Both run in turn, in blocks, as in `benchmarks.preprocessing`, on the same recording; results are compared before the
clock starts. int8 is what a quantized model takes: NumPy quantizes its float tensor, the library writes int8 itself.
The library is that of android_bench/native; its README says how to build it.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.preprocessing import (
    AGREEMENT,
    add_timing_options,
    chosen_spec,
    moving_person,
    noise,
    run_on_one_thread,
    summary,
    time_in_turn,
    warn_of_spread,
)
from benchmarks.provenance import provenance
from benchmarks.result_files import write_result
from console.program import make_parser, show, show_json
from console.table import format_table
from preprocess.errors import AnswerIsNo, DataError, MissingComponentError

if TYPE_CHECKING:
    import numpy.typing as npt

    from preprocess import PreprocessSpec
    from runtime.manifest import TensorInfo

    Array = npt.NDArray[Any]
    Group = dict[str, Callable[[], Array]]

SCHEMA_VERSION = 1
DEFAULT_OUT = Path("benchmarks/results/native.json")
DEFAULT_LIBRARY = Path("build/native/libpocket_har.so")
_BUILD = "cmake -S android_bench/native -B build/native && cmake --build build/native --target har_shared"
_TYPES = {"float32": 0, "int8": 1}  # HAR_FLOAT32, HAR_INT8 of har.h
_SKELETON_STEP = (1 / 255, -128)  # scale and zero point: heatmaps lie in [0, 1]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark in a process whose libraries use one thread each."""
    return run_on_one_thread("benchmarks.native", _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.native", "Times the preprocessing in C++ and in NumPy on one thread.")
    parser.add_argument(
        "--library", type=Path, default=DEFAULT_LIBRARY, metavar="FILE", help=f"default: {DEFAULT_LIBRARY}"
    )
    add_timing_options(parser, DEFAULT_OUT)
    parser.set_defaults(handler=_run)
    return parser


def _run(options: argparse.Namespace) -> None:
    spec = chosen_spec(options)
    native = NativeLibrary(options.library)
    groups = _groups(native, spec, options.seed)
    differences = {f"{name}, {dtype}": _difference(name, dtype, group) for (name, dtype), group in groups.items()}
    results = [
        {"input": name, "type": dtype, "code": code, **summary(samples)}
        for (name, dtype), group in groups.items()
        for code, samples in time_in_turn(group, options.runs).items()
    ]
    command = f"python -m benchmarks.native --preset {options.preset} --runs {options.runs} --seed {options.seed}"
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "native",
        "provenance": provenance(command, packages=("numpy",)),
        "preset": options.preset,
        "seed": options.seed,
        "threads": 1,
        "kernels": native.kernels,
        "largest_difference": differences,
        "results": results,
    }
    write_result(document, options.out)
    warn_of_spread(results, ("input", "type"))
    if options.json:
        show_json(document)
    else:
        show(native_table(document))


def native_table(document: dict[str, Any]) -> str:
    """Medians of both, and how many times faster C++ is, for every input and type of numbers."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for own in document["results"]:
        found.setdefault((own["input"], own["type"]), {})[own["code"]] = own
    rows = []
    for (name, dtype), by_code in found.items():
        ours, other = by_code["C++"], by_code["NumPy"]
        pairs = [(own["median_ms"], own["first_of_block_median_ms"]) for own in (other, ours)]
        cells = [f"{first:.2f} ms ({cold:.2f})" for first, cold in pairs]
        rows.append([name, dtype, *cells, f"{other['median_ms'] / ours['median_ms']:.1f}×"])
    kernels = f"C++, {document['kernels']} (first after a pause)"
    return format_table(["input", "type", "NumPy (first after a pause)", kernels, "faster"], rows)


class NativeLibrary:
    """`libpocket_har.so` through the C interface of har.h.

    Raises:
        MissingComponentError: it is not there.
        DataError: it does not load.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MissingComponentError(f"{path} does not exist; run `{_BUILD}`, or name the library with --library")
        try:
            self._library = ctypes.CDLL(str(path.resolve()))
            self._library.har_kernels.restype = ctypes.c_char_p
            self._library.har_error.restype = ctypes.c_char_p
            self.kernels: str = self._library.har_kernels().decode()
        except (OSError, AttributeError) as error:
            raise DataError(f"{path} is no libpocket_har.so of this machine: {error}; build it again") from error

    def open(self, manifest: str) -> ctypes.c_void_p:
        """A handle, for the life of the process."""
        handle, reason, text = ctypes.c_void_p(), ctypes.create_string_buffer(400), manifest.encode()
        size = ctypes.c_size_t
        if self._library.har_create(text, size(len(text)), ctypes.byref(handle), reason, size(len(reason))):
            raise DataError(f"the library refuses the specification: {reason.value.decode()}")
        return handle

    def heatmaps(self, handle: ctypes.c_void_p, joints: Array, confidence: Array, out: Array) -> Array:
        """`har_heatmaps` of float32 joints and confidence into `out`."""
        frames, bodies = confidence.shape[:2]
        status = self._library.har_heatmaps(
            handle, _address(joints), _address(confidence), ctypes.c_int64(frames), ctypes.c_int32(bodies), None,
            _TYPES[out.dtype.name], _address(out), ctypes.c_size_t(out.nbytes), None,
        )  # fmt: skip
        return self._checked(status, handle, out)

    def logmel(self, handle: ctypes.c_void_p, waveform: Array, rate_hz: int, out: Array) -> Array:
        """`har_logmel` of a float32 waveform into `out`."""
        status = self._library.har_logmel(
            handle, _address(waveform), ctypes.c_int64(waveform.size), ctypes.c_int32(rate_hz), _TYPES[out.dtype.name],
            _address(out), ctypes.c_size_t(out.nbytes),
        )  # fmt: skip
        return self._checked(status, handle, out)

    def _checked(self, status: int, handle: ctypes.c_void_p, out: Array) -> Array:
        if status:
            raise DataError(f"the library failed: {self._library.har_error(handle).decode()}")
        return out


def _address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _groups(native: NativeLibrary, spec: PreprocessSpec, seed: int) -> dict[tuple[str, str], Group]:
    """By input and type of numbers: the same work by NumPy and by the library."""
    import numpy as np

    from preprocess import skeleton_to_heatmaps, waveform_to_logmel
    from runtime.manifest import TensorInfo
    from runtime.runners import quantize

    joints, confidence = moving_person(seed)
    waveform = noise(spec.audio, seed)
    decibels = waveform_to_logmel(waveform, spec.audio)
    step = float(decibels.max() - decibels.min()) / 255
    inputs = (
        TensorInfo("skeleton", (1, *spec.skeleton.shape), "int8", *_SKELETON_STEP),
        TensorInfo("audio", (1, *spec.audio.shape), "int8", step, round(-128 - float(decibels.min()) / step)),
    )
    handle = native.open(_manifest(spec, inputs))

    def numpy_heatmaps() -> Array:
        return skeleton_to_heatmaps(joints, confidence, spec.skeleton).tensor

    def numpy_logmel() -> Array:
        return waveform_to_logmel(waveform, spec.audio)

    groups: dict[tuple[str, str], Group] = {}
    for dtype in _TYPES:
        maps, sound = np.empty(spec.skeleton.shape, dtype), np.empty(spec.audio.shape, dtype)
        whole = dtype == "float32"
        groups["heatmaps", dtype] = {
            "NumPy": numpy_heatmaps if whole else lambda: quantize(numpy_heatmaps(), inputs[0]),
            "C++": lambda out=maps: native.heatmaps(handle, joints, confidence, out),  # type: ignore[misc]
        }
        groups["log-Mel", dtype] = {
            "NumPy": numpy_logmel if whole else lambda: quantize(numpy_logmel(), inputs[1]),
            "C++": lambda out=sound: native.logmel(  # type: ignore[misc]
                handle, waveform, spec.audio.sample_rate_hz, out
            ),
        }
    return groups


def _manifest(spec: PreprocessSpec, inputs: tuple[TensorInfo, ...]) -> str:
    """The text of a manifest of which only the specification and the inputs matter."""
    from runtime.manifest import Manifest

    return Manifest(
        name="native",
        format="tflite",
        model_file="model.tflite",
        sha256="",
        size_bytes=0,
        preset="",
        recipe="static_wi8_ai8",
        target="xnnpack",
        preprocess=spec.to_dict(),
        labels=(),
        inputs=inputs,
        outputs=(),
        calibration=None,
        cost={},
        search=None,
        verification={},
        measurement=None,
        checkpoint={},
        golden=(),
        versions={},
        command="",
    ).to_json()


def _difference(name: str, dtype: str, group: Group) -> float:
    """The largest between the two, in map units, dB, or steps of int8.

    Raises:
        AnswerIsNo: it is larger than rounding explains.
    """
    import numpy as np

    theirs, ours = (np.asarray(run(), np.float64) for run in group.values())
    difference = float(np.abs(ours - theirs).max())
    limit = AGREEMENT[name] if dtype == "float32" else 1.0
    if not difference <= limit:
        raise AnswerIsNo(f"{name} in {dtype} differs from NumPy by {difference:.3g}, more than {limit:g}; not timed")
    return difference


if __name__ == "__main__":
    raise SystemExit(main())
