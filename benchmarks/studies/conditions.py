"""Artifacts on the same recordings, clean and corrupted: kinds of corruption, their severities, and the answers."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from console.program import warn
from preprocess.errors import DataError, PocketHarError
from preprocess.spec import PreprocessSpec
from recordings.actions import class_indices
from recordings.batches import recording_rng
from recordings.corruptions import add_noise, drop_joints, reverberate, shift_audio, without
from recordings.reading import read_recording
from recordings.recording import INPUTS, Arrays, Input, Recording, RecordingRef
from recordings.sources import DataSource
from recordings.synthetic.generate import HELD_OUT_SEED
from recordings.workers import WorkerPool, run_here
from runtime.answers import Answers, Model, ask, one_by_one
from runtime.artifact import Artifact
from runtime.manifest import Manifest


@dataclass(frozen=True)
class Kind:
    """A kind of corruption.

    Attributes:
        changes: the inputs that it changes; the others are those of the clean recording.
        apply: recording, severity and generator → recording.
        name: a condition's name from its severity.
        unit: of the severity, empty where there is none.
        severities: those compared.
    """

    changes: tuple[Input, ...]
    apply: Callable[[Recording, float, np.random.Generator], Recording]
    name: Callable[[float], str]
    unit: str = ""
    severities: tuple[float, ...] = (0.0,)


def _misaligned(seconds: float) -> str:
    return f"sound {abs(seconds):g} s {'late' if seconds > 0 else 'early'}"


# The order numbers the random streams (`read_under_conditions`): add new kinds at the end.
KINDS = {
    "clean": Kind(INPUTS, lambda recording, _, rng: recording, "clean".format),
    "noise": Kind(("audio",), add_noise, "noise, SNR {:g} dB".format, "dB", (40, 30, 20, 10, 0)),
    "reverberation": Kind(("audio",), reverberate, "reverberation, RT60 {:g} s".format, "s", (0.2, 0.4, 0.8, 1.6)),
    "joints": Kind(
        ("skeleton",),
        lambda recording, percent, rng: drop_joints(recording, percent / 100, rng),
        "{:g} % of joints lost".format,
        "%",
        (10, 25, 50, 75),
    ),
    "misalignment": Kind(
        ("audio",),
        lambda recording, seconds, rng: shift_audio(recording, seconds),
        _misaligned,
        "s",
        (-1, -0.5, -0.25, -0.1, 0.1, 0.25, 0.5, 1),
    ),
    "no skeleton": Kind(
        ("skeleton",), lambda recording, _, rng: without(recording, "skeleton"), "without skeleton".format
    ),
    "no sound": Kind(("audio",), lambda recording, _, rng: without(recording, "audio"), "without sound".format),
}


@dataclass(frozen=True)
class Condition:
    """A kind of `KINDS` at one severity, in the kind's unit."""

    kind: str
    severity: float = 0.0

    @property
    def name(self) -> str:
        return KINDS[self.kind].name(self.severity)

    def key(self, tensor: str) -> str:
        """The name of a tensor among those of all conditions."""
        return f"{self.kind} {self.severity:g} {tensor}"

    def model(self, artifact: Model) -> Model:
        """An artifact as a model of the tensors of all conditions: it answers under this one.

        Inputs that the condition does not change are those of the clean recording.
        """
        changed = KINDS[self.kind].changes
        keys = {tensor: (self if tensor in changed else CLEAN).key(tensor) for tensor in INPUTS}
        return lambda tensors: artifact({tensor: tensors[key] for tensor, key in keys.items()})


CLEAN = Condition("clean")
ALL_CONDITIONS = tuple(Condition(name, severity) for name, kind in KINDS.items() for severity in kind.severities)


def read_under_conditions(
    ref: RecordingRef, *, spec: PreprocessSpec, conditions: Sequence[Condition], seed: int
) -> Arrays:
    """The job of a worker: reads a recording and preprocesses the tensors that each condition changes.

    Conditions of a kind draw from equal generators, so that they differ in severity alone.

    Returns:
        float32 [1, ...], by `Condition.key`.
    """
    try:
        recording = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz)
    except OSError as error:
        raise DataError(f"{ref.name} cannot be read: {error}") from error
    arrays: Arrays = {}
    for condition in conditions:
        kind = KINDS[condition.kind]
        rng = recording_rng(seed, list(KINDS).index(condition.kind), ref.name)
        corrupted = kind.apply(recording, condition.severity, rng)
        for name, tensor in corrupted.tensors(spec, kind.changes).items():
            arrays[condition.key(name)] = tensor
    return arrays


@dataclass(frozen=True)
class ConditionBatch:
    """One recording under all conditions, as `runtime.answers.ask` takes it."""

    names: tuple[str]
    labels: npt.NDArray[np.int32]
    tensors: Mapping[str, npt.NDArray[np.float32]]


def ask_under_conditions(
    options: argparse.Namespace, artifacts: Sequence[Artifact], conditions: Sequence[Condition], *, title: str
) -> tuple[Answers, dict[str, Any]]:
    """Asks every artifact about the recordings that the options choose, under every condition.

    A recording is read and preprocessed once, in worker processes, and its tensors go to all artifacts. Without --data
    the recordings are the synthetic ones on which `python -m export` verifies.

    Args:
        options: those of `console.options.add_recordings` and `add_count`; --seed is also that of the corruptions.
        artifacts: of equal classes and inputs (`runtime.artifact.open_artifacts`).
        conditions: the first is `CLEAN`.

    Returns:
        The answers by (artifact's name, condition), and the fields of a result file on the recordings.

    Raises:
        UsageError: the model's classes are not those of the synthetic recordings.
        DataError: a recording or a model file cannot be used (with --on-error skip: no recording can).
        MissingComponentError: a runtime is not installed, a worker died or there is too little shared memory.
    """
    refs = DataSource.of(options).held_out(artifacts[0].manifest.codes, options.recordings)
    models = {
        (artifact.name, condition): condition.model(runner)
        for artifact in artifacts
        for runner in [one_by_one(artifact.load())]
        for condition in conditions
    }
    skipped: dict[str, str] = {}
    batches = _batches(options, refs, artifacts[0].manifest, conditions, skipped)
    answers = ask(models, batches, title=title, recordings=len(refs))
    if skipped:
        warn(f"{len(skipped)} recording(s) were left out; the first: {next(iter(skipped.values()))}")
    origin = f"synthetic, seed {HELD_OUT_SEED}"
    if options.data is not None:
        origin = f"given, {options.protocol}" if options.protocol else "given"
    return answers, {
        "seed": options.seed,
        "data": origin,
        "recordings": len(answers.names),
        "skipped": list(skipped),
    }


def _batches(
    options: argparse.Namespace,
    refs: Sequence[RecordingRef],
    manifest: Manifest,
    conditions: Sequence[Condition],
    skipped: dict[str, str],
) -> Iterator[ConditionBatch]:
    """One batch for each recording that can be used; the reasons of the others go to `skipped`."""
    labels, spec = class_indices(refs, manifest.codes), manifest.spec
    job = partial(read_under_conditions, spec=spec, conditions=tuple(conditions), seed=options.seed)
    with contextlib.ExitStack() as stack:
        if options.workers:
            one = {"skeleton": (1, *spec.skeleton.shape), "audio": (1, *spec.audio.shape)}
            shapes = {c.key(name): one[name] for c in conditions for name in KINDS[c.kind].changes}
            workers = WorkerPool(job, shapes, workers=options.workers, prefetch=options.workers + 1)
            results = stack.enter_context(workers).imap(refs)
        else:
            results = run_here(job, refs)
        for ref, label in zip(refs, labels, strict=True):
            result = next(results)
            if isinstance(result, DataError) and options.on_error == "skip":
                skipped[ref.name] = str(result)
                continue
            if isinstance(result, PocketHarError):
                raise result
            # Copies: the arrays of a pool are views that end with it.
            tensors = {name: tensor.copy() for name, tensor in result.items()}
            del result
            yield ConditionBatch((ref.name,), np.array([label], np.int32), tensors)
    if len(skipped) == len(refs):
        raise DataError(f"none of the {len(refs)} recordings can be used; the first: {next(iter(skipped.values()))}")
