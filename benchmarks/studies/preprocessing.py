"""`python -m benchmarks preprocessing`: time of the preprocessing on one thread, beside its peers.

NumPy is the reference; its peers are the C++ of android_bench/native (where it is built), a plain loop over joints and
limbs, and librosa. All run in turn, in blocks, so that the machine's other work meets all of them alike. The median is
that of a loop that preprocesses again and again; `first of block` is the median of the runs that follow other work and
find cold caches and memory that the system has taken back. Before the clock starts the results are compared: a fast
wrong answer is not measured. int8 is the input of a quantized model: NumPy quantizes its float tensor, the C++ writes
int8 itself. The update of a stream is a frame and 1/30 s of sound, then both tensors of the window, which NumPy
computes anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from console.child import Server
from console.program import log, warn
from console.table import format_table
from preprocess import HeatmapSpec, LogMelSpec, PreprocessSpec, skeleton_to_heatmaps, waveform_to_logmel
from preprocess.errors import AnswerIsNo
from runtime.manifest import TensorInfo
from runtime.native import Har, NativeLibrary, manifest_text
from runtime.runners import quantize

from ..measure.runner import THREAD_VARIABLES
from .study import Study

FloatArray: TypeAlias = npt.NDArray[np.float32]
# Implementations of one computation by their names; the first is NumPy.
Group: TypeAlias = dict[str, Callable[[], tuple[npt.NDArray[Any], ...]]]

DEFAULT_LIBRARY = Path("build/native/libpocket_har.so")
# Largest difference from NumPy: in map units and dB, and in steps of int8.
LIMITS = {("heatmaps", "float32"): 1e-4, ("log-Mel", "float32"): 1e-3}
_LIMIT_INT8 = 1.0
_WIDE_SPREAD = 0.10  # (p90 − p10) / median above which a timing is called unsteady

_BLOCK_RUNS = 5
_FRAMES = 100  # of the recording, about 3.3 s at Kinect's 30 frames a second
_WINDOW_FRAMES = 90
_FRAMES_PER_S = 30
_SKELETON_STEP = (1 / 255, -128)  # scale and zero point: heatmaps lie in [0, 1]

# A standing person in Kinect v2's order, metres: x to the side, y up.
_STANDING = (
    (0, 0), (0, 0.28), (0, 0.62), (0, 0.76), (-0.18, 0.5), (-0.26, 0.24), (-0.3, 0.02), (-0.31, -0.06), (0.18, 0.5),
    (0.26, 0.24), (0.3, 0.02), (0.31, -0.06), (-0.08, -0.02), (-0.1, -0.42), (-0.11, -0.8), (-0.12, -0.86),
    (0.08, -0.02), (0.1, -0.42), (0.11, -0.8), (0.12, -0.86), (0, 0.54), (-0.32, -0.13), (-0.27, -0.07), (0.32, -0.13),
    (0.27, -0.07),
)  # fmt: skip


def measure_preprocessing(options: argparse.Namespace) -> dict[str, Any]:
    """Compares and times, in a process whose libraries use one thread each.

    Raises:
        MissingComponentError, DataError: --library does not exist or does not load.
        AnswerIsNo: a result differs from NumPy's by more than rounding explains.
    """
    path: Path | None = options.library or (DEFAULT_LIBRARY if DEFAULT_LIBRARY.exists() else None)
    if path is None:
        log(f"without C++: {DEFAULT_LIBRARY} is not built, android_bench/native/README.md has the command")
    kernels = NativeLibrary(path).kernels if path else None
    with Server(
        "benchmarks.studies.preprocessing:serve_timings",
        options.preset,
        options.runs,
        options.seed,
        str(path.resolve()) if path else None,
        what="the process that times the preprocessing",
        environment=dict.fromkeys(THREAD_VARIABLES, "1"),
    ) as server:
        server.ready()
        differences = server.ask("differences")
        for (name, dtype), difference in differences.items():
            limit = LIMITS.get((name, dtype), _LIMIT_INT8)
            if not difference <= limit:
                raise AnswerIsNo(
                    f"{name} in {dtype} differs from NumPy by {difference:.3g}, more than {limit:g}; not timed"
                )
        results = server.ask("timings")
    unsteady = [r for r in results if r["p90_ms"] - r["p10_ms"] > _WIDE_SPREAD * r["median_ms"]]
    if unsteady:
        names = ", ".join(f"{r['code']} ({r['input']}, {r['type']})" for r in unsteady)
        warn(f"times spread by more than {_WIDE_SPREAD:.0%}: {names}; leave the machine alone and run again")
    return {
        "preset": options.preset,
        "seed": options.seed,
        "threads": 1,
        "block_runs": _BLOCK_RUNS,
        "recording_frames": _FRAMES,
        "kernels": kernels,
        "largest_difference": {", ".join(key): difference for key, difference in differences.items()},
        "results": results,
    }


def preprocessing_table(document: dict[str, Any]) -> str:
    """Every implementation of every input: median, the first runs after a pause, speed beside NumPy."""
    base: dict[tuple[str, str], float] = {}
    rows = []
    for result in document["results"]:
        key = (result["input"], result.get("type", "float32"))
        if result["code"] in ("NumPy", "pocket-har"):
            base[key] = result["median_ms"]
        median = result["median_ms"]
        times = [f"{median:.2f} ms", f"{result['first_of_block_median_ms']:.2f} ms"]
        rows.append([*key, result["code"], *times, f"{base[key] / median:.2f}×"])
    kernels = f"; C++ with {document['kernels']} kernels" if document.get("kernels") else ""
    header = ["input", "type", "code", "median", "first after a pause", "speed"]
    return format_table(header, rows, title=f"Preset {document['preset']}, one thread{kernels}")


def serve_timings(preset: str, runs: int, seed: int, library: str | None) -> Callable[[str], Any]:
    """The function of the process: answers `differences`, by input and type, and `timings`, results of a file."""
    groups = _groups(PreprocessSpec.preset(preset), NativeLibrary(Path(library)) if library else None, runs, seed)

    def answer(question: str) -> Any:
        if question == "differences":
            return {key: largest_difference(group) for key, group in groups.items()}
        return [
            {"input": name, "type": dtype, "code": code, **_block_summary(samples)}
            for (name, dtype), group in groups.items()
            for code, samples in time_in_blocks(group, runs).items()
        ]

    return answer


def largest_difference(group: Group) -> float:
    """The largest between the first implementation and any other."""
    reference, *peers = (run() for run in group.values())
    return max(
        (
            float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())
            for peer in peers
            for ours, theirs in zip(reference, peer, strict=True)
        ),
        default=0.0,
    )


def time_in_blocks(group: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Milliseconds of at least `runs` runs of each, _BLOCK_RUNS of one after another, then of the next."""
    samples: dict[str, list[float]] = {code: [] for code in group}
    for _ in range(0, runs, _BLOCK_RUNS):
        for code, run in group.items():
            for _ in range(_BLOCK_RUNS):
                start = time.perf_counter()
                run()
                samples[code].append((time.perf_counter() - start) * 1e3)
    return samples


def _block_summary(samples_ms: Sequence[float]) -> dict[str, Any]:
    low, median, high = np.quantile(samples_ms, (0.1, 0.5, 0.9)).tolist()
    return {
        "median_ms": median,
        "p10_ms": low,
        "p90_ms": high,
        "first_of_block_median_ms": float(np.median(samples_ms[::_BLOCK_RUNS])),
        "samples_ms": [round(sample, 4) for sample in samples_ms],
    }


def _groups(spec: PreprocessSpec, native: NativeLibrary | None, runs: int, seed: int) -> dict[tuple[str, str], Group]:
    """By input and type of numbers: implementations of the same computation."""
    joints, confidence = moving_person(seed)
    waveform = _noise(spec.audio.samples, seed)

    def heatmaps() -> FloatArray:
        return skeleton_to_heatmaps(joints, confidence, spec.skeleton).tensor

    def logmel() -> FloatArray:
        return waveform_to_logmel(waveform, spec.audio)

    groups: dict[tuple[str, str], Group] = {
        ("heatmaps", "float32"): {
            "NumPy": lambda: (heatmaps(),),
            "NumPy loop": lambda: (_heatmaps_by_loop(joints, confidence, spec.skeleton),),
        },
        ("log-Mel", "float32"): {"NumPy": lambda: (logmel(),), **_librosa(waveform, spec.audio)},
    }
    if native is None:
        return groups
    decibels = logmel()
    step = float(decibels.max() - decibels.min()) / 255
    inputs = (
        TensorInfo("skeleton", (1, *spec.skeleton.shape), "int8", *_SKELETON_STEP),
        TensorInfo("audio", (1, *spec.audio.shape), "int8", step, round(-128 - float(decibels.min()) / step)),
    )
    har = native.open(manifest_text(spec, inputs))
    maps, maps8 = np.empty(spec.skeleton.shape, np.float32), np.empty(spec.skeleton.shape, np.int8)
    sound, sound8 = np.empty(spec.audio.shape, np.float32), np.empty(spec.audio.shape, np.int8)
    rate_hz = spec.audio.sample_rate_hz
    groups["heatmaps", "float32"]["C++"] = lambda: (har.heatmaps(joints, confidence, maps),)
    groups["log-Mel", "float32"]["C++"] = lambda: (har.logmel(waveform, rate_hz, sound),)
    groups["heatmaps", "int8"] = {
        "NumPy": lambda: (quantize(heatmaps(), inputs[0]),),
        "C++": lambda: (har.heatmaps(joints, confidence, maps8),),
    }
    groups["log-Mel", "int8"] = {
        "NumPy": lambda: (quantize(logmel(), inputs[1]),),
        "C++": lambda: (har.logmel(waveform, rate_hz, sound8),),
    }
    for bodies, people in ((1, "1 body"), (2, "2 bodies")):
        groups[f"update of a stream, {people}", "int8"] = _stream_group(har, spec, inputs, bodies, runs, seed)
    return groups


def _stream_group(
    har: Har, spec: PreprocessSpec, inputs: tuple[TensorInfo, ...], bodies: int, runs: int, seed: int
) -> Group:
    """A full window that advances by one frame: pushed and read by the C++, computed anew by NumPy."""
    one, visible = moving_person(seed)
    joints = np.concatenate([one + np.array([0.8 * body, 0, 0], np.float32) for body in range(bodies)], axis=1)
    confidence = np.repeat(visible, bodies, axis=1)
    rate_hz, length, hop = spec.audio.sample_rate_hz, spec.audio.samples, spec.audio.hop_samples
    piece = rate_hz // _FRAMES_PER_S
    filling = max(_WINDOW_FRAMES, -(-(length + hop) // piece))  # frames until the window is full
    waveform = _noise((filling + 2 * runs) * piece, seed)
    maps, sound = np.empty(spec.skeleton.shape, np.int8), np.empty(spec.audio.shape, np.int8)
    stream = har.stream(_WINDOW_FRAMES, bodies)
    now = 0

    def push() -> None:
        nonlocal now
        frame = now % len(joints)
        stream.push_frame(now, joints[frame], confidence[frame])
        stream.push_audio(waveform[now * piece : (now + 1) * piece], rate_hz)
        now += 1

    def update() -> tuple[npt.NDArray[Any], ...]:
        push()
        return stream.heatmaps(maps), stream.logmel(sound)

    def anew() -> tuple[npt.NDArray[Any], ...]:
        """The tensors of the window after the next frame."""
        frames = np.arange(now + 1 - _WINDOW_FRAMES, now + 1) % len(joints)
        heatmaps = skeleton_to_heatmaps(joints[frames], confidence[frames], spec.skeleton).tensor
        end = (now + 1) * piece // hop * hop
        logmel = waveform_to_logmel(waveform[end - length : end], spec.audio)
        return quantize(heatmaps, inputs[0]), quantize(logmel, inputs[1])

    while now < filling:
        push()
    return {"NumPy": anew, "C++": update}


def moving_person(seed: int) -> tuple[FloatArray, FloatArray]:
    """A standing person whose joints swing: joints [100, 1, 25, 3] in metres, confidence [100, 1, 25]."""
    rng = np.random.default_rng(seed)
    standing = np.column_stack([_STANDING, np.zeros(len(_STANDING))]) + np.array([0.3, 0.1, 3.0])
    swing = np.sin(2 * np.pi * np.arange(_FRAMES)[:, None, None] / 30 + rng.uniform(0, 6, (25, 1)))
    joints = (standing + swing * rng.normal(0, 0.06, (25, 3)))[:, None].astype(np.float32)
    return joints, np.ones(joints.shape[:-1], np.float32)


def _noise(samples: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def _heatmaps_by_loop(joints: FloatArray, confidence: FloatArray, spec: HeatmapSpec) -> FloatArray:
    """The definition written down directly: every joint and limb over the full image, float32, no cut-off."""
    from preprocess.heatmaps import normalize_skeleton, project_views, sample_frames, select_bodies

    layout = spec.skeleton_layout
    bodies = select_bodies(joints.astype(np.float64), confidence, spec)
    positions, _ = normalize_skeleton(joints[:, bodies].astype(np.float64), confidence[:, bodies], spec, layout=layout)
    frames = sample_frames(len(joints), spec.sampled_frames)
    points = project_views(positions[frames], spec).astype(np.float32)
    score = confidence[frames][:, bodies]
    row, column = np.mgrid[: spec.size, : spec.size].astype(np.float32)
    scale = np.float32(-1 / (2 * spec.sigma_px**2))

    tensor = np.zeros(spec.shape, np.float32)
    for frame, view, body in np.ndindex(points.shape[:3]):
        place = points[frame, view, body]
        for (x, y), c in zip(place, score[frame, body], strict=True):
            tensor[..., 6 * frame + view] += c * np.exp(scale * ((column - x) ** 2 + (row - y) ** 2))
        for a, b in layout.limbs:
            (ax, ay), (dx, dy) = place[a], place[b] - place[a]
            share = np.clip(((column - ax) * dx + (row - ay) * dy) / max(dx * dx + dy * dy, np.float32(1e-12)), 0, 1)
            squared = (column - ax - share * dx) ** 2 + (row - ay - share * dy) ** 2
            weight = min(score[frame, body, a], score[frame, body, b])
            tensor[..., 6 * frame + 3 + view] += weight * np.exp(scale * squared)
    tensor = np.minimum(tensor, 1)
    xy = tensor[..., 0:-1:6]
    tensor[..., -1] = np.abs(np.diff(xy, axis=-1)).max(-1)
    return tensor


def _librosa(waveform: FloatArray, spec: LogMelSpec) -> Group:
    """librosa as it is called everywhere, and with its Mel filters kept."""
    import librosa
    from librosa.filters import mel

    framing = {"n_fft": spec.n_fft, "hop_length": spec.hop_samples, "win_length": spec.window_samples}
    bands = {"sr": spec.sample_rate_hz, "n_mels": spec.n_mels, "fmin": spec.fmin_hz, "fmax": spec.fmax_hz}
    filters = mel(n_fft=spec.n_fft, **bands)

    def finish(power: FloatArray) -> FloatArray:
        decibel = librosa.power_to_db(power, amin=spec.amin, top_db=spec.top_db)
        return np.stack([decibel, librosa.feature.delta(decibel), librosa.feature.delta(decibel, order=2)], axis=-1)

    return {
        "librosa": lambda: (finish(librosa.feature.melspectrogram(y=waveform, **framing, **bands)),),
        "librosa, filters kept": lambda: (finish(filters @ np.abs(librosa.stft(waveform, **framing)) ** 2),),
    }


PREPROCESSING = Study(
    "preprocessing", measure_preprocessing, preprocessing_table, packages=("numpy", "librosa", "scipy")
)
