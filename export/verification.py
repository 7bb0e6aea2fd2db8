"""Comparison of an artifact with the float model it was made from, on held-out recordings and in every runtime.

Random weights give the same class to almost every input, decided by margins near zero. Agreement and accuracy mean
nothing there and are reported without judgement; the logits' SNR is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import INPUTS_OF
from preprocess.spec import PreprocessSpec
from quantize.gate.paired import PairedDrop, logits_drop
from runtime.answers import Answers, LabelledBatch, Model, ask, one_by_one
from runtime.runners import RUNTIMES_OF_FORMAT, Runner, is_installed, open_model

from .plan import ModelChoice
from .tflite_file import OUTPUT_NAME, float_tensors
from .tolerances import FLOAT32_LIMITS, INT8_LIMITS, RUNTIMES_MIN_AGREEMENT


@dataclass(frozen=True, eq=False)
class Verification:
    """The outcome.

    Attributes:
        answers: of the float model, `float`, and of the artifact by runtime.
        runtimes: the installed ones, in the order of the format.
        missing: runtimes that are not installed.
        judged_by_class: False with random weights, where classes carry no meaning.
        failures: one line for each tolerance that was missed; empty when the artifact is verified.
    """

    answers: Answers
    runtimes: tuple[str, ...]
    missing: tuple[str, ...]
    judged_by_class: bool
    failures: tuple[str, ...]

    @property
    def recordings(self) -> int:
        return len(self.answers.names)

    def drop(self, runtime: str) -> PairedDrop:
        """Accuracy that the artifact loses against the float model."""
        logits = self.answers.logits
        return logits_drop(logits["float"], logits[runtime], self.answers.labels)

    def to_dict(self) -> dict[str, Any]:
        first, *others = self.runtimes

        def closeness(reference: str, model: str) -> dict[str, float]:
            answers = self.answers
            return {"agreement": answers.agreement(reference, model), "snr_db": answers.snr_db(reference, model)}

        return {
            "verified": not self.failures,
            "recordings": self.recordings,
            "float": self.answers.score("float").to_dict(),
            "runtimes": {
                name: {
                    **self.answers.score(name).to_dict(),
                    **closeness("float", name),
                    "drop_points": self.drop(name).points,
                }
                for name in self.runtimes
            },
            "between_runtimes": {name: closeness(first, name) for name in others},
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
        model: the file as it should be.
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
    failures = _check_contract(path, model, spec, runners)
    failures += _check_answers(answers, model, list(runners), random_weights=random_weights)
    missing = tuple(name for name in names if name not in runners)
    verification = Verification(answers, tuple(runners), missing, not random_weights, tuple(failures))
    return verification, next(iter(runners.values()))


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
        # Heatmaps lie in [0, 1]: with scale 1/255 and zero point −128 a device writes pixels directly.
        failures += [
            f"input skeleton has scale {tensor.scale} and zero point {tensor.zero_point}, not 1/255 and -128"
            for tensor in runner.inputs
            if dtype == "int8" and tensor.name == "skeleton"
            if abs(tensor.scale * 255 - 1) > 1e-5 or tensor.zero_point != -128
        ]
    if dtype == "int8" and model.recipe.integer_only and (floats := float_tensors(path)):
        failures.append(f"{len(floats)} tensors are floating-point, the first {floats[0]!r}")
    return failures


def _check_answers(answers: Answers, model: ModelChoice, runtimes: list[str], *, random_weights: bool) -> list[str]:
    """Missed limits. Without `max_drop` the measured drop decides, with it the upper end of its interval."""
    limits = FLOAT32_LIMITS if model.recipe.base == "float32" else INT8_LIMITS
    min_agreement = limits.min_agreement
    if model.max_drop:
        # Every further point of accuracy that may be lost lets one more percent of the answers differ.
        min_agreement -= max(0.0, model.max_drop.points - limits.max_drop_points) / 100
    failures = []
    for name in runtimes:
        agreement, snr_db = answers.agreement("float", name), answers.snr_db("float", name)
        if snr_db < limits.min_snr_db:
            failures.append(f"{name}: logits' SNR is {snr_db:.1f} dB, less than {limits.min_snr_db:g} dB")
        if random_weights:
            continue
        if agreement < min_agreement:
            failures.append(
                f"{name}: agrees with the float model on {100 * agreement:.1f} % of the recordings, "
                f"less than {100 * min_agreement:g} %"
            )
        drop = logits_drop(answers.logits["float"], answers.logits[name], answers.labels)
        if model.max_drop:
            failures += [] if model.max_drop.holds(drop) else [model.max_drop.finding(drop, name)]
        elif drop.points > limits.max_drop_points:
            failures.append(f"{name}: accuracy drops by {drop.points:.2f} points, more than {limits.max_drop_points:g}")
    first, *others = runtimes
    for name in [] if random_weights else others:
        agreement = answers.agreement(first, name)
        if agreement < RUNTIMES_MIN_AGREEMENT:
            failures.append(
                f"{first} and {name} agree on {100 * agreement:.1f} % of the recordings, "
                f"less than {100 * RUNTIMES_MIN_AGREEMENT:g} %"
            )
    return failures
