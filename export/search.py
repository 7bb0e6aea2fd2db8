"""The fastest recipe that keeps the accuracy: full INT8 first, then with the noisiest blocks back in float."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from console.program import log
from preprocess.errors import AnswerIsNo
from quantize.gate.paired import MaxDrop, PairedDrop, logits_drop
from quantize.recipes import STATIC_WI8_AI8, Recipe, parse_recipe
from runtime.answers import Answers, Array, LabelledBatch, Model, ask, one_by_one
from runtime.runners import RUNTIMES_OF_FORMAT, Runner, open_model

_LAST_RESORT = parse_recipe("dynamic_wi8_afp32")


@dataclass(frozen=True)
class Budget:
    """The limits of a search.

    Attributes:
        max_drop: accuracy that may be lost.
        time_limit_s: no further recipe is tried after that.
    """

    max_drop: MaxDrop
    time_limit_s: float


@dataclass(frozen=True)
class Candidate:
    """A recipe that was tried: accuracy lost against the float model, median latency, file size."""

    recipe: Recipe
    drop: PairedDrop
    latency_ms: float
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.name,
            "drop_points": self.drop.points,
            "interval_points": list(self.drop.interval_points),
            "latency_ms": self.latency_ms,
            "size_bytes": self.size_bytes,
        }


def search(
    attempt: Callable[[Recipe], Candidate],
    rank: Callable[[], Sequence[str]],
    budget: Budget,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Candidate, tuple[Candidate, ...]]:
    """The fastest candidate within the budget, and all that were tried.

    1, 2, 4, … of the noisiest blocks compute in float until the accuracy holds, then the number is narrowed down by
    halving. Dynamic quantization is the last resort.

    Args:
        attempt: tries a recipe.
        rank: patterns of the tensors of every block, the noisiest block first; called when full INT8 loses too much.
        budget: accuracy and time.
        clock: time in seconds.

    Raises:
        AnswerIsNo: no recipe within the budget was found in time.
    """
    deadline = clock() + budget.time_limit_s
    tried: list[Candidate] = []

    def holds(recipe: Recipe) -> bool:
        tried.append(attempt(recipe))
        return budget.max_drop.holds(tried[-1].drop)

    def in_time() -> bool:
        return clock() <= deadline

    if not holds(STATIC_WI8_AI8):
        patterns = rank()

        def holds_with(count: int) -> bool:
            names = tuple(name for pattern in patterns[:count] for name in pattern.split(","))
            return holds(STATIC_WI8_AI8.with_exceptions(names))

        failed, count, held = 0, 1, False
        while not held and count <= len(patterns) // 2 and in_time():
            held = holds_with(count)
            failed, count = (failed, count) if held else (count, 2 * count)
        while held and count - failed > 1 and in_time():
            middle = (failed + count) // 2
            failed, count = (failed, middle) if holds_with(middle) else (middle, count)
        if not held and in_time():
            holds(_LAST_RESORT)
    within = [candidate for candidate in tried if budget.max_drop.holds(candidate.drop)]
    if not within:
        closest = min(tried, key=lambda candidate: candidate.drop.interval_points[1])
        raise AnswerIsNo(
            f"no recipe within {budget.max_drop.points:g} points was found among {len(tried)} in "
            f"{budget.time_limit_s / 60:g} min; the closest: "
            f"{budget.max_drop.finding(closest.drop, closest.recipe.name)}. Allow more loss or time, or train with "
            "quantization in mind"
        )
    return min(within, key=lambda candidate: candidate.latency_ms), tuple(tried)


class Trials:
    """Tries recipes on real files in the format's first runtime, all on the same recordings.

    The recordings are preprocessed and the float model is asked once. The tensors then lie in files, not in memory:
    those of 1,000 recordings take 1.3 GB for the demo and 6.8 GB for the paper's inputs.
    """

    def __init__(
        self,
        convert: Callable[[Recipe, Path], None],
        file_format: str,
        float_model: Model,
        batches: Iterable[LabelledBatch],
        *,
        inputs: Sequence[str],
        recordings: int,
        folder: Path,
    ) -> None:
        """Asks the float model.

        Args:
            convert: writes the file of a recipe.
            file_format: `tflite` or `onnx`.
            float_model: reference.
            batches: of the recordings to choose on, read once.
            inputs: names of the model's inputs; other tensors are not kept.
            recordings: their number, for the progress bar.
            folder: for tensors and files; files stay there.
        """
        self._convert = convert
        self._file_format = file_format
        self._inputs = inputs
        self._recordings = recordings
        self._folder = folder
        self._batches: list[_KeptBatch] = []
        self._paths: dict[Recipe, Path] = {}
        self._reference: Answers = self._ask("float", float_model, self._keep(batches))

    def __call__(self, recipe: Recipe) -> Candidate:
        """Converts, runs and compares."""
        path = self._folder / f"recipe{len(self._paths)}.{self._file_format}"
        self._convert(recipe, path)
        self._paths[recipe] = path
        runner = _Timed(open_model(path, RUNTIMES_OF_FORMAT[self._file_format][0]))
        answers = self._reference.joined(self._ask("candidate", one_by_one(runner), self._batches))
        drop = logits_drop(answers.logits["float"], answers.logits["candidate"], answers.labels)
        candidate = Candidate(recipe, drop, float(np.median(runner.times_ms)), path.stat().st_size)
        log(f"{recipe.name}: loses {drop}, {candidate.latency_ms:.1f} ms")
        return candidate

    def path(self, recipe: Recipe) -> Path:
        """The file of a recipe that was tried."""
        return self._paths[recipe]

    def _ask(self, name: str, model: Model, batches: Iterable[LabelledBatch]) -> Answers:
        return ask({name: model}, batches, title="searching", recordings=self._recordings)

    def _keep(self, batches: Iterable[LabelledBatch]) -> Iterator[LabelledBatch]:
        for batch in batches:
            path = self._folder / f"batch{len(self._batches)}.npz"
            np.savez(path, **{name: batch.tensors[name] for name in self._inputs})
            self._batches.append(_KeptBatch(batch.names, batch.labels, path))
            yield batch


@dataclass(frozen=True, eq=False)
class _KeptBatch:
    """A batch whose tensors are read from a file when they are needed."""

    names: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    path: Path

    @property
    def tensors(self) -> dict[str, Array]:
        with np.load(self.path) as arrays:
            return dict(arrays)


class _Timed:
    """A runner that records the time of every inference."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.inputs, self.outputs = runner.inputs, runner.outputs
        self.times_ms: list[float] = []

    def __call__(self, tensors: dict[str, Array]) -> Array:
        start = time.perf_counter()
        logits = self._runner(tensors)
        self.times_ms.append(1e3 * (time.perf_counter() - start))
        return logits
