"""Handler of `python -m quantize check`: asks artifacts about the same recordings and applies the accuracy gate.

With `--backend qnn-htp`, INT8 artifacts run in the arithmetic of Snapdragon's NPU, too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from runtime.metrics import Score, require_finite
from runtime.npu import SNAPDRAGONS, require_emulator
from runtime.runners import EMULATOR

from .baseline import Baseline, Provenance, make_baseline, read_baseline, write_baseline
from .gate_report import junit_report, markdown_report, text_report
from .paired import PairedDrop, logits_drop
from .rules import GateOptions, GateResult, judge


@dataclass(frozen=True)
class NpuResult:
    """An INT8 artifact on the CPU and in the emulator.

    Attributes:
        artifact: on the CPU.
        gate: the emulator against the float model.
        cpu_score, cpu_drop: accuracy on the CPU, and its loss against the float model.
        cpu_agreement, cpu_snr_db: the CPU against the float model.
        between, between_snr_db: the emulator against the CPU.
    """

    artifact: Artifact
    gate: GateResult
    cpu_score: Score
    cpu_drop: PairedDrop
    cpu_agreement: float
    cpu_snr_db: float
    between: float
    between_snr_db: float

    def failures(self, min_cpu_agreement: float) -> list[str]:
        """One line for every rule that the artifact breaks."""
        failures = [*self.gate.failures]
        if self.between < min_cpu_agreement:
            failures.append(
                f"NPU and CPU choose the same class on {100 * self.between:.1f} % of the recordings, less than "
                f"{100 * min_cpu_agreement:g} %"
            )
        return [f"{self.artifact.name}: {failure}" for failure in failures]

    def to_dict(self) -> dict[str, Any]:
        manifest = self.artifact.manifest
        return {
            "name": manifest.name,
            "recipe": manifest.recipe,
            "size_bytes": manifest.size_bytes,
            "sha256": manifest.sha256,
            "cpu": {
                **self.cpu_score.to_dict(),
                "drop": self.cpu_drop.to_dict(),
                "agreement": self.cpu_agreement,
                "snr_db": self.cpu_snr_db,
            },
            "hexagon": self.gate.to_dict(),
            "hexagon_against_cpu": {"agreement": self.between, "snr_db": self.between_snr_db},
        }


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
    write_baseline(options.baseline, baseline)
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
    results = [_result(artifact, answers, index, limits) for index, artifact in enumerate(artifacts)]
    float_score = answers.score("float")
    if options.json:
        show_json(_document(reference, float_score, results, options.soc))
    else:
        show(npu_table(reference, float_score, results, options.soc))
    failures = [failure for result in results for failure in result.failures(options.min_cpu_agreement)]
    if failures:
        raise AnswerIsNo("; ".join(failures))


def _result(artifact: Artifact, answers: Answers, index: int, limits: GateOptions) -> NpuResult:
    cpu, npu = ("cpu", index), ("npu", index)
    for model in (cpu, npu):
        require_finite(answers.logits[model], f"logits of {artifact.name}")
    return NpuResult(
        artifact=artifact,
        gate=_apply_gate(answers, npu, artifact, limits),
        cpu_score=answers.score(cpu),
        cpu_drop=logits_drop(
            answers.logits["float"], answers.logits[cpu], answers.labels, confidence=limits.confidence
        ),
        cpu_agreement=answers.agreement("float", cpu),
        cpu_snr_db=answers.snr_db("float", cpu),
        between=answers.agreement(cpu, npu),
        between_snr_db=answers.snr_db(cpu, npu),
    )


def _document(reference: Artifact, float_score: Score, results: Sequence[NpuResult], soc: str) -> dict[str, Any]:
    """The outcome as JSON, without times: those of an emulator mean nothing."""
    manifest = reference.manifest
    return {
        "float": {
            "name": manifest.name,
            "runtime": reference.runtime,
            "sha256": manifest.sha256,
            **float_score.to_dict(),
        },
        "soc": soc,
        "recordings": float_score.count,
        "models": [result.to_dict() for result in results],
    }


def npu_table(reference: Artifact, float_score: Score, results: Sequence[NpuResult], soc: str) -> str:
    """Float, and every artifact on the CPU and in the emulator."""
    rows = [[str(reference), str(float_score), "", "", "", ""]]
    for result in results:
        recipe, npu = result.artifact.manifest.recipe, result.gate.comparison
        assert npu is not None  # all numbers are finite
        against_float = _against(result.cpu_drop, result.cpu_agreement, result.cpu_snr_db)
        rows.append([f"{recipe}, CPU", str(result.cpu_score), *against_float, ""])
        between = f"{100 * result.between:.1f} %, {result.between_snr_db:.1f} dB"
        against_float = _against(npu.drop, npu.agreement, npu.snr_db)
        rows.append([f"{recipe}, Hexagon", str(npu.int8_score), *against_float, between])
    header = ["model", "accuracy [95 % interval]", "points lost", "same class as float", "SNR", "Hexagon against CPU"]
    chip = f"{SNAPDRAGONS[soc].name}, {soc}"
    return format_table(header, rows, title=f"Hexagon's emulator ({chip}) on {float_score.count} recordings")


def _against(drop: PairedDrop, agreement: float, snr_db: float) -> list[str]:
    low, high = drop.interval_points
    return [f"{drop.points:.2f} [{low:.2f}, {high:.2f}]", f"{100 * agreement:.1f} %", f"{snr_db:.1f} dB"]
