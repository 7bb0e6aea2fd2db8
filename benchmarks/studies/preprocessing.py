"""Time of the preprocessing on one thread, beside its peers: `python -m benchmarks.preprocessing`.

Ours and the peers run in turn, in blocks, so that whatever else the machine does meets all of them alike. The median is
that of a loop that preprocesses again and again; `first of block` is the median of the runs that follow other work and
find cold caches and memory that the system has taken back. Before the clock starts the results are compared: a fast
wrong answer is not measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.program import add_common_options, make_parser, run_program, show, show_json, warn
from console.table import format_table
from preprocess.errors import AnswerIsNo, UsageError

from ..measure.provenance import provenance
from ..measure.result_files import write_result
from ..measure.worker import THREAD_VARIABLES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from preprocess import HeatmapSpec, LogMelSpec, PreprocessSpec

    FloatArray = npt.NDArray[np.float32]

SCHEMA_VERSION = 1
DEFAULT_OUT = Path("benchmarks/results/preprocessing.json")
AGREEMENT = {"heatmaps": 1e-4, "log-Mel": 1e-3}  # largest difference from the peers, in map units and dB
_WIDE_SPREAD = 0.10  # (p90 − p10) / median above which a timing is called unsteady

_BLOCK_RUNS = 5
_FRAMES = 100  # of the recording, about 3.3 s at Kinect's 30 frames a second

# A standing person in Kinect v2's order, metres: x to the side, y up.
_STANDING = (
    (0, 0), (0, 0.28), (0, 0.62), (0, 0.76), (-0.18, 0.5), (-0.26, 0.24), (-0.3, 0.02), (-0.31, -0.06), (0.18, 0.5),
    (0.26, 0.24), (0.3, 0.02), (0.31, -0.06), (-0.08, -0.02), (-0.1, -0.42), (-0.11, -0.8), (-0.12, -0.86),
    (0.08, -0.02), (0.1, -0.42), (0.11, -0.8), (0.12, -0.86), (0, 0.54), (-0.32, -0.13), (-0.27, -0.07), (0.32, -0.13),
    (0.27, -0.07),
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark in a process whose libraries use one thread each."""
    return run_on_one_thread("benchmarks.studies.preprocessing", _parser(), argv)


def run_on_one_thread(module: str, parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Runs the program here where libraries use one thread each, else `python -m module` in a process where they do."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    single = dict.fromkeys(THREAD_VARIABLES, "1")
    if single.items() <= os.environ.items():
        return run_program(parser, arguments)
    child = [sys.executable, "-m", module, *arguments]
    return subprocess.run(child, env={**os.environ, **single}, check=False).returncode


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.studies.preprocessing", "Times the preprocessing and its peers on one thread.")
    add_timing_options(parser, DEFAULT_OUT)
    parser.set_defaults(handler=_run)
    return parser


def add_timing_options(parser: argparse.ArgumentParser, out: Path) -> None:
    """What is preprocessed how often, and where the result goes."""
    parser.add_argument("--preset", default="paper", help="paper or nano (default: paper)")
    parser.add_argument("--runs", type=int, default=100, help="timed runs of each (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the recording (default: 0)")
    parser.add_argument("--out", type=Path, default=out, help=f"result file (default: {out})")
    add_common_options(parser)


def chosen_spec(options: argparse.Namespace) -> PreprocessSpec:
    """The specification to time; raises UsageError for `--preset` and `--runs` that cannot be."""
    from preprocess import PreprocessSpec

    if options.runs < 10:
        raise UsageError(f"--runs is {options.runs}; a median needs at least 10")
    return PreprocessSpec.preset(options.preset)


def _run(options: argparse.Namespace) -> None:
    spec = chosen_spec(options)
    groups = {
        "heatmaps": _heatmap_group(spec.skeleton, options.seed),
        "log-Mel": _logmel_group(spec.audio, options.seed),
    }
    differences = {name: _agreement(name, group) for name, group in groups.items()}
    timings = {name: time_in_turn(group, options.runs) for name, group in groups.items()}
    results = [
        {"input": name, "code": code, **summary(samples)}
        for name, group in timings.items()
        for code, samples in group.items()
    ]
    command = (
        f"python -m benchmarks.preprocessing --preset {options.preset} --runs {options.runs} --seed {options.seed}"
    )
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "preprocessing",
        "provenance": provenance(command, packages=("numpy", "librosa", "scipy")),
        "preset": options.preset,
        "seed": options.seed,
        "threads": 1,
        "block_runs": _BLOCK_RUNS,
        "recording_frames": _FRAMES,
        "largest_difference": differences,
        "results": results,
    }
    write_result(document, options.out)
    _report(document, as_json=options.json)


def _heatmap_group(spec: HeatmapSpec, seed: int) -> dict[str, Callable[[], FloatArray]]:
    """One moving person, drawn by `preprocess` and by a loop over joints and limbs."""
    from preprocess import skeleton_to_heatmaps

    joints, confidence = moving_person(seed)
    return {
        "pocket-har": lambda: skeleton_to_heatmaps(joints, confidence, spec).tensor,
        "NumPy loop": lambda: _heatmaps_by_loop(joints, confidence, spec),
    }


def moving_person(seed: int) -> tuple[FloatArray, FloatArray]:
    """A standing person whose joints swing: joints [100, 1, 25, 3] in metres, confidence [100, 1, 25]."""
    import numpy as np

    rng = np.random.default_rng(seed)
    standing = np.column_stack([_STANDING, np.zeros(len(_STANDING))]) + np.array([0.3, 0.1, 3.0])
    swing = np.sin(2 * np.pi * np.arange(_FRAMES)[:, None, None] / 30 + rng.uniform(0, 6, (25, 1)))
    joints = (standing + swing * rng.normal(0, 0.06, (25, 3)))[:, None].astype(np.float32)
    return joints, np.ones(joints.shape[:-1], np.float32)


def noise(samples: int, seed: int) -> FloatArray:
    """A waveform [samples]."""
    import numpy as np

    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def _heatmaps_by_loop(joints: FloatArray, confidence: FloatArray, spec: HeatmapSpec) -> FloatArray:
    """The definition written down directly: every joint and limb over the whole image, float32, no cut-off."""
    import numpy as np

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
            tensor[..., 6 * frame + 3 + view] += min(score[frame, body, a], score[frame, body, b]) * np.exp(
                scale * squared
            )
    tensor = np.minimum(tensor, 1)
    xy = tensor[..., 0:-1:6]
    tensor[..., -1] = np.abs(np.diff(xy, axis=-1)).max(-1)
    return tensor


def _logmel_group(spec: LogMelSpec, seed: int) -> dict[str, Callable[[], FloatArray]]:
    """Noise through `preprocess`, through librosa as it is called everywhere, and with its Mel filters kept."""
    import librosa
    import numpy as np
    from librosa.filters import mel

    from preprocess import waveform_to_logmel

    waveform = noise(spec.samples, seed)
    framing = {"n_fft": spec.n_fft, "hop_length": spec.hop_samples, "win_length": spec.window_samples}
    bands = {"sr": spec.sample_rate_hz, "n_mels": spec.n_mels, "fmin": spec.fmin_hz, "fmax": spec.fmax_hz}
    filters = mel(n_fft=spec.n_fft, **bands)

    def finish(power: FloatArray) -> FloatArray:
        decibel = librosa.power_to_db(power, amin=spec.amin, top_db=spec.top_db)
        return np.stack([decibel, librosa.feature.delta(decibel), librosa.feature.delta(decibel, order=2)], axis=-1)

    return {
        "pocket-har": lambda: waveform_to_logmel(waveform, spec),
        "librosa": lambda: finish(librosa.feature.melspectrogram(y=waveform, **framing, **bands)),
        "librosa, filters kept": lambda: finish(filters @ np.abs(librosa.stft(waveform, **framing)) ** 2),
    }


def _agreement(name: str, group: dict[str, Callable[[], FloatArray]]) -> float:
    """The largest difference between ours (the first) and any peer.

    Raises:
        AnswerIsNo: it exceeds AGREEMENT.
    """
    ours, *peers = (run() for run in group.values())
    difference = max(float(abs(ours - peer).max()) for peer in peers)
    if not difference <= AGREEMENT[name]:
        raise AnswerIsNo(f"{name} differs from a peer by {difference:.3g}, more than {AGREEMENT[name]:g}; not timed")
    return difference


def time_in_turn(group: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Milliseconds of at least `runs` runs of each, _BLOCK_RUNS of one after another, then of the next."""
    samples: dict[str, list[float]] = {code: [] for code in group}
    for _ in range(0, runs, _BLOCK_RUNS):
        for code, run in group.items():
            for _ in range(_BLOCK_RUNS):
                start = time.perf_counter()
                run()
                samples[code].append((time.perf_counter() - start) * 1e3)
    return samples


def summary(samples_ms: list[float]) -> dict[str, Any]:
    """Median, 10th and 90th percentile, the median of the first runs of the blocks, and all samples."""
    import numpy as np

    low, median, high = np.quantile(samples_ms, (0.1, 0.5, 0.9)).tolist()
    return {
        "median_ms": median,
        "p10_ms": low,
        "p90_ms": high,
        "first_of_block_median_ms": float(np.median(samples_ms[::_BLOCK_RUNS])),
        "samples_ms": [round(sample, 4) for sample in samples_ms],
    }


def warn_of_spread(results: Sequence[dict[str, Any]], keys: Sequence[str] = ("input",)) -> None:
    """One warning for all unsteady timings, each with its code and the values of `keys`."""
    unsteady = [r for r in results if r["p90_ms"] - r["p10_ms"] > _WIDE_SPREAD * r["median_ms"]]
    if unsteady:
        names = ", ".join(f"{r['code']} ({', '.join(r[key] for key in keys)})" for r in unsteady)
        warn(f"times spread by more than {_WIDE_SPREAD:.0%}: {names}; leave the machine alone and run again")


def _report(document: dict[str, Any], *, as_json: bool) -> None:
    warn_of_spread(document["results"])
    if as_json:
        show_json(document)
        return
    ours = {r["input"]: r["median_ms"] for r in document["results"] if r["code"] == "pocket-har"}
    columns = ("median_ms", "p10_ms", "p90_ms", "first_of_block_median_ms")
    rows = [
        [r["input"], r["code"], *(f"{r[c]:.2f}" for c in columns), f"{r['median_ms'] / ours[r['input']]:.1f}×"]
        for r in document["results"]
    ]
    machine = document["provenance"]["machine"]
    title = f"Preprocessing, preset {document['preset']}, one thread of {machine['cpu']}"
    show(
        format_table(
            ["input", "code", "median ms", "p10 ms", "p90 ms", "first of block ms", "median"], rows, title=title
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
