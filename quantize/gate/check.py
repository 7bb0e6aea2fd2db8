"""Handler of `python -m quantize check`: runs both artefacts on the same recordings and asks the accuracy gate."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from console.files import atomic_file
from console.program import log, show, show_json
from preprocess.errors import AnswerIsNo, UsageError

from .baseline import Baseline, Provenance, make_baseline, read_baseline, write_baseline
from .check_artifacts import Answers, CheckedArtifact, open_artifact, require_comparable, run_all
from .gate_report import Side, junit_report, markdown_report, text_report
from .rules import GateOptions, GateResult, judge


def check_command(options: argparse.Namespace) -> None:
    """Runs both artefacts, applies the gate, writes the reports, shows the outcome.

    Raises:
        AnswerIsNo: the gate failed; the reports are written all the same.
        UsageError: options do not fit together.
        DataError: the artefacts do not fit each other, the recordings or the baseline.
    """
    if options.backend:
        from .npu_check import hexagon_check

        hexagon_check(options, _gate_options(options))
        return
    if len(options.int8) != 1:
        raise UsageError(f"--int8 names {len(options.int8)} artefacts; without --backend name one")
    (options.int8,) = options.int8
    started, start_s = datetime.now(UTC), time.monotonic()
    allowed = _gate_options(options)
    baseline = read_baseline(options.baseline) if options.baseline and not options.update_baseline else None
    float_artifact = open_artifact(options.float, options.float_runtime)
    int8_artifact = open_artifact(options.int8, options.int8_runtime)
    require_comparable(float_artifact, int8_artifact)
    answers = run_all((float_artifact, int8_artifact), options)
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


def _judge(answers: Answers, artifact: CheckedArtifact, allowed: GateOptions, baseline: Baseline | None) -> GateResult:
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
    options: argparse.Namespace,
    result: GateResult,
    answers: Answers,
    float_artifact: CheckedArtifact,
    artifact: CheckedArtifact,
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
