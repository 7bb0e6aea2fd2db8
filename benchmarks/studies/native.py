"""Time of the preprocessing in C++ beside NumPy on one thread: `python -m benchmarks.native`.

Both run in turn, in blocks, on the same recording; results are compared before the
clock starts. int8 is what a quantized model takes: NumPy quantizes its float tensor, the library writes int8 itself.
The update of a stream is a frame and 1/30 s of sound, then both tensors of the window; NumPy computes the window anew.
The library is that of android_bench/native; its README says how to build it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.program import make_parser, show, show_json
from console.table import format_table
from preprocess.errors import AnswerIsNo
from runtime.native import Har, NativeLibrary, manifest_text

from ..measure.provenance import provenance
from ..measure.result_files import write_result
from .preprocessing import (
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

if TYPE_CHECKING:
    import numpy.typing as npt

    from preprocess import PreprocessSpec
    from runtime.manifest import TensorInfo

    Array = npt.NDArray[Any]
    Group = dict[str, Callable[[], tuple[Array, ...]]]

SCHEMA_VERSION = 1
DEFAULT_OUT = Path("benchmarks/results/native.json")
DEFAULT_LIBRARY = Path("build/native/libpocket_har.so")
_WINDOW_FRAMES = 90
_FRAMES_PER_S = 30
_SKELETON_STEP = (1 / 255, -128)  # scale and zero point: heatmaps lie in [0, 1]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark in a process whose libraries use one thread each."""
    return run_on_one_thread("benchmarks.studies.native", _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.studies.native", "Times the preprocessing in C++ and in NumPy on one thread.")
    parser.add_argument(
        "--library", type=Path, default=DEFAULT_LIBRARY, metavar="FILE", help=f"default: {DEFAULT_LIBRARY}"
    )
    add_timing_options(parser, DEFAULT_OUT)
    parser.set_defaults(handler=_run)
    return parser


def _run(options: argparse.Namespace) -> None:
    spec = chosen_spec(options)
    native = NativeLibrary(options.library)
    groups = _groups(native, spec, options.runs, options.seed)
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


def _groups(native: NativeLibrary, spec: PreprocessSpec, runs: int, seed: int) -> dict[tuple[str, str], Group]:
    """By input and type of numbers: the same work by NumPy and by the library."""
    import numpy as np

    from preprocess import skeleton_to_heatmaps, waveform_to_logmel
    from runtime.manifest import TensorInfo
    from runtime.runners import quantize

    joints, confidence = moving_person(seed)
    waveform = noise(spec.audio.samples, seed)
    decibels = waveform_to_logmel(waveform, spec.audio)
    step = float(decibels.max() - decibels.min()) / 255
    inputs = (
        TensorInfo("skeleton", (1, *spec.skeleton.shape), "int8", *_SKELETON_STEP),
        TensorInfo("audio", (1, *spec.audio.shape), "int8", step, round(-128 - float(decibels.min()) / step)),
    )
    har = native.open(manifest_text(spec, inputs))

    def numpy_heatmaps() -> Array:
        return skeleton_to_heatmaps(joints, confidence, spec.skeleton).tensor

    def numpy_logmel() -> Array:
        return waveform_to_logmel(waveform, spec.audio)

    maps, maps8 = np.empty(spec.skeleton.shape, np.float32), np.empty(spec.skeleton.shape, np.int8)
    sound, sound8 = np.empty(spec.audio.shape, np.float32), np.empty(spec.audio.shape, np.int8)
    rate = spec.audio.sample_rate_hz
    groups: dict[tuple[str, str], Group] = {
        ("heatmaps", "float32"): {
            "NumPy": lambda: (numpy_heatmaps(),),
            "C++": lambda: (har.heatmaps(joints, confidence, maps),),
        },
        ("log-Mel", "float32"): {
            "NumPy": lambda: (numpy_logmel(),),
            "C++": lambda: (har.logmel(waveform, rate, sound),),
        },
        ("heatmaps", "int8"): {
            "NumPy": lambda: (quantize(numpy_heatmaps(), inputs[0]),),
            "C++": lambda: (har.heatmaps(joints, confidence, maps8),),
        },
        ("log-Mel", "int8"): {
            "NumPy": lambda: (quantize(numpy_logmel(), inputs[1]),),
            "C++": lambda: (har.logmel(waveform, rate, sound8),),
        },
    }
    for bodies, people in ((1, "1 body"), (2, "2 bodies")):
        groups[f"update of a stream, {people}", "int8"] = _stream_group(har, spec, inputs, bodies, runs, seed)
    return groups


def _stream_group(
    har: Har,
    spec: PreprocessSpec,
    inputs: tuple[TensorInfo, ...],
    bodies: int,
    runs: int,
    seed: int,
) -> Group:
    """A full window that goes on by one frame: pushed and read by the library, computed anew by NumPy."""
    import numpy as np

    from preprocess import skeleton_to_heatmaps, waveform_to_logmel
    from runtime.runners import quantize

    one, seen = moving_person(seed)
    joints = np.concatenate([one + np.array([0.8 * body, 0, 0], np.float32) for body in range(bodies)], axis=1)
    confidence = np.repeat(seen, bodies, axis=1)
    rate, length, hop = spec.audio.sample_rate_hz, spec.audio.samples, spec.audio.hop_samples
    piece = rate // _FRAMES_PER_S
    filling = max(_WINDOW_FRAMES, -(-(length + hop) // piece))  # frames until the window is full
    waveform = noise((filling + 2 * runs) * piece, seed)
    maps, sound = np.empty(spec.skeleton.shape, np.int8), np.empty(spec.audio.shape, np.int8)
    stream = har.stream(_WINDOW_FRAMES, bodies)
    now = 0

    def push() -> None:
        nonlocal now
        own = now % len(joints)
        stream.push_frame(now, joints[own], confidence[own])
        stream.push_audio(waveform[now * piece : (now + 1) * piece], rate)
        now += 1

    def update() -> tuple[Array, ...]:
        push()
        return stream.heatmaps(maps), stream.logmel(sound)

    def anew() -> tuple[Array, ...]:
        """What the window holds after the next frame."""
        frames = np.arange(now + 1 - _WINDOW_FRAMES, now + 1) % len(joints)
        heatmaps = skeleton_to_heatmaps(joints[frames], confidence[frames], spec.skeleton).tensor
        end = (now + 1) * piece // hop * hop
        logmel = waveform_to_logmel(waveform[end - length : end], spec.audio)
        return quantize(heatmaps, inputs[0]), quantize(logmel, inputs[1])

    while now < filling:
        push()
    return {"NumPy": anew, "C++": update}


def _difference(name: str, dtype: str, group: Group) -> float:
    """The largest between the two, in map units, dB, or steps of int8.

    Raises:
        AnswerIsNo: it is larger than rounding explains.
    """
    import numpy as np

    theirs, ours = (run() for run in group.values())
    difference = max(
        float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()) for a, b in zip(ours, theirs, strict=True)
    )
    limit = AGREEMENT[name] if dtype == "float32" else 1.0
    if not difference <= limit:
        raise AnswerIsNo(f"{name} in {dtype} differs from NumPy by {difference:.3g}, more than {limit:g}; not timed")
    return difference


if __name__ == "__main__":
    raise SystemExit(main())
