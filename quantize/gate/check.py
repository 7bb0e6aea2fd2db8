"""Handler of `python -m quantize check`: asks artifacts about the same recordings and applies the accuracy gate.

With `--backend qnn-htp`, INT8 artifacts run in the arithmetic of Snapdragon's NPU, too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from console.files import atomic_file
from console.options import command_line
from console.program import log, show, show_json, warn
from console.table import format_table
from preprocess.errors import AnswerIsNo, DataError, UsageError
from recordings.sources import DataSource
from runtime.answers import Answers, ask, one_by_one
from runtime.artifact import Artifact, require_same_question
from runtime.metrics import require_finite
from runtime.npu import require_emulator
from runtime.npu_chips import SNAPDRAGONS
from runtime.runners import EMULATOR

from .baseline import Baseline, Provenance, make_baseline, read_baseline
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
        _check_on_npu(options, limits)
        return
    if len(options.int8) != 1:
        raise UsageError(f"--int8 names {len(options.int8)} artifacts; without --backend name one")
    started, start_s = datetime.now(UTC), time.monotonic()
    baseline = read_baseline(options.baseline) if options.baseline and not options.update_baseline else None
    pair = (
        Artifact.open(options.float, runtime=options.float_runtime),
        Artifact.open(options.int8[0], runtime=options.int8_runtime),
    )
    _require_pair(*pair)
    answers = _collect_answers(dict(zip(("float", "int8"), pair, strict=True)), options)
    result = _apply_gate(answers, "int8", pair[1], limits, baseline)
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


def _require_pair(reference: Artifact, artifact: Artifact) -> None:
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


def _collect_answers(
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


def _apply_gate(
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
    _write(options.baseline, baseline.to_json())
    log(f"baseline: {options.baseline}")


def _check_on_npu(options: argparse.Namespace, limits: GateOptions) -> None:
    """Asks all artifacts about the same recordings, shows one table, applies the gate to every artifact.

    Raises:
        AnswerIsNo: a number is not finite, the gate failed for an artifact, or CPU and NPU differ too often.
        UsageError: options contradict each other.
        DataError: the artifacts do not fit each other, or the NPU cannot run all of one.
        MissingComponentError: onnxruntime-qnn is not installed.
    """
    for name in ("baseline", "junit", "markdown", "int8_runtime"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} does not go with --backend; leave out one of them")
    require_emulator()
    reference = Artifact.open(options.float, runtime=options.float_runtime)
    artifacts = [Artifact.open(folder) for folder in options.int8]
    for artifact in artifacts:
        _require_pair(reference, artifact)
        if artifact.manifest.format != "onnx":
            raise UsageError(
                f"{artifact.name} is a {artifact.manifest.format} file, but the emulator runs ONNX; export it with "
                "`python -m export onnx --int8 --target qnn`"
            )
    log("Hexagon's emulator takes about a second for a recording and an artifact; its times are not those of the NPU")
    models: dict[Hashable, Artifact] = {"float": reference}
    for index, artifact in enumerate(artifacts):
        models["cpu", index] = artifact
        models["npu", index] = replace(artifact, runtime=EMULATOR, soc=options.soc)
    answers = _collect_answers(models, options, at_once=len(os.sched_getaffinity(0)))
    gates = []
    for index, artifact in enumerate(artifacts):
        for model in ("cpu", "npu"):
            require_finite(answers.logits[model, index], f"logits of {artifact.name}")
        gates.append(tuple(_apply_gate(answers, (model, index), artifact, limits) for model in ("cpu", "npu")))
    if options.json:
        show_json(_document(models, answers, gates, options.soc))
    else:
        show(npu_table(models, answers, gates, options.soc))
    failures = []
    for index, (artifact, (_, npu)) in enumerate(zip(artifacts, gates, strict=True)):
        failures += [f"{artifact.name}: {failure}" for failure in npu.failures]
        between = answers.agreement(("cpu", index), ("npu", index))
        if between < options.min_cpu_agreement:
            failures.append(
                f"{artifact.name}: NPU and CPU choose the same class on {100 * between:.1f} % of the recordings, less "
                f"than {100 * options.min_cpu_agreement:g} %"
            )
    if failures:
        raise AnswerIsNo("; ".join(failures))


def _document(
    models: Mapping[Hashable, Artifact], answers: Answers, gates: Sequence[tuple[GateResult, ...]], soc: str
) -> dict[str, Any]:
    """The outcome as JSON, without times: those of an emulator mean nothing."""
    rows = []
    for index, (on_cpu, on_npu) in enumerate(gates):
        cpu, npu = ("cpu", index), ("npu", index)
        manifest, comparison = models[cpu].manifest, on_cpu.comparison
        assert comparison is not None  # all numbers are finite
        rows.append(
            {
                **{name: getattr(manifest, name) for name in ("name", "recipe", "size_bytes", "sha256")},
                "cpu": {
                    **comparison.int8_score.to_dict(),
                    "drop": comparison.drop.to_dict(),
                    "agreement": comparison.agreement,
                    "snr_db": comparison.snr_db,
                },
                "hexagon": on_npu.to_dict(),
                "hexagon_against_cpu": {"agreement": answers.agreement(cpu, npu), "snr_db": answers.snr_db(cpu, npu)},
            }
        )
    reference = models["float"]
    return {
        "float": {
            "name": reference.manifest.name,
            "runtime": reference.runtime,
            "sha256": reference.manifest.sha256,
            **answers.score("float").to_dict(),
        },
        "soc": soc,
        "recordings": len(answers.names),
        "models": rows,
    }


def npu_table(
    models: Mapping[Hashable, Artifact], answers: Answers, gates: Sequence[tuple[GateResult, ...]], soc: str
) -> str:
    """Float, and every artifact on the CPU and in the emulator."""
    rows = [[str(models["float"]), str(answers.score("float")), "", "", "", ""]]
    for index, pair in enumerate(gates):
        cpu, npu = ("cpu", index), ("npu", index)
        between = f"{100 * answers.agreement(cpu, npu):.1f} %, {answers.snr_db(cpu, npu):.1f} dB"
        for gate, where, last in zip(pair, ("CPU", "Hexagon"), ("", between), strict=True):
            comparison = gate.comparison
            assert comparison is not None  # all numbers are finite
            (low, high), drop = comparison.drop.interval_points, comparison.drop.points
            rows.append(
                [
                    f"{models[cpu].manifest.recipe}, {where}",
                    str(comparison.int8_score),
                    f"{drop:.2f} [{low:.2f}, {high:.2f}]",
                    f"{100 * comparison.agreement:.1f} %",
                    f"{comparison.snr_db:.1f} dB",
                    last,
                ]
            )
    header = ["model", "accuracy [95 % interval]", "points lost", "same class as float", "SNR", "Hexagon against CPU"]
    chip = f"{SNAPDRAGONS[soc].name}, {soc}"
    return format_table(header, rows, title=f"Hexagon's emulator ({chip}) on {len(answers.names)} recordings")
