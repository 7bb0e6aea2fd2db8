"""Conditions under which artefacts are compared: kinds of corruption and their severities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from preprocess.errors import DataError
from preprocess.spec import PreprocessSpec
from recordings.batches import recording_rng
from recordings.corruptions import add_noise, drop_joints, reverberate, shift_audio, without
from recordings.reading import read_recording
from recordings.recording import INPUTS, Arrays, Input, Recording, RecordingRef, preprocess_recording


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


def _misalign(recording: Recording, seconds: float, rng: np.random.Generator) -> Recording:
    return shift_audio(recording, seconds)


def _misaligned(seconds: float) -> str:
    return f"sound {abs(seconds):g} s {'late' if seconds > 0 else 'early'}"


# The order numbers the random streams (`ConditionMaker`): add new kinds at the end.
KINDS = {
    "clean": Kind(INPUTS, lambda recording, _, rng: recording, "clean".format),
    "noise": Kind(("audio",), add_noise, "noise, SNR {:g} dB".format, "dB", (40, 30, 20, 10, 0)),
    "reverberation": Kind(("audio",), reverberate, "reverberation, RT60 {:g} s".format, "s", (0.2, 0.4, 0.8, 1.6)),
    "joints": Kind(
        ("skeleton",),
        lambda own, percent, rng: drop_joints(own, percent / 100, rng),
        "{:g} % of joints lost".format,
        "%",
        (10, 25, 50, 75),
    ),
    "misalignment": Kind(("audio",), _misalign, _misaligned, "s", (-1, -0.5, -0.25, -0.1, 0.1, 0.25, 0.5, 1)),
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


CLEAN = Condition("clean")
ALL_CONDITIONS = tuple(Condition(name, severity) for name, kind in KINDS.items() for severity in kind.severities)


@dataclass(frozen=True)
class ConditionMaker:
    """What a worker does: read a recording and preprocess what each condition makes of it.

    Conditions of a kind draw from equal generators, so that they differ in severity alone.
    """

    spec: PreprocessSpec
    conditions: tuple[Condition, ...]
    seed: int

    def __call__(self, ref: RecordingRef) -> Arrays:
        """The tensors that a condition changes, by `tensor_name`."""
        try:
            recording = read_recording(ref, sample_rate_hz=self.spec.audio.sample_rate_hz)
        except OSError as error:
            raise DataError(f"{ref.name} cannot be read: {error}") from error
        arrays: Arrays = {}
        for condition in self.conditions:
            kind = KINDS[condition.kind]
            rng = recording_rng(self.seed, list(KINDS).index(condition.kind), ref.name)
            corrupted = kind.apply(recording, condition.severity, rng)
            for name, tensor in preprocess_recording(corrupted, self.spec, inputs=kind.changes).items():
                arrays[tensor_name(condition, name)] = tensor
        return arrays

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of what a call gives."""
        own: dict[str, tuple[int, ...]] = {"skeleton": self.spec.skeleton.shape, "audio": self.spec.audio.shape}
        return {tensor_name(c, name): own[name] for c in self.conditions for name in KINDS[c.kind].changes}


def tensor_name(condition: Condition, tensor: str) -> str:
    return f"{condition.kind} {condition.severity:g} {tensor}"


def tensors_of(condition: Condition, arrays: Arrays) -> Arrays:
    """What a model gets under a condition: its own tensors, else the clean ones, with a batch axis of one."""
    names = {name: tensor_name(condition, name) for name in INPUTS}
    clean = {name: tensor_name(CLEAN, name) for name in INPUTS}
    return {name: arrays[own if own in arrays else clean[name]][None] for name, own in names.items()}
