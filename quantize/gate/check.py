"""Handler of `python -m quantize check`: asks artifacts about the same recordings and applies the accuracy gate."""

from __future__ import annotations

import argparse
import time
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from console.files import atomic_file
from console.options import command_line
from console.program import log, show, show_json, warn
from preprocess.errors import AnswerIsNo, DataError, UsageError
from recordings.sources import DataSource
from runtime.answers import Answers, ask, one_by_one
from runtime.artifact import Artifact, require_same_question

from .baseline import Baseline, Provenance, make_baseline, read_baseline, write_baseline
from .gate_report import junit_report, markdown_report, text_report
from .rules import GateOptions, GateResult, judge


def check_command(options: argparse.Namespace) -> None:
    """Compares the float artifact with one INT8 artifact, or with several in the emulator of an NPU.

    Raises:
        AnswerIsNo: the gate failed; the reports are written all the same.
        UsageError: options contradict each other.
        DataError: the artifacts do not fit each other, the recordings or the baseline.
    """
    limits = _limits(options)
    if options.backend:
        from .npu_check import check_on_npu

        check_on_npu(options, limits)
        return
    if len(options.int8) != 1:
        raise UsageError(f"--int8 names {len(options.int8)} artifacts; without --backend name one")
    started, start_s = datetime.now(UTC), time.monotonic()
    baseline = read_baseline(options.baseline) if options.baseline and not options.update_baseline else None
    pair = (
        Artifact.open(options.float, runtime=options.float_runtime),
        Artifact.open(options.int8[0], runtime=options.int8_runtime),
    )
    require_pair(*pair)
    answers = collect_answers(dict(zip(("float", "int8"), pair, strict=True)), options)
    result = apply_gate(answers, "int8", pair[1], limits, baseline)
    if options.junit:
        moment, duration_s = started.strftime("%Y-%m-%dT%H:%M:%S"), time.monotonic() - start_s
        _write(options.junit, junit_report(result, *pair, started=moment, duration_s=duration_s))
    if options.markdown:
        _write(options.markdown, markdown_report(result, *pair))
    if options.json:
        models = {name: artifact.to_dict() for name, artifact in zip(("float", "int8"), pair, strict=True)}
        show_json({**result.to_dict(), "models": models})
    else:
        show(text_report(result, *pair))
    if not result.passed:
        raise AnswerIsNo("; ".join(result.failures))
    if options.update_baseline:
        _update_baseline(options, result, answers, *pair)


def _limits(options: argparse.Namespace) -> GateOptions:
    if options.update_baseline and not options.baseline:
        raise UsageError("--update-baseline needs --baseline FILE, the file to write")
    return GateOptions(
        max_drop_points=options.max_drop,
        max_class_drop_points=options.max_class_drop,
        confidence=options.confidence,
        min_agreement=options.min_agreement,
        max_regression_points=options.max_regression,
    )


def require_pair(reference: Artifact, artifact: Artifact) -> None:
    """Raises UsageError or DataError unless `reference`, the float model, and `artifact` can be compared."""
    a, b = reference.manifest, artifact.manifest
    if (a.sha256, reference.runtime) == (b.sha256, artifact.runtime):
        raise UsageError(f"--float and --int8 name the same model file, {a.name}, in the same runtime")
    if a.recipe != "float32" and b.recipe == "float32":
        raise UsageError(f"--float names a model of recipe {a.recipe} and --int8 one of float32; exchange them")
    require_same_question(reference, artifact)
    if a.stream != b.stream:
        raise DataError(
            f"{a.name} is the {a.stream} model and {b.name} the {b.stream} one; export both with the same --stream"
        )


def collect_answers(
    artifacts: Mapping[Hashable, Artifact], options: argparse.Namespace, *, at_once: int = 1
) -> Answers:
    """Answers of every artifact on the recordings that the options choose; `at_once` may compute at the same time.

    Raises:
        DataError: a runtime cannot load a file, or recordings are bad.
        MissingComponentError: a runtime is not installed.
    """
    models = {key: one_by_one(artifact.load()) for key, artifact in artifacts.items()}
    source, manifest = DataSource.of(options), next(iter(artifacts.values())).manifest
    _, drawn = source.draw(manifest, calibration=0, held_out=options.recordings)
    # In the order of their names, so that a baseline does not depend on how the recordings were drawn.
    refs = sorted(drawn, key=lambda ref: ref.name)
    with source.loader(refs, manifest) as loader:
        answers = ask(models, loader.epoch(0), title="checking", recordings=len(refs), at_once=at_once)
        problems = loader.problems
    if problems:
        warn(f"{len(problems)} recording(s) were left out; the first: {next(iter(problems.values()))}")
    return answers


def apply_gate(
    answers: Answers, model: Hashable, artifact: Artifact, limits: GateOptions, baseline: Baseline | None = None
) -> GateResult:
    """The gate on the answers of `float` and of `model`, which are those of `artifact`."""
    manifest = artifact.manifest
    return judge(
        answers.labels,
        answers.logits["float"],
        answers.logits[model],
        class_names=[f"{label.code} {label.name}" for label in manifest.labels],
        options=limits,
        baseline=baseline.choices_for(answers.names, manifest.codes) if baseline else None,
    )


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _update_baseline(
    options: argparse.Namespace, result: GateResult, answers: Answers, reference: Artifact, artifact: Artifact
) -> None:
    provenance = Provenance(
        command=command_line(options),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        runtimes={name: str(side.to_dict()["runtime"]) for name, side in (("float", reference), ("int8", artifact))},
        float_sha256=reference.manifest.sha256,
        int8_sha256=artifact.manifest.sha256,
    )
    baseline = make_baseline(
        result,
        names=answers.names,
        classes=artifact.manifest.codes,
        float_choices=answers.logits["float"].argmax(axis=1),
        int8_choices=answers.logits["int8"].argmax(axis=1),
        provenance=provenance,
    )
    write_baseline(options.baseline, baseline)
    log(f"baseline: {options.baseline}")
