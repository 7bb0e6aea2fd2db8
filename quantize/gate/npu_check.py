"""`python -m quantize check --backend qnn-htp`: INT8 artifacts in the arithmetic of Snapdragon's NPU."""

from __future__ import annotations

import argparse
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from console.program import log, show, show_json
from console.table import format_table
from preprocess.errors import AnswerIsNo, UsageError
from runtime.answers import Answers
from runtime.artifact import Artifact
from runtime.metrics import Score, require_finite
from runtime.npu.chips import SNAPDRAGONS
from runtime.npu.emulator import require_emulator
from runtime.runners import EMULATOR

from .check import apply_gate, collect_answers, require_pair
from .paired import PairedDrop, logits_drop
from .rules import GateOptions, GateResult


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


def check_on_npu(options: argparse.Namespace, limits: GateOptions) -> None:
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
        require_pair(reference, artifact)
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
    answers = collect_answers(models, options, at_once=len(os.sched_getaffinity(0)))
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
        gate=apply_gate(answers, npu, artifact, limits),
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
