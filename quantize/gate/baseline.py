"""A baseline, committed beside the code: the answers of an accepted INT8 model, recording by recording."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from console.strict_json import decode, read_json
from preprocess.errors import DataError, UsageError

from .rules import Choices, GateResult

BASELINE_VERSION = 1
# Answers on a line of the file: short lines keep a diff readable.
_PER_LINE = 40


@dataclass(frozen=True)
class Provenance:
    """Where the answers come from.

    Attributes:
        command: repeats the check, without paths of a machine.
        date: in ISO 8601.
        runtimes: version of the runtime of `float` and `int8`, e.g. `litert 2.3.0`.
        float_sha256, int8_sha256: of the model files.
    """

    command: str
    date: str
    runtimes: dict[str, str]
    float_sha256: str
    int8_sha256: str


@dataclass(frozen=True)
class Baseline:
    """Answers of both models.

    Attributes:
        recordings_sha256: of the recordings' names, see `names_sha256`.
        classes: code of every class, in the order of the logits.
        float_choices, int8_choices: index of the class that each model chose, for every recording.
        float_accuracy, int8_accuracy: shares.
        drop_points: accuracy lost, in percentage points.
        agreement: share of recordings on which both chose the same class.
        provenance: where the answers come from.
    """

    recordings_sha256: str
    classes: tuple[str, ...]
    float_choices: tuple[int, ...]
    int8_choices: tuple[int, ...]
    float_accuracy: float
    int8_accuracy: float
    drop_points: float
    agreement: float
    provenance: Provenance

    def __post_init__(self) -> None:
        if len(self.float_choices) != len(self.int8_choices) or not self.int8_choices:
            raise DataError(f"baseline has {len(self.float_choices)} float and {len(self.int8_choices)} INT8 answers")
        if not all(0 <= index < len(self.classes) for index in (*self.float_choices, *self.int8_choices)):
            raise DataError(f"baseline has an answer outside its {len(self.classes)} classes")

    def choices_for(self, names: Sequence[str], classes: Sequence[str]) -> Choices:
        """The INT8 model's choices for these recordings, int32 [N].

        Args:
            names: of the recordings, in order.
            classes: code of every class, in the order of the logits.

        Raises:
            DataError: the baseline was made with other recordings or classes.
        """
        if tuple(classes) != self.classes:
            raise DataError(
                f"the models' {len(classes)} classes are not the baseline's {len(self.classes)}; "
                "if that is intended, run with --update-baseline"
            )
        if names_sha256(names) != self.recordings_sha256:
            raise DataError(
                f"the {len(names)} recordings are not the {len(self.int8_choices)} that the baseline was made with; "
                "if that is intended, run with --update-baseline"
            )
        return np.array(self.int8_choices, np.int32)

    def to_json(self) -> str:
        """JSON text. Non-finite numbers are refused."""
        data = asdict(self)
        for name in ("float_choices", "int8_choices"):
            data[name] = _lines(data[name])
        return json.dumps({"version": BASELINE_VERSION, **data}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, document: Any) -> Baseline:
        """Inverse of `to_json`, from the parsed document.

        Raises:
            DataError: it is not a baseline that this release reads.
        """
        version = document.get("version") if isinstance(document, dict) else None
        if version != BASELINE_VERSION:
            raise DataError(f"baseline has version {version!r}; this release reads {BASELINE_VERSION}")
        data = {name: value for name, value in document.items() if name != "version"}
        for name in ("float_choices", "int8_choices"):
            lines: tuple[str, ...] = decode(tuple[str, ...], data.get(name), f"baseline.{name}")
            words = " ".join(lines).split()
            if not all(word.isdecimal() for word in words):
                raise DataError(f"baseline.{name} has a word that is not a class index")
            data[name] = [int(word) for word in words]
        baseline: Baseline = decode(cls, data, "baseline")
        return baseline


def make_baseline(
    result: GateResult,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    float_choices: npt.NDArray[np.integer[Any]],
    int8_choices: npt.NDArray[np.integer[Any]],
    provenance: Provenance,
) -> Baseline:
    """The baseline of a gate that passed.

    Args:
        result: of the gate.
        names: of the recordings, [N].
        classes: code of every class.
        float_choices, int8_choices: [N], chosen classes.
        provenance: where the answers come from.

    Raises:
        UsageError: the gate failed; such answers are no baseline.
    """
    if not result.passed or result.comparison is None:
        raise UsageError(f"a gate that failed makes no baseline: {'; '.join(result.failures)}")
    comparison = result.comparison
    return Baseline(
        recordings_sha256=names_sha256(names),
        classes=tuple(classes),
        float_choices=tuple(float_choices.tolist()),
        int8_choices=tuple(int8_choices.tolist()),
        float_accuracy=comparison.float_score.accuracy,
        int8_accuracy=comparison.int8_score.accuracy,
        drop_points=comparison.drop.points,
        agreement=comparison.agreement,
        provenance=provenance,
    )


def read_baseline(path: Path) -> Baseline:
    """Reads a baseline.

    Raises:
        DataError: the file is missing, or not a baseline that this release reads.
    """
    try:
        return Baseline.from_dict(read_json(path, "baseline"))
    except DataError as error:
        raise DataError(f"{error}; write it with --update-baseline") from error


def names_sha256(names: Sequence[str]) -> str:
    """Hash of the recordings' names: UTF-8, one a line, in order."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def _lines(choices: Sequence[int]) -> list[str]:
    return [" ".join(map(str, choices[start : start + _PER_LINE])) for start in range(0, len(choices), _PER_LINE)]
