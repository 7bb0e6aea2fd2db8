"""The fastest recipe that keeps the accuracy: full INT8 first, then with the noisiest blocks back in float."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from console.program import log
from preprocess.errors import AnswerIsNo
from quantize.gate.paired import MaxDrop, PairedDrop, logits_drop
from quantize.recipes import STATIC_WI8_AI8, Recipe, parse_recipe
from recordings.batches import Batch
from runtime.answers import Answers, LabelledBatch, Model, ask, one_by_one
from runtime.runners import RUNTIMES_OF_FORMAT, open_model

_LAST_RESORT = parse_recipe("dynamic_wi8_afp32")


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
    max_drop: MaxDrop,
    time_limit_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Candidate, tuple[Candidate, ...]]:
    """The fastest candidate within the budget, and all that were tried.

    1, 2, 4, … of the noisiest blocks compute in float until the accuracy holds, then the number is narrowed down by
    halving. Dynamic quantization is the last resort.

    Args:
        attempt: tries a recipe.
        rank: patterns of the tensors of every block, the noisiest block first; called when full INT8 loses too much.
        max_drop: accuracy that may be lost.
        time_limit_s: no further recipe is tried after that.
        clock: time in seconds.

    Raises:
        AnswerIsNo: no recipe within the budget was found in time.
    """
    deadline = clock() + time_limit_s
    tried: list[Candidate] = []

    def holds(recipe: Recipe) -> bool:
        tried.append(attempt(recipe))
        return max_drop.holds(tried[-1].drop)

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
    within = [candidate for candidate in tried if max_drop.holds(candidate.drop)]
    if not within:
        closest = min(tried, key=lambda candidate: candidate.drop.interval_points[1])
        raise AnswerIsNo(
            f"no recipe within {max_drop.points:g} points was found among {len(tried)} in "
            f"{time_limit_s / 60:g} min; the closest: "
            f"{max_drop.finding(closest.drop, closest.recipe.name)}. Allow more loss or time, or train with "
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
        recordings: int,
        folder: Path,
    ) -> None:
        """Asks the float model.

        Args:
            convert: writes the file of a recipe.
            file_format: `tflite` or `onnx`.
            batches: of the recordings to choose on, read once.
            recordings: their number, for the progress bar.
            folder: for tensors and files; files stay there.
        """
        self._convert = convert
        self._file_format = file_format
        self._recordings = recordings
        self._folder = folder
        self._batches: list[Path] = []
        self._paths: dict[Recipe, Path] = {}
        self._reference = self._ask("float", float_model, self._keep(batches))

    def __call__(self, recipe: Recipe) -> Candidate:
        """Converts, runs and compares."""
        path = self._folder / f"recipe{len(self._paths)}.{self._file_format}"
        self._convert(recipe, path)
        self._paths[recipe] = path
        times_ms: list[float] = []
        model = one_by_one(open_model(path, RUNTIMES_OF_FORMAT[self._file_format][0]), times_ms)
        answers = self._reference.joined(self._ask("candidate", model, self._kept()))
        drop = logits_drop(answers.logits["float"], answers.logits["candidate"], answers.labels)
        candidate = Candidate(recipe, drop, float(np.median(times_ms)), path.stat().st_size)
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
            np.savez(path, **batch.tensors, labels=batch.labels, names=np.array(batch.names))
            self._batches.append(path)
            yield batch

    def _kept(self) -> Iterator[LabelledBatch]:
        for path in self._batches:
            with np.load(path) as arrays:
                names = tuple(arrays["names"].tolist())
                yield Batch(arrays.get("skeleton"), arrays.get("audio"), arrays["labels"], names)
