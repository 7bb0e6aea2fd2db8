"""Artefacts for one Snapdragon each: an ordinary artefact's file compiled for the chip's NPU, checked and described."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.errors import AnswerIsNo
from runtime.manifest import MANIFEST_NAME, Manifest, file_sha256, read_artifact
from runtime.metrics import agreement, snr_db
from runtime.npu.chips import SNAPDRAGONS
from runtime.npu.context_binary import CompiledFor, check_chip
from runtime.npu.emulator import Placement, compile_context
from runtime.runners import EMULATOR, open_model

from .. import tolerances
from .litert import Qairt, compile_tflite

# Both exist to learn what goes where; neither is what a phone's app is made with.
_STAND_IN = "with the libraries of onnxruntime-qnn and a stand-in for libQnnLpai.so: good for the placement alone"


@dataclass(frozen=True)
class Compiled:
    """An artefact for one chip.

    Attributes:
        soc: the chip that was wanted.
        file_format: `onnx` or `tflite`.
        folder: of the artefact, within that of the export.
        size_bytes: of the compiled file.
        compiled_for: the chip, as the binary says itself.
        placement: what runs where.
        against_cpu: classes equal to those of the file before compilation, recordings, and logits' SNR in dB, on the
            golden recordings in the emulator; None where no emulator runs the file.
        failures: tolerances that were missed.
    """

    soc: str
    file_format: str
    folder: str
    size_bytes: int
    compiled_for: CompiledFor
    placement: Placement
    against_cpu: tuple[int, int, float] | None
    failures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        found = self.against_cpu
        return {
            "soc": self.soc,
            "format": self.file_format,
            "artifact": self.folder,
            "size_bytes": self.size_bytes,
            "compiled_for": {"soc": self.compiled_for.soc, "arch": self.compiled_for.arch},
            "placement": self.placement.to_dict(),
            "emulator": dict(zip(("same_class", "recordings", "snr_db"), found, strict=True)) if found else None,
            "failures": list(self.failures),
        }


def compile_artifact(source: Path, folder: Path, soc: str, *, libraries: Qairt | None, command: str) -> Compiled:
    """Writes the artefact of a chip.

    Args:
        source: folder of the artefact whose file is compiled.
        folder: to write.
        soc: a name in `SNAPDRAGONS`.
        libraries: Qualcomm's, for TFLite.
        command: for the manifest.

    Raises:
        DataError: the compiler refused the file, or what it wrote is for another chip.
        MissingComponentError: the compiler is not installed.
        AnswerIsNo: a logit of the emulator is not finite.
    """
    manifest, model = read_artifact(source)
    chip = SNAPDRAGONS[soc]
    folder.mkdir()
    out = folder / model.name
    if manifest.format == "onnx":
        placement = compile_context(model, out, chip)
        compiler = {"name": "onnxruntime-qnn"}
        versions = {"onnxruntime-qnn": metadata.version("onnxruntime-qnn")}
    else:
        assert libraries is not None
        placement = compile_tflite(model, out, soc, libraries)
        compiler = {"name": "ai-edge-litert", **({"note": _STAND_IN} if libraries.stand_in else {})}
        versions = {}
    binary = check_chip(out.read_bytes(), soc, chip)
    (folder / "golden").mkdir()
    against_cpu: tuple[int, int, float] | None = None
    failures: list[str] = []
    if manifest.format == "onnx" and placement.full:
        against_cpu, failures = _check_answers(source, manifest, out, folder)
    else:
        for name in manifest.golden:
            shutil.copy(source / name, folder / name)
    found = Compiled(
        soc, manifest.format, folder.name, out.stat().st_size, binary, placement, against_cpu, tuple(failures)
    )
    own = found.to_dict()
    described = replace(
        manifest,
        name=f"{manifest.name}-{soc}",
        sha256=file_sha256(out),
        size_bytes=found.size_bytes,
        target="qnn",
        verification={"verified": against_cpu is not None and not failures, **_told(own), "failures": list(failures)},
        measurement=None,
        versions={**manifest.versions, **versions},
        command=command,
        npu={"soc": soc, "name": chip.name, **own["compiled_for"], "compiler": compiler, "placement": own["placement"]},
    )
    (folder / MANIFEST_NAME).write_text(described.to_json(), encoding="utf-8")
    return found


def _told(own: dict[str, Any]) -> dict[str, Any]:
    if own["emulator"] is None:
        return {"note": "not run: the emulator does not run this file"}
    return {"note": "golden recordings in Hexagon's emulator against the file before compilation", **own["emulator"]}


def _check_answers(
    source: Path, manifest: Manifest, compiled: Path, folder: Path
) -> tuple[tuple[int, int, float], list[str]]:
    """Runs the golden recordings in the emulator and writes them anew with its logits."""
    runner = open_model(compiled, EMULATOR)
    before, after = [], []
    for name in manifest.golden:
        with np.load(source / name) as arrays:
            golden = dict(arrays)
        logits = runner({info.name: golden[info.name] for info in runner.inputs})
        if not np.isfinite(logits).all():
            raise AnswerIsNo(f"the emulator gives a logit that is not finite on {name}; use another --recipe")
        before.append(golden["logits"])
        after.append(logits)
        np.savez(folder / name, **{**golden, "logits": logits})
    same = agreement(np.stack(before), np.stack(after))
    level = snr_db(np.stack(before), np.stack(after))
    failures = []
    least = tolerances.HEXAGON_MIN_SNR_DB
    if level < least:
        failures.append(f"{folder.name}: logits' SNR against the CPU is {level:.1f} dB, less than {least:g} dB")
    return (round(same * len(before)), len(before), level), failures


def is_full(compiled: Sequence[Compiled]) -> bool:
    """All files wholly on the NPU, each in one piece."""
    return all(own.placement.full for own in compiled)
