"""Making an artefact: convert, embed, verify, measure, describe, and only then give it its name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from console.files import atomic_folder
from model.checkpoint import Checkpoint
from model.config import ModelConfig, Stream
from model.cost import Cost, cost_by_part
from model.recogniser import Recogniser, build_recogniser
from quantize.prepare import CalibrationOptions, Prepared, prepare
from quantize.recipes import Recipe
from recordings.calibration import CalibrationSet
from recordings.reading import read_recording
from recordings.recording import RecordingRef
from recordings.sources import DataSource
from runtime.manifest import MANIFEST_NAME, Manifest, file_sha256
from runtime.measure import MAPPED, measure
from runtime.runners import RUNTIMES_OF_FORMAT, Runner

from .onnx_file import convert_to_onnx, save_onnx
from .plain import write_plain
from .search import Budget, Candidate, Comparison, search
from .targets import TARGETS, Target
from .tflite_file import convert_to_tflite, finish_tflite
from .verification import Verification, verify

_GOLDEN_RECORDINGS = 3
_LIBRARIES = (
    "numpy",
    "tensorflow",
    "tf-keras",
    "ai-edge-litert",
    "tflite-runtime",
    "onnx",
    "tf2onnx",
    "onnxruntime",
    "librosa",
)


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        name: of the artefact.
        file_format: `tflite` or `onnx`.
        recipe: precision.
        stream: what of the recogniser.
        budget: search for the fastest recipe within it, `recipe` is where the search begins; None: use `recipe`.
        target: a name in `export.targets.TARGETS`.
        calibration: how ranges are found.
        checkpoint: configuration and weights.
        origin: where the weights come from, for the manifest: name and hash.
        random_weights: the weights carry no meaning, only cost and arithmetic do.
        calibration_count, held_out_count: recordings to calibrate with and to verify on.
        command: for the manifest.
    """

    name: str
    file_format: str
    recipe: Recipe
    stream: Stream
    budget: Budget | None
    target: str
    calibration: CalibrationOptions
    checkpoint: Checkpoint
    origin: dict[str, str]
    random_weights: bool
    calibration_count: int
    held_out_count: int
    command: str


def export_artifact(
    request: ExportRequest, source: DataSource, out: Path, *, force: bool
) -> tuple[Manifest, Verification]:
    """Writes the artefact's folder, whole or not at all.

    The folder is written as well when the verification fails: its manifest says so, and the caller must.

    Raises:
        UsageError: `out` exists and `force` is not set.
        DataError: recordings are bad, or a runtime cannot load the file.
        AnswerIsNo: a number is not finite; nothing is written then.
    """
    with atomic_folder(out, force=force) as folder:
        config = request.checkpoint.config
        recogniser = build_recogniser(config)
        recogniser.set_weights(request.checkpoint.weights)
        calibration, held_out = source.draw(
            config,
            calibration=request.calibration_count if request.recipe.static else 0,
            held_out=request.held_out_count,
        )
        path = folder / f"model.{request.file_format}"
        compared = Comparison(recogniser, request.stream, lambda: source.loader(held_out, config), len(held_out))
        recipe, tried = _write(request, compared, calibration, path)
        with source.loader(held_out, config) as loader:
            verification, runner = verify(
                path,
                request.file_format,
                recipe,
                recogniser,
                loader,
                stream=request.stream,
                recordings=len(held_out),
                random_weights=request.random_weights,
                max_drop_points=request.budget.max_drop_points if request.budget else None,
            )
        golden = _write_golden(folder / "golden", held_out[:_GOLDEN_RECORDINGS], recogniser, runner)
        manifest = _describe(replace(request, recipe=recipe), path, calibration, verification, runner, golden, tried)
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest, verification


def _write(
    request: ExportRequest, compared: Comparison, calibration: CalibrationSet | None, path: Path
) -> tuple[Recipe, tuple[Candidate, ...]]:
    """Writes the model file; returns its recipe and, where that was searched for, what was tried."""
    config, recipe, target = request.checkpoint.config, request.recipe, TARGETS[request.target]
    if not target.deployed:
        model = compared.recogniser.stream(request.stream)
        write_plain(model, recipe, calibration, path, embedded_metadata(config))
        return recipe, ()
    form = replace(target.form, stream=request.stream)
    prepared = prepare(config, request.checkpoint.weights, form, calibration, request.calibration)
    recipe.check_tensors(prepared.producers.values())
    tried: tuple[Candidate, ...] = ()
    if request.budget:
        assert calibration is not None
        recipe, tried = search(
            prepared,
            lambda recipe, path: write_model(prepared, recipe, request.target, path),
            request.file_format,
            compared,
            calibration,
            request.budget,
        )
    write_model(prepared, recipe, request.target, path)
    return recipe, tried


def embedded_metadata(config: ModelConfig) -> str:
    """The JSON text inside every model file: labels and preprocessing."""
    labels = [{"code": label.code, "name": label.name} for label in config.labels]
    return json.dumps({"labels": labels, "preprocess": config.spec.to_dict()}, ensure_ascii=False)


def write_model(prepared: Prepared, recipe: Recipe, target: str, path: Path) -> None:
    """Converts to the format that the path's suffix names."""
    embedded = embedded_metadata(prepared.config)
    if path.suffix == ".tflite":
        content = convert_to_tflite(prepared.model(recipe), recipe)
        path.write_bytes(finish_tflite(content, embedded, prepared.producers))
        return
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        model = convert_to_onnx(
            prepared.float_model(recipe),
            recipe,
            TARGETS[target],
            producers=prepared.producers,
            ranges=prepared.ranges,
            folder=Path(folder),
        )
    save_onnx(model, path, embedded)


def _write_golden(
    folder: Path, refs: Sequence[RecordingRef], recogniser: Recogniser, runner: Runner
) -> tuple[str, ...]:
    """Raw inputs, preprocessed tensors and this file's logits, for any device to check itself against."""
    folder.mkdir()
    spec = recogniser.config.spec
    names = []
    for ref in refs:
        recording = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz)
        tensors = recording.tensors(spec)
        path = folder / f"{ref.name}.npz"
        np.savez(
            path,
            joints=recording.joints,
            confidence=recording.confidence,
            waveform=recording.waveform,
            logits=runner(tensors),
            **tensors,
        )
        names.append(f"golden/{path.name}")
    return tuple(names)


def _describe(
    request: ExportRequest,
    path: Path,
    calibration: CalibrationSet | None,
    verification: Verification,
    runner: Runner,
    golden: tuple[str, ...],
    tried: tuple[Candidate, ...],
) -> Manifest:
    config = request.checkpoint.config
    backbones = {"visual": config.visual.name, "audio": config.audio.name}
    target = TARGETS[request.target]
    parts = cost_by_part(config, request.stream, layer_norm=target.layer_norm)
    return Manifest(
        name=request.name,
        format=request.file_format,
        model_file=path.name,
        sha256=file_sha256(path),
        size_bytes=path.stat().st_size,
        preset=config.preset,
        recipe=request.recipe.name,
        preprocess=config.spec.to_dict(),
        labels=config.labels,
        inputs=runner.inputs,
        outputs=runner.outputs,
        target=request.target,
        calibration={**calibration.provenance(), **asdict(request.calibration)} if calibration else None,
        cost={name: _cost(part, target) for name, part in parts.items()},
        search={**asdict(request.budget), "tried": [asdict(own) for own in tried]} if request.budget else None,
        verification=verification.to_dict(),
        measurement=_measurement(path, request.file_format),
        checkpoint=request.origin,
        golden=golden,
        versions={name: version for name in _LIBRARIES if (version := _version(name))},
        command=request.command,
        stream=request.stream,
        backbones={part: name for part, name in backbones.items() if request.stream in (part, "fused")},
    )


def _cost(part: Cost, target: Target) -> dict[str, int]:
    found = {"parameters": part.parameters, "macs": part.macs}
    # What a converter leaves of the training graph is its own affair.
    return {**found, "deployed_parameters": part.deployed_parameters} if target.deployed else found


def _measurement(path: Path, file_format: str) -> dict[str, Any]:
    found = measure(path, RUNTIMES_OF_FORMAT[file_format][0])
    if file_format == "tflite":
        found["peak_bytes_mapped"] = measure(path, MAPPED, warmup=1, runs=1)["peak_bytes"]
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
