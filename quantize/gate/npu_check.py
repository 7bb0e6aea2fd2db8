"""`python -m quantize check --backend qnn-htp`: what Hexagon's arithmetic makes of INT8 artefacts, without a phone."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from console.program import log, show, show_json
from console.table import format_table
from preprocess.errors import AnswerIsNo, UsageError
from runtime.metrics import Score, agreement, score, snr_db
from runtime.npu.chips import SNAPDRAGONS
from runtime.npu.emulator import require_hexagon
from runtime.runners import EMULATOR

from .check_artifacts import Answers, CheckedArtifact, open_artifact, require_comparable, run_all
from .paired import PairedDrop, paired_drop
from .rules import GateOptions, GateResult, judge


@dataclass(frozen=True)
class HexagonResult:
    """An INT8 artefact on the CPU and in the emulator.

    Attributes:
        artifact: that was run.
        gate: the emulator against the float model.
        cpu_score, cpu_drop: the CPU's accuracy, and what it loses against the float model.
        cpu_agreement, cpu_snr_db: the CPU against the float model.
        between, between_snr_db: the emulator against the CPU.
    """

    artifact: CheckedArtifact
    gate: GateResult
    cpu_score: Score
    cpu_drop: PairedDrop
    cpu_agreement: float
    cpu_snr_db: float
    between: float
    between_snr_db: float

    def failures(self, min_cpu_agreement: float) -> list[str]:
        """One line for every rule that the artefact breaks."""
        name = self.artifact.manifest.name
        found = [f"{name}: {own}" for own in self.gate.failures]
        if self.between < min_cpu_agreement:
            found.append(
                f"{name}: NPU and CPU choose the same class on {100 * self.between:.1f} % of the recordings, less than "
                f"{100 * min_cpu_agreement:g} %"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        side = self.artifact.side
        return {
            "name": side.name,
            "recipe": side.recipe,
            "size_bytes": side.size_bytes,
            "sha256": side.sha256,
            "cpu": {
                **self.cpu_score.to_dict(),
                "drop": self.cpu_drop.to_dict(),
                "agreement": self.cpu_agreement,
                "snr_db": self.cpu_snr_db,
            },
            "hexagon": self.gate.to_dict(),
            "hexagon_against_cpu": {"agreement": self.between, "snr_db": self.between_snr_db},
        }


def hexagon_check(options: argparse.Namespace, allowed: GateOptions) -> None:
    """Runs everything on the same recordings, shows one table, applies the gate to every artefact.

    Raises:
        AnswerIsNo: a number is not finite, the gate failed for an artefact, or CPU and NPU differ too often.
        UsageError: options do not fit together.
        DataError: the artefacts do not fit each other, or some of one stays on the CPU.
        MissingComponentError: onnxruntime-qnn is not installed.
    """
    for name in ("baseline", "junit", "markdown", "int8_runtime"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} does not go with --backend; leave out one of them")
    if not 0 < options.min_cpu_agreement <= 1:
        raise UsageError(f"--min-cpu-agreement is {options.min_cpu_agreement:g}; use a share up to 1, such as 0.98")
    require_hexagon()
    reference = open_artifact(options.float, options.float_runtime)
    artifacts = [open_artifact(folder, None) for folder in options.int8]
    for own in artifacts:
        require_comparable(reference, own)
        if own.manifest.format != "onnx":
            raise UsageError(
                f"{own.manifest.name} is a {own.manifest.format} file, but the emulator runs ONNX; export it with "
                "`python -m export onnx --int8 --target qnn`"
            )
    log("Hexagon's emulator takes a second or so for a recording and an artefact; its times say nothing of the NPU's")
    both = [side for own in artifacts for side in (own, replace(own, runtime=EMULATOR, soc=options.soc))]
    answers = run_all([reference, *both], options, at_once=len(os.sched_getaffinity(0)))
    results = [_judged(own, answers, index, allowed) for index, own in enumerate(artifacts)]
    float_score = score(answers.float_logits, answers.labels)
    if options.json:
        show_json(hexagon_document(reference, float_score, results, options.soc))
    else:
        show(hexagon_table(reference, float_score, results, options.soc))
    failures = [failure for own in results for failure in own.failures(options.min_cpu_agreement)]
    if failures:
        raise AnswerIsNo("; ".join(failures))


def _judged(artifact: CheckedArtifact, answers: Answers, index: int, allowed: GateOptions) -> HexagonResult:
    cpu, npu = answers.logits[1 + 2 * index], answers.logits[2 + 2 * index]
    if not (np.isfinite(cpu).all() and np.isfinite(npu).all()):
        raise AnswerIsNo(f"{artifact.manifest.name}: a logit is not finite; use another --recipe")
    names = [f"{label.code} {label.name}" for label in artifact.labels]
    return HexagonResult(
        artifact=artifact,
        gate=judge(answers.labels, answers.float_logits, npu, class_names=names, options=allowed),
        cpu_score=score(cpu, answers.labels),
        cpu_drop=paired_drop(
            answers.float_logits.argmax(axis=1), cpu.argmax(axis=1), answers.labels, confidence=allowed.confidence
        ),
        cpu_agreement=agreement(answers.float_logits, cpu),
        cpu_snr_db=snr_db(answers.float_logits, cpu),
        between=agreement(cpu, npu),
        between_snr_db=snr_db(cpu, npu),
    )


def hexagon_document(
    reference: CheckedArtifact, float_score: Score, results: Sequence[HexagonResult], soc: str
) -> dict[str, Any]:
    """The outcome as JSON; no time is in it, since an emulator's says nothing."""
    side = reference.side
    return {
        "float": {"name": side.name, "runtime": side.runtime, "sha256": side.sha256, **float_score.to_dict()},
        "soc": soc,
        "recordings": float_score.count,
        "models": [own.to_dict() for own in results],
    }


def hexagon_table(reference: CheckedArtifact, float_score: Score, results: Sequence[HexagonResult], soc: str) -> str:
    """Float, and every artefact on the CPU and in the emulator."""
    rows = [[f"{reference.manifest.name} in {reference.runtime}", str(float_score), "", "", "", ""]]
    for own in results:
        name, found = own.artifact.manifest.recipe, own.gate.comparison
        rows.append(
            [f"{name}, CPU", str(own.cpu_score), *_against(own.cpu_drop, own.cpu_agreement, own.cpu_snr_db), ""]
        )
        assert found is not None  # it is where all numbers are finite
        between = f"{100 * own.between:.1f} %, {own.between_snr_db:.1f} dB"
        rows.append(
            [
                f"{name}, Hexagon",
                str(found.int8_score),
                *_against(found.drop, found.agreement, found.snr_db),
                between,
            ]
        )
    header = ["model", "accuracy [95 % interval]", "points lost", "same class as float", "SNR", "Hexagon against CPU"]
    chip = f"{SNAPDRAGONS[soc].name}, {soc}"
    return format_table(header, rows, title=f"Hexagon's emulator ({chip}) on {float_score.count} recordings")


def _against(drop: PairedDrop, share: float, level: float) -> list[str]:
    low, high = drop.interval_points
    return [f"{drop.points:.2f} [{low:.2f}, {high:.2f}]", f"{100 * share:.1f} %", f"{level:.1f} dB"]
