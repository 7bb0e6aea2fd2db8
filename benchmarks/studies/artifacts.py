"""Artefacts that answer on the same recordings, clean and corrupted."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from console.program import named_path, warn
from console.progress import Progress
from preprocess.errors import DataError, PocketHarError, UsageError
from recordings.actions import class_indices
from recordings.recording import Arrays, RecordingRef
from recordings.sources import DataSource
from recordings.synthetic.cached import HELD_OUT_SEED
from recordings.workers import WorkerPool, run_here
from runtime.manifest import Manifest, read_artifact
from runtime.runners import RUNTIMES_OF_FORMAT, distribution_of, open_model

from .conditions import Condition, ConditionMaker, tensors_of


@dataclass(frozen=True)
class Artifact:
    """An artefact under the name that tables have for it; it runs in its format's first runtime."""

    name: str
    manifest: Manifest
    path: Path

    @property
    def runtime(self) -> str:
        return RUNTIMES_OF_FORMAT[self.manifest.format][0]

    def to_dict(self) -> dict[str, Any]:
        """What a result file says of it."""
        version = metadata.version(distribution_of(self.runtime))
        return {
            "name": self.name,
            "recipe": self.manifest.recipe,
            "runtime": f"{self.runtime} {version}",
            "size_bytes": self.manifest.size_bytes,
            "sha256": self.manifest.sha256,
        }


@dataclass(frozen=True)
class HeldOut:
    """Recordings to answer on.

    Attributes:
        refs: in the order of the catalogue.
        labels: int32 [N], class indices.
        origin: where they come from, without a path, for result files.
    """

    refs: tuple[RecordingRef, ...]
    labels: npt.NDArray[np.int32]
    origin: str


@dataclass(frozen=True, eq=False)
class Answers:
    """What artefacts said.

    Attributes:
        labels: int32 [N], true classes of the recordings that could be used.
        logits: float32 [artefacts, conditions, N, classes].
        skipped: names of the recordings that were left out.
    """

    labels: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float32]
    skipped: tuple[str, ...]


def open_artifacts(words: Sequence[str]) -> list[Artifact]:
    """Artefacts from `DIR` or `NAME=DIR`; without a name they have that of their manifest.

    Raises:
        UsageError: two have the same name, or a name or a folder is empty.
        DataError: a folder is no artefact, or two have different classes or inputs.
    """
    artifacts = []
    for name, folder in map(named_path, words):
        manifest, path = read_artifact(folder)
        artifacts.append(Artifact(name or manifest.name, manifest, path))
    names = [own.name for own in artifacts]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{names.count(name)} artefacts are called {name!r}; write NAME=DIR")
    first = artifacts[0]
    for own in artifacts[1:]:
        a, b = own.manifest, first.manifest
        if a.codes != b.codes or not a.spec.is_close(b.spec):
            what = "inputs" if a.codes == b.codes else "classes"
            raise DataError(f"{first.name} and {own.name} have different {what}; export both from the same checkpoint")
    return artifacts


def artifact_words(artifacts: Sequence[Artifact]) -> str:
    """The artefacts as a command names them, without the paths of this machine."""
    return " ".join(shlex.quote(f"{own.name}=DIR") for own in artifacts)


def choose_recordings(options: argparse.Namespace, codes: Sequence[str]) -> HeldOut:
    """The recordings that --data, --audio, --protocol, --on-error, --recordings and --seed ask for.

    Without --data the synthetic ones that `python -m export` verifies on.

    Raises:
        UsageError: an option is out of range, or the model's classes are not those of the synthetic recordings.
        DataError: the folder, the protocol or the classes do not fit.
    """
    for name, least in (("recordings", 1), ("workers", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name} is {getattr(options, name)}; use {least} or more")
    if options.data is None and (options.audio or options.protocol):
        raise UsageError(f"--{'audio' if options.audio else 'protocol'} needs --data DIR")
    refs = DataSource.of(options).held_out(codes, options.recordings)
    origin = f"given, {options.protocol}" if options.protocol else "given"
    if options.data is None:
        origin = f"synthetic, seed {HELD_OUT_SEED}"
    return HeldOut(tuple(refs), class_indices(refs, codes), origin)


def answer_as_asked(
    options: argparse.Namespace, artifacts: Sequence[Artifact], conditions: Sequence[Condition], *, label: str
) -> tuple[HeldOut, Answers]:
    """Chooses the recordings and runs every artefact on them, as the command's options say.

    Raises:
        UsageError, DataError, MissingComponentError: as `choose_recordings` and `answer`.
    """
    held_out = choose_recordings(options, artifacts[0].manifest.codes)
    answers = answer(
        artifacts,
        held_out,
        conditions,
        seed=options.seed,
        workers=options.workers,
        skip_bad=options.on_error == "skip",
        label=label,
    )
    return held_out, answers


def answer(
    artifacts: Sequence[Artifact],
    held_out: HeldOut,
    conditions: Sequence[Condition],
    *,
    seed: int,
    workers: int,
    skip_bad: bool,
    label: str,
) -> Answers:
    """Runs every artefact on every recording under every condition.

    A recording is read and preprocessed once, in worker processes, and its tensors go to all artefacts.

    Args:
        artifacts: of equal classes and inputs (`open_artifacts`).
        held_out: the recordings.
        conditions: the first is `CLEAN`.
        seed: of the corruptions.
        workers: processes; 0 computes in this one.
        skip_bad: leave recordings out that cannot be used, with a warning, instead of raising their error.
        label: of the progress bar.

    Raises:
        DataError: a recording or a model file cannot be used, or no recording can.
        MissingComponentError: a runtime is not installed, a worker died or there is too little shared memory.
    """
    runners = [open_model(own.path, own.runtime) for own in artifacts]
    job = ConditionMaker(artifacts[0].manifest.spec, tuple(conditions), seed)
    logits, used = [], []
    problems: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        results = _results(job, held_out.refs, workers, stack)
        progress = stack.enter_context(Progress(label, len(held_out.refs)))
        for index, ref in enumerate(held_out.refs):
            result = next(results)
            progress.advance()
            if isinstance(result, PocketHarError):
                if not (skip_bad and isinstance(result, DataError)):
                    raise result
                problems[ref.name] = str(result)
                continue
            inputs = [tensors_of(condition, result) for condition in conditions]
            logits.append([[runner(tensors) for tensors in inputs] for runner in runners])
            used.append(index)
    if not used:
        raise DataError(
            f"none of the {len(problems)} recordings can be used; the first: {next(iter(problems.values()))}"
        )
    if problems:
        warn(f"{len(problems)} recording(s) were left out; the first: {next(iter(problems.values()))}")
    stacked = np.moveaxis(np.asarray(logits, np.float32), 0, 2)
    return Answers(held_out.labels[used], stacked, tuple(problems))


def _results(
    job: ConditionMaker, refs: Sequence[RecordingRef], workers: int, stack: contextlib.ExitStack
) -> Iterator[Arrays | PocketHarError]:
    if not workers:
        return run_here(job, refs)
    pool = stack.enter_context(WorkerPool(job, job.shapes, workers=workers, prefetch=workers + 1))
    return pool.imap(refs)
