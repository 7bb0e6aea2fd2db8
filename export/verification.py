"""Comparison of an artifact with the float model it was made from, on held-out recordings and in every runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model.config import INPUTS_OF
from preprocess.spec import PreprocessSpec
from quantize.gate.paired import MaxDrop, PairedDrop, logits_drop
from quantize.recipes import Recipe
from runtime.answers import Answers, LabelledBatch, Model, ask, one_by_one
from runtime.metrics import Score
from runtime.runners import RUNTIMES_OF_FORMAT, Runner, is_installed, open_model

from . import tolerances
from .plan import ModelChoice
from .tflite_file import OUTPUT_NAME, tflite_contents


@dataclass(frozen=True)
class Closeness:
    """Share of recordings with the same class, and signal-to-noise ratio of the logits in dB."""

    agreement: float
    snr_db: float

    @classmethod
    def of(cls, answers: Answers, reference: str, model: str) -> Closeness:
        return cls(answers.agreement(reference, model), answers.snr_db(reference, model))

    @property
    def cells(self) -> list[str]:
        """Both numbers for a table."""
        return [f"{100 * self.agreement:.1f} %", f"{self.snr_db:.1f} dB"]


@dataclass(frozen=True)
class RuntimeResult:
    """The artifact in one runtime: its accuracy, and its loss and closeness against the float model."""

    runtime: str
    score: Score
    drop: PairedDrop
    closeness: Closeness


@dataclass(frozen=True)
class Verification:
    """The outcome.

    Attributes:
        float_score: accuracy of the float model.
        runtimes: the artifact in every runtime that is installed.
        between: each further runtime against the first.
        missing: runtimes that are not installed.
        judged_by_class: False with random weights, where classes carry no meaning.
        failures: one line for each tolerance that was missed; empty when the artifact is verified.
    """

    float_score: Score
    runtimes: tuple[RuntimeResult, ...]
    between: dict[str, Closeness]
    missing: tuple[str, ...]
    judged_by_class: bool
    failures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "verified": not self.failures,
            "recordings": self.float_score.count,
            "float": self.float_score.to_dict(),
            "runtimes": {
                result.runtime: {
                    **result.score.to_dict(),
                    **asdict(result.closeness),
                    "drop_points": result.drop.points,
                }
                for result in self.runtimes
            },
            "between_runtimes": {name: asdict(closeness) for name, closeness in self.between.items()},
            "missing_runtimes": list(self.missing),
            "judged_by_class": self.judged_by_class,
            "failures": list(self.failures),
        }


def verify(
    path: Path,
    model: ModelChoice,
    float_model: Model,
    held_out: Iterable[LabelledBatch],
    *,
    spec: PreprocessSpec,
    recordings: int,
    random_weights: bool,
) -> tuple[Verification, Runner]:
    """Loads the file in every runtime and compares it with the float model; returns the first runtime's runner, too.

    Args:
        path: of the file.
        model: what it should be.
        float_model: reference.
        held_out: recordings that neither calibrated nor chose the recipe.
        spec: of the inputs.
        recordings: their number, for the progress bar.
        random_weights: classes carry no meaning.

    Raises:
        AnswerIsNo: a logit is not finite.
        DataError: a runtime cannot load the file.
    """
    names = RUNTIMES_OF_FORMAT[model.file_format]
    runners = {name: open_model(path, name) for name in names if is_installed(name)}
    models = {"float": float_model, **{name: one_by_one(runner) for name, runner in runners.items()}}
    answers = ask(models, held_out, title="verifying", recordings=recordings)
    max_drop = model.budget.max_drop if model.budget else None
    results = tuple(
        RuntimeResult(
            runtime=name,
            score=answers.score(name),
            drop=logits_drop(answers.logits["float"], answers.logits[name], answers.labels),
            closeness=Closeness.of(answers, "float", name),
        )
        for name in runners
    )
    first, *others = runners
    between = {name: Closeness.of(answers, first, name) for name in others}
    limits = limits_of(model.recipe, max_drop)
    failures = _check_contract(path, model, spec, runners)
    for result in results:
        failures += _judge(result, limits, max_drop, random_weights=random_weights)
    for name, closeness in between.items():
        if not random_weights and closeness.agreement < tolerances.RUNTIMES_MIN_AGREEMENT:
            failures.append(
                f"{first} and {name} agree on {100 * closeness.agreement:.1f} % of the recordings, "
                f"less than {100 * tolerances.RUNTIMES_MIN_AGREEMENT:g} %"
            )
    missing = tuple(name for name in names if name not in runners)
    float_score = answers.score("float")
    verification = Verification(float_score, results, between, missing, not random_weights, tuple(failures))
    return verification, runners[first]


def _check_contract(path: Path, model: ModelChoice, spec: PreprocessSpec, runners: Mapping[str, Runner]) -> list[str]:
    """Names, shapes and types of inputs and output; for an integer-only TFLite file, the types of all its tensors."""
    dtype = "int8" if model.recipe.static and model.file_format == "tflite" else "float32"
    shapes = {"skeleton": spec.skeleton.shape, "audio": spec.audio.shape}
    expected = {name: ((1, *shapes[name]), dtype) for name in INPUTS_OF[model.stream]}
    failures = []
    for name, runner in runners.items():
        inputs = {tensor.name: (tensor.shape, tensor.dtype) for tensor in runner.inputs}
        if inputs != expected:
            failures.append(f"inputs in {name} are {inputs}, not {expected}")
        outputs = [(tensor.name, tensor.dtype) for tensor in runner.outputs]
        if outputs != [(OUTPUT_NAME, dtype)]:
            failures.append(f"outputs in {name} are {outputs}, not {[(OUTPUT_NAME, dtype)]}")
    if dtype == "int8":
        floats = tflite_contents(path).float_tensors
        if model.recipe.integer_only and floats:
            failures.append(f"{len(floats)} tensors are floating-point, the first {floats[0]!r}")
        failures += _check_heatmap_scale(runners)
    return failures


def _check_heatmap_scale(runners: Mapping[str, Runner]) -> list[str]:
    """Heatmaps lie in [0, 1], so their scale is 1/255 and their zero point −128: a device writes pixels directly."""
    skeletons = [tensor for runner in runners.values() for tensor in runner.inputs if tensor.name == "skeleton"]
    return [
        f"input skeleton has scale {tensor.scale} and zero point {tensor.zero_point}, not 1/255 and -128"
        for tensor in skeletons
        if abs(tensor.scale * 255 - 1) > 1e-5 or tensor.zero_point != -128
    ]


def limits_of(recipe: Recipe, max_drop: MaxDrop | None) -> tolerances.Tolerance:
    """The recipe's tolerance; every further point of accuracy that may be lost lets as many more answers differ."""
    limits = tolerances.FLOAT32 if recipe.base == "float32" else tolerances.INT8
    if max_drop is None:
        return limits
    more = max(0.0, max_drop.points - limits.max_drop_points)
    return replace(limits, min_agreement=limits.min_agreement - more / 100)


def _judge(
    result: RuntimeResult, limits: tolerances.Tolerance, max_drop: MaxDrop | None, *, random_weights: bool
) -> list[str]:
    """Missed limits. Without `max_drop` the measured drop decides, with it the upper end of its interval."""
    name, closeness, drop = result.runtime, result.closeness, result.drop
    failures = []
    if closeness.snr_db < limits.min_snr_db:
        failures.append(f"{name}: logits' SNR is {closeness.snr_db:.1f} dB, less than {limits.min_snr_db:g} dB")
    if random_weights:
        return failures
    if closeness.agreement < limits.min_agreement:
        failures.append(
            f"{name}: agrees with the float model on {100 * closeness.agreement:.1f} % of the recordings, "
            f"less than {100 * limits.min_agreement:g} %"
        )
    if max_drop is not None:
        failures += [] if max_drop.holds(drop) else [max_drop.finding(drop, name)]
    elif drop.points > limits.max_drop_points:
        failures.append(f"{name}: accuracy drops by {drop.points:.2f} points, more than {limits.max_drop_points:g}")
    return failures
