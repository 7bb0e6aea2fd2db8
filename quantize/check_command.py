"""Handler of `python -m quantize check`: runs both artefacts on the same recordings and asks the accuracy gate."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from console.files import atomic_file
from console.program import log, show, show_json, warn
from console.progress import Progress
from model.config import Label
from preprocess.errors import AnswerIsNo, DataError, UsageError
from recordings.batches import Batch, FeatureLoader
from recordings.sources import DataSource, Refs
from runtime.manifest import Manifest, read_artifact
from runtime.runners import RUNTIMES_OF_FORMAT, Runner, distribution_of, open_model

from .baseline import Baseline, Provenance, make_baseline, read_baseline, write_baseline
from .gate import GateOptions, GateResult, judge
from .gate_report import Side, junit_report, markdown_report, text_report


@dataclass(frozen=True)
class _Artifact:
    """An artefact and the runtime that is to run it."""

    manifest: Manifest
    path: Path
    runtime: str

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(Label(**label) for label in self.manifest.labels)

    @property
    def side(self) -> Side:
        own = self.manifest
        version = metadata.version(distribution_of(self.runtime))
        return Side(own.name, own.recipe, self.runtime, version, own.size_bytes, own.sha256)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What both models said.

    Attributes:
        names: of the recordings, N of them.
        labels: int32 [N], true classes.
        float_logits, int8_logits: float32 [N, classes].
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    float_logits: npt.NDArray[np.float32]
    int8_logits: npt.NDArray[np.float32]


def check_command(options: argparse.Namespace) -> None:
    """Runs both artefacts, applies the gate, writes the reports, shows the outcome.

    Raises:
        AnswerIsNo: the gate failed; the reports are written all the same.
        UsageError: options do not fit together.
        DataError: the artefacts do not fit each other, the recordings or the baseline.
    """
    started, start_s = datetime.now(UTC), time.monotonic()
    allowed = _gate_options(options)
    baseline = read_baseline(options.baseline) if options.baseline and not options.update_baseline else None
    float_artifact = _open_artifact(options.float, options.float_runtime)
    int8_artifact = _open_artifact(options.int8, options.int8_runtime)
    _require_comparable(float_artifact, int8_artifact)
    answers = _run(float_artifact, int8_artifact, options)
    result = _judge(answers, int8_artifact, allowed, baseline)
    float_side, int8_side = float_artifact.side, int8_artifact.side
    if options.junit:
        moment, duration_s = started.strftime("%Y-%m-%dT%H:%M:%S"), time.monotonic() - start_s
        _write(options.junit, junit_report(result, float_side, int8_side, started=moment, duration_s=duration_s))
    if options.markdown:
        _write(options.markdown, markdown_report(result, float_side, int8_side))
    if options.json:
        show_json(_document(result, float_side, int8_side))
    else:
        show(text_report(result, float_side, int8_side))
    if not result.passed:
        raise AnswerIsNo("; ".join(result.failures))
    if options.update_baseline:
        _update_baseline(options, result, answers, float_artifact, int8_artifact)


def _gate_options(options: argparse.Namespace) -> GateOptions:
    for name, least in (("recordings", 1), ("workers", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name} is {getattr(options, name)}; use {least} or more")
    if options.update_baseline and not options.baseline:
        raise UsageError("--update-baseline needs --baseline FILE, the file to write")
    return GateOptions(
        max_drop_points=options.max_drop,
        max_class_drop_points=options.max_class_drop,
        confidence=options.confidence,
        min_agreement=options.min_agreement,
        max_regression_points=options.max_regression,
    )


def _open_artifact(folder: Path, runtime: str | None) -> _Artifact:
    manifest, path = read_artifact(folder)
    possible = RUNTIMES_OF_FORMAT[manifest.format]
    if runtime is not None and runtime not in possible:
        raise UsageError(f"{runtime!r} does not run {folder}, a {manifest.format} file; use {' or '.join(possible)}")
    return _Artifact(manifest, path, runtime or possible[0])


def _require_comparable(a: _Artifact, b: _Artifact) -> None:
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


def _run(float_artifact: _Artifact, int8_artifact: _Artifact, options: argparse.Namespace) -> _Answers:
    runners = [open_model(own.path, own.runtime) for own in (float_artifact, int8_artifact)]
    source = DataSource.of(options)
    _, drawn = source.draw(float_artifact.manifest, calibration=0, held_out=options.recordings)
    # In the order of their names, so that a baseline fits whatever drew the same recordings.
    refs: Refs = sorted(drawn, key=lambda ref: ref.name)
    with source.loader(refs, float_artifact.manifest) as loader:
        answers = _ask(runners, loader, len(refs))
        problems = loader.problems
    if problems:
        warn(f"{len(problems)} recording(s) were left out; the first: {problems[0].reason}")
    return answers


def _ask(runners: Sequence[Runner], loader: FeatureLoader, count: int) -> _Answers:
    names: list[str] = []
    labels: list[npt.NDArray[np.int32]] = []
    logits: list[list[npt.NDArray[np.float32]]] = [[] for _ in runners]
    with Progress("checking", count) as progress:
        for batch in loader.epoch(0):
            names += batch.names
            labels.append(batch.labels)
            for index in range(len(batch.labels)):
                tensors = _tensors(batch, index)
                for runner, rows in zip(runners, logits, strict=True):
                    rows.append(runner(tensors))
                progress.advance()
    return _Answers(tuple(names), np.concatenate(labels), np.stack(logits[0]), np.stack(logits[1]))


def _tensors(batch: Batch, index: int) -> dict[str, npt.NDArray[Any]]:
    assert batch.skeleton is not None
    assert batch.audio is not None
    return {"skeleton": batch.skeleton[index : index + 1], "audio": batch.audio[index : index + 1]}


def _judge(answers: _Answers, artifact: _Artifact, allowed: GateOptions, baseline: Baseline | None) -> GateResult:
    return judge(
        answers.labels,
        answers.float_logits,
        answers.int8_logits,
        class_names=[f"{label.code} {label.name}" for label in artifact.labels],
        options=allowed,
        baseline=baseline.choices_for(answers.names, artifact.manifest.codes) if baseline else None,
    )


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _document(result: GateResult, float_side: Side, int8_side: Side) -> dict[str, Any]:
    models = {
        name: {
            "name": side.name,
            "recipe": side.recipe,
            "runtime": f"{side.runtime} {side.runtime_version}",
            "size_bytes": side.size_bytes,
            "sha256": side.sha256,
        }
        for name, side in (("float", float_side), ("int8", int8_side))
    }
    return {**result.to_dict(), "models": models}


def _update_baseline(
    options: argparse.Namespace, result: GateResult, answers: _Answers, float_artifact: _Artifact, artifact: _Artifact
) -> None:
    sides = {"float": float_artifact.side, "int8": artifact.side}
    baseline = make_baseline(
        result,
        names=answers.names,
        classes=artifact.manifest.codes,
        float_choices=answers.float_logits.argmax(axis=1),
        int8_choices=answers.int8_logits.argmax(axis=1),
        provenance=Provenance(
            command=_command(options),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            runtimes={name: f"{side.runtime} {side.runtime_version}" for name, side in sides.items()},
            float_sha256=sides["float"].sha256,
            int8_sha256=sides["int8"].sha256,
        ),
    )
    write_baseline(options.baseline, baseline)
    log(f"baseline: {options.baseline}")


def _command(options: argparse.Namespace) -> str:
    """The command, without the paths of this machine."""
    words = [f"python -m quantize check --float {options.float.name} --int8 {options.int8.name}"]
    words += [f"--max-drop {options.max_drop:g} --max-class-drop {options.max_class_drop:g}"]
    words += [f"--confidence {options.confidence:g}"]
    words += [f"--min-agreement {options.min_agreement:g}"] if options.min_agreement is not None else []
    words += [f"--float-runtime {options.float_runtime}"] if options.float_runtime else []
    words += [f"--int8-runtime {options.int8_runtime}"] if options.int8_runtime else []
    words += ["--data DIR"] if options.data else []
    words += [f"--protocol {options.protocol}"] if options.protocol else []
    words += [f"--on-error {options.on_error}"] if options.on_error != "raise" else []
    words += [f"--recordings {options.recordings} --seed {options.seed}"]
    return " ".join([*words, f"--baseline {options.baseline.name} --update-baseline"])
