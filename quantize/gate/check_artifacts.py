"""Artefacts that the accuracy gate compares: opened, required to fit each other, and asked the same recordings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from console.program import warn
from console.progress import Progress
from preprocess.errors import DataError, UsageError
from recordings.batches import Batch, FeatureLoader
from recordings.sources import DataSource, Refs
from runtime.manifest import Label, Manifest, read_artifact
from runtime.runners import RUNTIMES_OF_FORMAT, Runner, distribution_of, open_model

from .gate_report import Side


@dataclass(frozen=True)
class CheckedArtifact:
    """An artefact and the runtime that is to run it; `soc`: the chip whose NPU is emulated."""

    manifest: Manifest
    path: Path
    runtime: str
    soc: str | None = None

    @property
    def labels(self) -> tuple[Label, ...]:
        return self.manifest.labels

    @property
    def side(self) -> Side:
        own = self.manifest
        version = metadata.version(distribution_of(self.runtime))
        return Side(own.name, own.recipe, self.runtime, version, own.size_bytes, own.sha256)


@dataclass(frozen=True, eq=False)
class Answers:
    """What the models said.

    Attributes:
        names: of the recordings, N of them.
        labels: int32 [N], true classes.
        logits: of every model, float32 [N, classes].
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    logits: tuple[npt.NDArray[np.float32], ...]

    @property
    def float_logits(self) -> npt.NDArray[np.float32]:
        return self.logits[0]

    @property
    def int8_logits(self) -> npt.NDArray[np.float32]:
        return self.logits[1]


def open_artifact(folder: Path, runtime: str | None) -> CheckedArtifact:
    """The artefact, to be run in `runtime` or in the first that its format has.

    Raises:
        UsageError: the runtime does not run it, or no runtime here does.
        DataError: the folder is no artefact.
    """
    manifest, path = read_artifact(folder)
    if manifest.npu:
        raise UsageError(
            f"{folder} is compiled for {manifest.npu['soc']} and runs on no CPU; name the artefact it was made from"
        )
    possible = RUNTIMES_OF_FORMAT[manifest.format]
    if runtime is not None and runtime not in possible:
        raise UsageError(f"{runtime!r} does not run {folder}, a {manifest.format} file; use {' or '.join(possible)}")
    return CheckedArtifact(manifest, path, runtime or possible[0])


def require_comparable(a: CheckedArtifact, b: CheckedArtifact) -> None:
    """Raises UsageError or DataError unless `a`, the float model, and `b` answer the same question."""
    if (a.manifest.sha256, a.runtime) == (b.manifest.sha256, b.runtime):
        raise UsageError(f"--float and --int8 name the same model file, {a.manifest.name}, in the same runtime")
    if a.manifest.recipe != "float32" and b.manifest.recipe == "float32":
        raise UsageError(
            f"--float names a model of recipe {a.manifest.recipe} and --int8 one of float32; exchange them"
        )
    if a.labels != b.labels:
        only = [label.code for label in (*a.labels, *b.labels) if (label in a.labels) != (label in b.labels)]
        difference = f"{', '.join(dict.fromkeys(only))} differ" if only else "their order differs"
        raise DataError(
            f"{a.manifest.name} and {b.manifest.name} have different labels: {difference}; "
            "export both from the same checkpoint"
        )
    if a.manifest.stream != b.manifest.stream:
        raise DataError(
            f"{a.manifest.name} is the {a.manifest.stream} model and {b.manifest.name} the {b.manifest.stream} one; "
            "export both with the same --stream"
        )
    if fields := _differences(a.manifest.spec.to_dict(), b.manifest.spec.to_dict()):
        raise DataError(
            f"{a.manifest.name} and {b.manifest.name} have different inputs: {', '.join(fields)} differ; "
            "export both from the same checkpoint"
        )


def _differences(a: Any, b: Any, name: str = "") -> list[str]:
    """Dotted names of the fields that differ between two JSON objects."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [] if a == b else [name]
    keys = dict.fromkeys((*a, *b))
    return [found for key in keys for found in _differences(a.get(key), b.get(key), f"{name}.{key}".lstrip("."))]


def run_all(artifacts: Sequence[CheckedArtifact], options: argparse.Namespace, *, at_once: int = 1) -> Answers:
    """Answers of every artefact on the recordings that the options choose; `at_once`: how many may compute together.

    Raises:
        DataError: a runtime cannot load a file, or recordings are bad.
        MissingComponentError: a runtime is not installed.
    """
    runners = [open_model(own.path, own.runtime, soc=own.soc) for own in artifacts]
    source, manifest = DataSource.of(options), artifacts[0].manifest
    _, drawn = source.draw(manifest, calibration=0, held_out=options.recordings)
    # In the order of their names, so that a baseline fits whatever drew the same recordings.
    refs: Refs = sorted(drawn, key=lambda ref: ref.name)
    with source.loader(refs, manifest) as loader:
        answers = _ask(runners, loader, len(refs), at_once)
        problems = loader.problems
    if problems:
        warn(f"{len(problems)} recording(s) were left out; the first: {next(iter(problems.values()))}")
    return answers


def _ask(runners: Sequence[Runner], loader: FeatureLoader, count: int, at_once: int) -> Answers:
    names: list[str] = []
    labels: list[npt.NDArray[np.int32]] = []
    logits: list[list[npt.NDArray[np.float32]]] = [[] for _ in runners]
    with Progress("checking", count) as progress, ThreadPoolExecutor(at_once) as pool:
        for batch in loader.epoch(0):
            names += batch.names
            labels.append(batch.labels)
            for index in range(len(batch.labels)):
                tensors = _tensors(batch, index)
                jobs = [pool.submit(runner, tensors) for runner in runners]
                for job, rows in zip(jobs, logits, strict=True):
                    rows.append(job.result())
                progress.advance()
    return Answers(tuple(names), np.concatenate(labels), tuple(np.stack(rows) for rows in logits))


def _tensors(batch: Batch, index: int) -> dict[str, npt.NDArray[Any]]:
    assert batch.skeleton is not None
    assert batch.audio is not None
    return {"skeleton": batch.skeleton[index : index + 1], "audio": batch.audio[index : index + 1]}
