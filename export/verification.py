"""Comparison of an artefact with the float model it was made from, on held-out recordings and in every runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from console.progress import Progress
from model.config import INPUTS_OF, Stream
from model.evaluation import keras_model
from model.recogniser import Recogniser
from preprocess.spec import PreprocessSpec
from quantize.recipes import Recipe
from recordings.batches import FeatureLoader
from runtime.manifest import TensorInfo
from runtime.metrics import Score, agreement, score, snr_db
from runtime.runners import RUNTIMES_OF_FORMAT, Runner, is_installed, open_model

from . import tolerances
from .serving import OUTPUT_NAME
from .tflite_file import read_tflite_graph

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RuntimeResult:
    """What one runtime answered."""

    runtime: str
    score: Score
    agreement: float
    snr_db: float
    drop_points: float


@dataclass(frozen=True)
class Verification:
    """The outcome.

    Attributes:
        float_score: accuracy of the float model.
        runtimes: the artefact in every runtime that is installed.
        between: agreement and SNR of each further runtime against the first.
        missing: runtimes that could not take part.
        judged_by_class: False with random weights, where classes carry no meaning.
        failures: one line for each tolerance that was missed; empty when the artefact is verified.
    """

    float_score: Score
    runtimes: tuple[RuntimeResult, ...]
    between: dict[str, dict[str, float]]
    missing: tuple[str, ...]
    judged_by_class: bool
    failures: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return {
            "verified": not self.failures,
            "recordings": self.float_score.count,
            "float": self.float_score.to_dict(),
            "runtimes": {
                r.runtime: {
                    **r.score.to_dict(),
                    "agreement": r.agreement,
                    "snr_db": r.snr_db,
                    "drop_points": r.drop_points,
                }
                for r in self.runtimes
            },
            "between_runtimes": self.between,
            "missing_runtimes": list(self.missing),
            "judged_by_class": self.judged_by_class,
            "failures": list(self.failures),
        }


def verify(
    path: Path,
    file_format: str,
    recipe: Recipe,
    recogniser: Recogniser,
    held_out: FeatureLoader,
    *,
    stream: Stream,
    recordings: int,
    random_weights: bool,
    max_drop_points: float | None = None,
) -> tuple[Verification, Runner]:
    """Loads the file in every runtime and compares it with a stream of `recogniser` on all of `held_out`.

    `recordings` is how many that are, for the progress bar; `max_drop_points` the accuracy that the user allows to be
    lost, instead of the tolerance's. Returns the outcome and the first runtime's runner.

    Raises:
        AnswerIsNo: a logit is not finite.
    """
    names = RUNTIMES_OF_FORMAT[file_format]
    installed = [name for name in names if is_installed(name)]
    runners = {name: open_model(path, name) for name in installed}
    failures = _check_contract(path, file_format, recipe, stream, recogniser.config.spec, runners)
    reference, truth, answers = run_all(recogniser, stream, runners, held_out, recordings)
    float_score = score(reference, truth)
    results = []
    for name in installed:
        own = score(answers[name], truth)
        results.append(
            RuntimeResult(
                runtime=name,
                score=own,
                agreement=agreement(reference, answers[name]),
                snr_db=snr_db(reference, answers[name]),
                drop_points=100 * (float_score.correct - own.correct) / own.count,
            )
        )
    first = installed[0]
    between = {
        name: {
            "agreement": agreement(answers[first], answers[name]),
            "snr_db": snr_db(answers[first], answers[name]),
        }
        for name in installed[1:]
    }
    for result in results:
        failures += _judge(result, limits_of(recipe, max_drop_points), random_weights=random_weights)
    for name, pair in between.items():
        if not random_weights and pair["agreement"] < tolerances.RUNTIMES_MIN_AGREEMENT:
            failures.append(
                f"{first} and {name} agree on {100 * pair['agreement']:.1f} % of the recordings, "
                f"less than {100 * tolerances.RUNTIMES_MIN_AGREEMENT:g} %"
            )
    missing = tuple(name for name in names if name not in installed)
    outcome = Verification(float_score, tuple(results), between, missing, not random_weights, tuple(failures))
    return outcome, runners[first]


def run_all(
    recogniser: Recogniser,
    stream: Stream,
    runners: dict[str, Runner],
    held_out: FeatureLoader,
    recordings: int,
    *,
    title: str = "verifying",
) -> tuple[Array, npt.NDArray[np.int32], dict[str, Array]]:
    """Logits of the float model, labels, and logits of every runner, in one pass over the recordings."""
    model = keras_model(recogniser, stream)
    reference, truth = [], []
    answers: dict[str, list[Array]] = {name: [] for name in runners}
    with Progress(title, recordings) as progress:
        for batch in held_out.epoch(0):
            assert batch.skeleton is not None
            assert batch.audio is not None
            reference.append(model(batch.tensors))
            truth.append(batch.labels)
            for index in range(len(batch.labels)):
                tensors = {"skeleton": batch.skeleton[index : index + 1], "audio": batch.audio[index : index + 1]}
                for name, runner in runners.items():
                    answers[name].append(runner(tensors))
                progress.advance()
    return (
        np.concatenate(reference),
        np.concatenate(truth),
        {name: np.stack(rows) for name, rows in answers.items()},
    )


def _check_contract(
    path: Path, file_format: str, recipe: Recipe, stream: Stream, spec: PreprocessSpec, runners: dict[str, Runner]
) -> list[str]:
    """Names, shapes and types that every artefact has; for an integer-only TFLite file, the walk over its graph."""
    dtype = "int8" if recipe.static and file_format == "tflite" else "float32"
    shapes = {"skeleton": spec.skeleton.shape, "audio": spec.audio.shape}
    wanted = {name: ((1, *shapes[name]), dtype) for name in INPUTS_OF[stream]}
    failures = []
    for name, runner in runners.items():
        found = {t.name: (t.shape, t.dtype) for t in runner.inputs}
        if found != wanted:
            failures.append(f"inputs in {name} are {found}, not {wanted}")
        outputs = [(t.name, t.dtype) for t in runner.outputs]
        if outputs != [(OUTPUT_NAME, dtype)]:
            failures.append(f"outputs in {name} are {outputs}, not {[(OUTPUT_NAME, dtype)]}")
    if dtype == "int8":
        graph = read_tflite_graph(path)
        if recipe.integer_only and graph.float_tensors:
            failures.append(
                f"{len(graph.float_tensors)} tensors are floating-point, the first {graph.float_tensors[0]!r}"
            )
        failures += _check_heatmap_scale(runners)
    return failures


def _check_heatmap_scale(runners: dict[str, Runner]) -> list[str]:
    """Heatmaps lie in [0, 1], so their scale is 1/255 and their zero point −128: a device writes pixels directly."""
    skeletons: Sequence[TensorInfo] = [t for r in runners.values() for t in r.inputs if t.name == "skeleton"]
    return [
        f"input skeleton has scale {t.scale} and zero point {t.zero_point}, not 1/255 and -128"
        for t in skeletons
        if abs(t.scale * 255 - 1) > 1e-5 or t.zero_point != -128
    ]


def limits_of(recipe: Recipe, max_drop_points: float | None) -> tolerances.Tolerance:
    """The recipe's tolerance. Who allows more accuracy to be lost allows as many more answers to differ."""
    limits = tolerances.FLOAT32 if recipe.base == "float32" else tolerances.INT8
    if max_drop_points is None:
        return limits
    more = max(0.0, max_drop_points - limits.max_drop_points)
    return replace(limits, max_drop_points=max_drop_points, min_agreement=limits.min_agreement - more / 100)


def _judge(result: RuntimeResult, limits: tolerances.Tolerance, *, random_weights: bool) -> list[str]:
    failures = []
    if result.snr_db < limits.min_snr_db:
        failures.append(f"{result.runtime}: logits' SNR is {result.snr_db:.1f} dB, less than {limits.min_snr_db:g} dB")
    if random_weights:
        return failures
    if result.agreement < limits.min_agreement:
        failures.append(
            f"{result.runtime}: agrees with the float model on {100 * result.agreement:.1f} % of the recordings, "
            f"less than {100 * limits.min_agreement:g} %"
        )
    if result.drop_points > limits.max_drop_points:
        failures.append(
            f"{result.runtime}: accuracy drops by {result.drop_points:.2f} points, more than {limits.max_drop_points:g}"
        )
    return failures
