"""Handler of `python -m export npu`: the INT8 model compiled for Snapdragons, and what of it runs on their NPU."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from pathlib import Path

from console.files import atomic_folder, check_free
from console.program import log, show, show_json, warn
from console.table import format_table
from preprocess.errors import AnswerIsNo, UsageError
from quantize.recipes import Recipe, parse_recipe
from runtime.npu.chips import CURRENT, SNAPDRAGONS
from runtime.npu.emulator import require_hexagon

from ..commands import check_options, command_words, export_model, random_weights, trained_checkpoint
from .compile import Compiled, compile_artifact, is_full
from .litert import Qairt, find_qairt, known_socs, qairt_is_missing, require_known

PLACEMENT = "placement.json"
_TARGETS = {"onnx": "qnn", "tflite": "xnnpack"}
_FALLBACK_SHOWN = 8


def npu_command(options: argparse.Namespace) -> None:
    """Exports for the CPU, compiles for every chip, shows what runs where.

    Raises:
        MissingComponentError: a compiler or Qualcomm's libraries are not there.
        AnswerIsNo: a tolerance was missed, or something stays on the CPU and `--require-full` is set; the artefacts
            are written all the same.
    """
    check_options(options)
    recipe = parse_recipe(options.recipe)
    if not recipe.static:
        raise UsageError(f"recipe {recipe.name} leaves floats, which Hexagon does not take; use static_wi8_ai8 or so")
    socs = list(dict.fromkeys(options.soc or CURRENT))
    libraries, formats = _components(options, recipe, socs)
    checkpoint = trained_checkpoint(options)
    preset = checkpoint.config.preset if checkpoint else options.preset or "nano"
    words = [preset, *(["random"] if options.init else []), *([options.stream] if options.stream != "fused" else [])]
    name = "-".join([*words, recipe.short, "npu"])
    out = options.out or Path("artifacts") / name
    check_free(out, force=options.force)
    if checkpoint is None:
        checkpoint = random_weights(options, preset)
    with atomic_folder(out, force=options.force) as folder:
        failures = []
        for own in formats:
            base = copy.copy(options)
            base.file_format, base.target = own, _TARGETS[own]
            manifest = export_model(base, recipe, _TARGETS[own], f"{name}-{own}", checkpoint, folder / own)
            failures += manifest.verification["failures"]
        compiled = list(_compile(folder, socs, formats, libraries, options))
        document = {"recipe": recipe.name, "stand_in_libraries": bool(libraries and libraries.stand_in)}
        document["compiled"] = [own.to_dict() for own in compiled]
        (folder / PLACEMENT).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    _show(compiled, out, document, options)
    failures += [failure for own in compiled for failure in own.failures]
    if failures:
        raise AnswerIsNo(f"{out} is not verified: {'; '.join(failures)}")
    if options.require_full and not is_full(compiled):
        wrong = [f"{own.soc} {own.file_format}" for own in compiled if not own.placement.full]
        raise AnswerIsNo(f"not wholly on the NPU in one piece: {', '.join(wrong)}")


def _components(options: argparse.Namespace, recipe: Recipe, socs: list[str]) -> tuple[Qairt | None, tuple[str, ...]]:
    """Qualcomm's libraries for TFLite, and the formats that can be compiled; what was asked for must be there."""
    if options.format != "tflite":
        recipe.check_format("onnx")
        require_hexagon()
    if options.format == "onnx":
        return None, ("onnx",)
    libraries = find_qairt(options.qairt)
    if options.format == "tflite":
        recipe.check_format("tflite")
        require_known(socs)
        if libraries is None:
            raise qairt_is_missing()
        return libraries, ("tflite",)
    try:
        recipe.check_format("tflite")
    except UsageError:
        warn(f"recipe {recipe.name} does not exist for TFLite; ONNX alone is compiled")
        return None, ("onnx",)
    if libraries is None:
        warn(f"ONNX alone is compiled: {qairt_is_missing()}")
        return None, ("onnx",)
    return libraries, ("onnx", "tflite")


def _compile(
    folder: Path, socs: Sequence[str], formats: Sequence[str], libraries: Qairt | None, options: argparse.Namespace
) -> list[Compiled]:
    found = []
    for file_format in formats:
        for soc in socs:
            if file_format == "tflite" and soc not in known_socs():
                warn(f"LiteRT's compiler does not know {soc}; it gets ONNX alone")
                continue
            log(f"compiling {file_format} for {soc}")
            words = [f"python -m export npu --soc {soc} --format {file_format}", *command_words(options)]
            found.append(
                compile_artifact(
                    folder / file_format,
                    folder / f"{soc}-{file_format}",
                    soc,
                    libraries=libraries,
                    command=" ".join(words),
                )
            )
    return found


def _show(compiled: Sequence[Compiled], out: Path, document: dict[str, object], options: argparse.Namespace) -> None:
    if options.json:
        show_json({"artifact": str(out), **document})
        return
    show(placement_table(compiled))
    if document["stand_in_libraries"]:
        show(
            "TFLite was compiled with the libraries inside onnxruntime-qnn and a stand-in for libQnnLpai.so, to learn "
            "the placement;\nfor phones, compile it with ai-edge-litert-sdk-qualcomm"
        )
    show("")
    show(f"{'all' if is_full(compiled) else 'NOT all'} of it on the NPU: {out}")


def placement_table(compiled: Sequence[Compiled]) -> str:
    """What runs where, by chip and file; then the names of what stayed on the CPU."""
    rows = [
        [
            f"{own.soc} ({SNAPDRAGONS[own.soc].name}), {own.file_format}",
            f"{own.placement.npu_ops} of {own.placement.total_ops}",
            str(own.placement.partitions),
            str(own.compiled_for),
            f"{own.size_bytes / 1e6:.2f} MB",
            _emulated(own),
        ]
        for own in compiled
    ]
    header = ["chip and file", "operations on the NPU", "pieces", "binary says", "size", "emulator against CPU¹"]
    note = "¹ golden recordings with the same class, logits' SNR; a compiled TFLite file runs on a phone alone"
    lines = [format_table(header, rows), note]
    for own in compiled:
        names = own.placement.fallback
        if names:
            more = f" and {len(names) - _FALLBACK_SHOWN} more" if len(names) > _FALLBACK_SHOWN else ""
            lines.append(f"{own.soc} {own.file_format}, on the CPU: {', '.join(names[:_FALLBACK_SHOWN])}{more}")
    return "\n".join(lines)


def _emulated(own: Compiled) -> str:
    if own.against_cpu is None:
        return "not run"
    same, count, level = own.against_cpu
    return f"{same} of {count}, {level:.1f} dB"
