"""The fastest recipe that keeps the accuracy: full INT8 first, then with the noisiest blocks back in float."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from console.program import log
from model.config import Stream
from model.recogniser import Recogniser
from preprocess.errors import AnswerIsNo
from quantize.analysis import analyze
from quantize.prepare import Prepared
from quantize.recipes import STATIC_WI8_AI8, Recipe, parse_recipe
from recordings.batches import FeatureLoader
from recordings.calibration import CalibrationSet
from runtime.metrics import score
from runtime.runners import RUNTIMES_OF_FORMAT, Array, Runner, open_model

from .verification import run_all

_ANALYZED = 16  # recordings that rank the blocks
_LAST_RESORT = "dynamic_wi8_afp32"


@dataclass(frozen=True)
class Candidate:
    """A recipe that was tried: accuracy lost against the float model in points, median latency, file size."""

    recipe: str
    drop_points: float
    latency_ms: float
    size_bytes: int


@dataclass(frozen=True)
class Budget:
    """What the search may cost.

    Attributes:
        max_drop_points: accuracy that may be lost, in percentage points.
        time_limit_s: no further recipe is tried after that.
    """

    max_drop_points: float
    time_limit_s: float


@dataclass(frozen=True)
class Comparison:
    """What every candidate is compared on."""

    recogniser: Recogniser
    stream: Stream
    loader: Callable[[], FeatureLoader]
    recordings: int


def search(
    prepared: Prepared,
    write: Callable[[Recipe, Path], None],
    file_format: str,
    comparison: Comparison,
    calibration: CalibrationSet,
    budget: Budget,
) -> tuple[Recipe, tuple[Candidate, ...]]:
    """Tries recipes on real files in the format's first runtime; returns the fastest within the budget, and all tried.

    The blocks are ranked by the noise they add; 1, 2, 4, … of them compute in float until the accuracy holds, then
    the number is narrowed down by halving. Last comes dynamic quantization.

    Args:
        prepared: the checkpoint, calibrated.
        write: converts with a recipe to a file.
        file_format: `tflite` or `onnx`.
        comparison: float model and recordings.
        calibration: its first samples rank the blocks.
        budget: accuracy and time.

    Raises:
        AnswerIsNo: no recipe within the budget was found in time.
    """
    deadline = time.monotonic() + budget.time_limit_s
    tried: dict[str, Candidate] = {}
    patterns: list[str] = []

    def attempt(count: int) -> bool:
        names = tuple(name for pattern in patterns[:count] for name in pattern.split(","))
        recipe = STATIC_WI8_AI8.with_exceptions(names)
        return _try(recipe, write, file_format, comparison, tried).drop_points <= budget.max_drop_points

    def out_of_time() -> bool:
        return time.monotonic() > deadline

    if not attempt(0):
        analysis = analyze(prepared, calibration.head(_ANALYZED))
        patterns = [block.pattern for block in analysis.blocks]
        failed, count, held = 0, 1, False
        while not held and count <= len(patterns) // 2 and not out_of_time():
            held = attempt(count)
            failed, count = (failed, count) if held else (count, 2 * count)
        while held and count - failed > 1 and not out_of_time():
            middle = (failed + count) // 2
            failed, count = (failed, middle) if attempt(middle) else (middle, count)
        if not held and not out_of_time():
            _try(parse_recipe(_LAST_RESORT), write, file_format, comparison, tried)
    within = [own for own in tried.values() if own.drop_points <= budget.max_drop_points]
    if not within:
        closest = min(tried.values(), key=lambda own: own.drop_points)
        raise AnswerIsNo(
            f"no recipe within {budget.max_drop_points:g} points was found among {len(tried)} in "
            f"{budget.time_limit_s / 60:g} min; the closest, {closest.recipe}, loses {closest.drop_points:.2f}. "
            "Allow more loss or time, or train with quantization in mind"
        )
    fastest = min(within, key=lambda own: own.latency_ms)
    return parse_recipe(fastest.recipe), tuple(tried.values())


def _try(
    recipe: Recipe,
    write: Callable[[Recipe, Path], None],
    file_format: str,
    comparison: Comparison,
    tried: dict[str, Candidate],
) -> Candidate:
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        path = Path(folder) / f"model.{file_format}"
        write(recipe, path)
        runner = _Timed(open_model(path, RUNTIMES_OF_FORMAT[file_format][0]))
        with comparison.loader() as loader:
            reference, truth, answers = run_all(
                comparison.recogniser,
                comparison.stream,
                {"candidate": runner},
                loader,
                comparison.recordings,
                title="searching",
            )
        lost = score(reference, truth).correct - score(answers["candidate"], truth).correct
        candidate = Candidate(
            recipe.name, 100 * lost / len(truth), float(np.median(runner.times_ms)), path.stat().st_size
        )
    log(f"{recipe.name}: {candidate.drop_points:+.2f} points lost, {candidate.latency_ms:.1f} ms")
    tried[recipe.name] = candidate
    return candidate


class _Timed:
    """A runner that keeps the time of every inference."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.inputs, self.outputs = runner.inputs, runner.outputs
        self.times_ms: list[float] = []

    def __call__(self, tensors: dict[str, Array]) -> Array:
        start = time.perf_counter()
        logits = self._runner(tensors)
        self.times_ms.append(1e3 * (time.perf_counter() - start))
        return logits
