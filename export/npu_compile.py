"""`python -m export npu`: the INT8 model compiled for Snapdragons, checked, and a report of what runs on their NPU."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from console.files import atomic_folder
from console.program import log, show, show_json, warn
from console.table import format_table
from preprocess.errors import AnswerIsNo, MissingComponentError, UsageError
from quantize.recipes import Recipe, parse_recipe
from recordings.reading import read_golden
from recordings.sources import DataSource
from runtime.manifest import MANIFEST_NAME, Manifest, file_sha256, read_artifact
from runtime.metrics import agreement, require_finite, snr_db
from runtime.npu import Placement, compile_context, require_emulator
from runtime.npu_chips import CURRENT, SNAPDRAGONS, check_chip
from runtime.runners import EMULATOR, open_model

from .npu_litert import Qairt, compile_tflite, find_qairt, known_socs, qairt_is_missing, require_known
from .plan import ExportPlan, ModelChoice, artifact_name, choose_folder, choose_weights
from .targets import TARGETS

PLACEMENT = "placement.json"
_TARGETS = {"onnx": TARGETS["qnn"], "tflite": TARGETS["xnnpack"]}
_FALLBACK_SHOWN = 8
# The same integers on the NPU and in ONNX Runtime: different roundings in every layer, 26 dB measured on the demo. At
# 10 dB logits begin to lose their order.
_MIN_SNR_DB = 10.0
_STAND_IN = "with the libraries of onnxruntime-qnn and a stand-in for libQnnLpai.so: good for the placement alone"
_STAND_IN_SHOWN = (
    "TFLite was compiled with the libraries inside onnxruntime-qnn and a stand-in for libQnnLpai.so, to learn the "
    "placement;\nfor phones, compile it with ai-edge-litert-sdk-qualcomm\n"
)


@dataclass(frozen=True)
class Emulated:
    """A compiled file in the emulator against the file before compilation, on the golden recordings.

    Attributes:
        same_class: recordings on which both choose the same class.
        recordings: all of them.
        snr_db: of the logits.
    """

    same_class: int
    recordings: int
    snr_db: float

    def __str__(self) -> str:
        return f"{self.same_class} of {self.recordings}, {self.snr_db:.1f} dB"


@dataclass(frozen=True)
class Compiled:
    """An artifact for one chip.

    Attributes:
        soc: the chip.
        file_format: `onnx` or `tflite`.
        size_bytes: of the compiled file.
        arch: version of Hexagon whose instructions the binary uses.
        placement: operations on the NPU and on the CPU.
        emulated: None where no emulator runs the file.
        failures: tolerances that were missed.
    """

    soc: str
    file_format: str
    size_bytes: int
    arch: int
    placement: Placement
    emulated: Emulated | None
    failures: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Name of the artifact's folder, within that of the export."""
        return f"{self.soc}-{self.file_format}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "soc": self.soc,
            "format": self.file_format,
            "artifact": self.folder,
            "size_bytes": self.size_bytes,
            "compiled_for": {"soc": self.soc, "arch": self.arch},
            "placement": self.placement.to_dict(),
            "emulator": asdict(self.emulated) if self.emulated else None,
            "failures": list(self.failures),
        }


def npu_command(options: argparse.Namespace) -> None:
    """Exports for the CPU, compiles for every chip, shows the placement.

    Raises:
        MissingComponentError: a compiler or Qualcomm's libraries are not installed.
        AnswerIsNo: a tolerance was missed, or an operation stays on the CPU and `--require-full` is set; the artifacts
            are written all the same.
    """
    recipe = parse_recipe(options.recipe)
    if not recipe.static:
        raise UsageError(
            f"recipe {recipe.name} keeps float tensors, which Hexagon cannot run; use a static recipe such as "
            "static_wi8_ai8"
        )
    preset, checkpoint = choose_weights(options)
    socs = list(dict.fromkeys(options.soc or CURRENT))
    libraries, formats = _components(options, recipe, socs)
    name = artifact_name(options, preset, recipe, "npu")
    out = choose_folder(options, name)
    weights = checkpoint()
    from .pipeline import export

    failures: list[str] = []
    with atomic_folder(out, force=options.force) as folder:
        for file_format in formats:
            model = ModelChoice(file_format, _TARGETS[file_format], recipe, options.stream)
            plan = ExportPlan.of(options, f"{name}-{file_format}", model, weights)
            _, verification = export(plan, DataSource.of(options), folder / file_format, force=False)
            failures += verification.failures
        compiled = []
        for file_format, soc in product(formats, socs):
            if file_format == "tflite" and soc not in known_socs():
                warn(f"LiteRT's compiler does not know {soc}; compiling only ONNX for it")
                continue
            log(f"compiling {file_format} for {soc}")
            compiled.append(compile_artifact(folder / file_format, folder / f"{soc}-{file_format}", soc, libraries))
        stand_in = bool(libraries and libraries.stand_in)
        document = {
            "recipe": recipe.name,
            "stand_in_libraries": stand_in,
            "compiled": [artifact.to_dict() for artifact in compiled],
        }
        (folder / PLACEMENT).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial = [f"{artifact.soc} {artifact.file_format}" for artifact in compiled if not artifact.placement.full]
    if options.json:
        show_json({"artifact": str(out), **document})
    else:
        show(f"{chips_table(compiled)}\n{_STAND_IN_SHOWN if stand_in else ''}")
        show(f"{'NOT all' if partial else 'all'} of it on the NPU: {out}")
    failures += [failure for artifact in compiled for failure in artifact.failures]
    if failures:
        raise AnswerIsNo(f"{out} is not verified: {'; '.join(failures)}")
    if options.require_full and partial:
        raise AnswerIsNo(f"not entirely on the NPU in one piece: {', '.join(partial)}")


def _components(options: argparse.Namespace, recipe: Recipe, socs: list[str]) -> tuple[Qairt | None, tuple[str, ...]]:
    """Qualcomm's libraries for TFLite, and the formats to compile; `--format` must be possible."""
    if options.format != "tflite":
        recipe.check_format("onnx")
        require_emulator()
    if options.format == "onnx":
        return None, ("onnx",)
    libraries = find_qairt(options.qairt)
    try:
        recipe.check_format("tflite")
        if options.format == "tflite":
            require_known(socs)
        if libraries is None:
            raise qairt_is_missing()
    except (UsageError, MissingComponentError) as error:
        if options.format == "tflite":
            raise
        warn(f"compiling only ONNX: {error}")
        return None, ("onnx",)
    return libraries, (options.format,) if options.format else ("onnx", "tflite")


def compile_artifact(source: Path, folder: Path, soc: str, libraries: Qairt | None) -> Compiled:
    """Writes the artifact of a chip.

    Args:
        source: folder of the artifact whose file is compiled.
        folder: to write.
        soc: a name in `SNAPDRAGONS`.
        libraries: Qualcomm's, for TFLite.

    Raises:
        DataError: the compiler refused the file, or its result is for another chip.
        MissingComponentError: the compiler is not installed.
        AnswerIsNo: a logit of the emulator is not finite.
    """
    manifest, model = read_artifact(source)
    chip = SNAPDRAGONS[soc]
    folder.mkdir()
    out = folder / model.name
    compiler, versions = {"name": "ai-edge-litert"}, {}
    if manifest.format == "onnx":
        placement = compile_context(model, out, chip)
        compiler = {"name": "onnxruntime-qnn"}
        versions = {"onnxruntime-qnn": metadata.version("onnxruntime-qnn")}
    else:
        assert libraries is not None
        placement = compile_tflite(model, out, soc, libraries)
        if libraries.stand_in:
            compiler["note"] = _STAND_IN
    arch = check_chip(out.read_bytes(), soc)
    shutil.copytree(source / "golden", folder / "golden")
    emulated: Emulated | None = None
    failures: tuple[str, ...] = ()
    if manifest.format == "onnx" and placement.full:
        emulated = _emulate(manifest, out)
        if emulated.snr_db < _MIN_SNR_DB:
            failures = (
                f"{folder.name}: logits' SNR against the CPU is {emulated.snr_db:.1f} dB, less than {_MIN_SNR_DB:g} dB",
            )
    compiled = Compiled(soc, manifest.format, out.stat().st_size, arch, placement, emulated, failures)
    described = replace(
        manifest,
        name=f"{manifest.name}-{soc}",
        sha256=file_sha256(out),
        size_bytes=compiled.size_bytes,
        target="qnn",
        verification={
            "verified": emulated is not None and not failures,
            "note": "golden recordings in Hexagon's emulator against the file before compilation"
            if emulated
            else "not run: the emulator cannot run this file",
            **(asdict(emulated) if emulated else {}),
            "failures": list(failures),
        },
        measurement=None,
        versions={**manifest.versions, **versions},
        npu={
            "soc": soc,
            "name": chip.name,
            "arch": arch,
            "compiler": compiler,
            "placement": placement.to_dict(),
        },
    )
    (folder / MANIFEST_NAME).write_text(described.to_json(), encoding="utf-8")
    return compiled


def _emulate(manifest: Manifest, compiled: Path) -> Emulated:
    """Runs the golden recordings beside a compiled file in the emulator, whose logits replace those in the files."""
    runner, spec = open_model(compiled, EMULATOR), manifest.spec
    before, after = [], []
    for name in manifest.golden:
        path = compiled.parent / name
        tensors = read_golden(path, sample_rate_hz=spec.audio.sample_rate_hz).tensors(spec)
        logits = runner({info.name: tensors[info.name] for info in runner.inputs})
        require_finite(logits, f"logits in the emulator on {name}")
        with np.load(path) as arrays:
            golden = dict(arrays)
        before.append(golden["logits"])
        after.append(logits)
        np.savez(path, **{**golden, "logits": logits})
    cpu, npu = np.stack(before), np.stack(after)
    return Emulated(round(agreement(cpu, npu) * len(cpu)), len(cpu), snr_db(cpu, npu))


def chips_table(compiled: Sequence[Compiled]) -> str:
    """Placement by chip and file; then the names of the operations on the CPU."""
    rows = [
        [
            f"{artifact.soc} ({SNAPDRAGONS[artifact.soc].name}), {artifact.file_format}",
            f"{artifact.placement.npu_ops} of {artifact.placement.total_ops}",
            str(artifact.placement.partitions),
            f"{artifact.soc}, v{artifact.arch}",
            f"{artifact.size_bytes / 1e6:.2f} MB",
            str(artifact.emulated or "not run"),
        ]
        for artifact in compiled
    ]
    header = ["chip and file", "operations on the NPU", "pieces", "binary says", "size", "emulator against CPU¹"]
    note = "¹ golden recordings with the same class, logits' SNR; compiled TFLite files run only on phones"
    lines = [format_table(header, rows), note]
    for artifact in compiled:
        names = artifact.placement.fallback
        if names:
            more = f" and {len(names) - _FALLBACK_SHOWN} more" if len(names) > _FALLBACK_SHOWN else ""
            lines.append(
                f"{artifact.soc} {artifact.file_format}, on the CPU: {', '.join(names[:_FALLBACK_SHOWN])}{more}"
            )
    return "\n".join(lines)
