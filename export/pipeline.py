"""Making an artifact: prepare, choose the recipe, convert, verify, describe; only then the folder gets its name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from console.files import atomic_folder
from model.checkpoint import RANDOM
from model.config import ModelConfig
from model.cost import cost_by_part
from model.evaluation import keras_model
from preprocess.errors import UsageError
from preprocess.spec import PreprocessSpec
from quantize.analysis import analyze
from quantize.gate.paired import MaxDrop
from quantize.prepare import Prepared, prepare
from quantize.recipes import Recipe
from recordings.calibration import CalibrationSet
from recordings.reading import read_recording
from recordings.recording import RecordingRef
from recordings.sources import DataSource, Refs
from runtime.answers import Model
from runtime.manifest import MANIFEST_NAME, Manifest, file_sha256
from runtime.measure import MAPPED, measure
from runtime.runners import RUNTIMES_OF_FORMAT, Runner

from .plan import ExportPlan
from .search import Trials, search
from .targets import ExportTarget
from .tflite_file import convert_plain_tflite, convert_to_tflite, finish_tflite
from .verification import Verification, verify

_GOLDEN_RECORDINGS = 3
_ANALYZED = 16  # recordings that rank the blocks
_LIBRARIES = ["numpy", "tensorflow", "tf-keras", "ai-edge-litert", "tflite-runtime"]
_LIBRARIES += ["onnx", "tf2onnx", "onnxruntime", "librosa"]


def export(plan: ExportPlan, source: DataSource, out: Path, *, force: bool) -> tuple[Manifest, Verification]:
    """Writes the artifact's folder, whole or not at all.

    The folder is written even if the verification fails: the manifest records that, and the caller must report it.

    Raises:
        UsageError: `out` exists and `force` is not set, or there are too few recordings.
        DataError: recordings are bad, a converter failed, or a runtime cannot load the file.
        AnswerIsNo: a number is not finite, or no recipe is within `max_drop`; nothing is written then.
    """
    with atomic_folder(out, force=force) as folder:
        model, config = plan.model, plan.checkpoint.config
        calibration, selection, held_out = _draw(plan, source)
        recogniser = plan.checkpoint.recogniser()
        float_model = keras_model(recogniser, model.stream)
        path = folder / f"model.{model.file_format}"
        searched = None
        if not model.target.deployed:
            convert_plain(recogniser.stream(model.stream), model.recipe, calibration, path, embedded_metadata(config))
        else:
            form = replace(model.target.form, stream=model.stream)
            prepared = prepare(config, plan.checkpoint.weights, form, calibration, plan.calibration)
            model.recipe.check_tensors(prepared.producers.values())
            if model.max_drop:
                recipe, searched = _search(
                    plan, model.max_drop, prepared, calibration, float_model, source, selection, path
                )
                model = replace(model, recipe=recipe)
            else:
                convert_model(prepared, model.recipe, model.target, path)
        with source.loader(held_out, config) as loader:
            verification, runner = verify(
                path,
                model,
                float_model,
                loader.epoch(0),
                spec=config.spec,
                recordings=len(held_out),
                random_weights=RANDOM in plan.checkpoint.history,
            )
        golden = _write_golden(folder / "golden", held_out, config.spec, runner)
        manifest = _describe(replace(plan, model=model), path, calibration, searched, verification, runner, golden)
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest, verification


def _draw(plan: ExportPlan, source: DataSource) -> tuple[CalibrationSet | None, Refs, Refs]:
    """Recordings to calibrate with (None: no ranges are needed), to choose a recipe on, and to verify on."""
    config, calibration = plan.checkpoint.config, plan.calibration_count if plan.model.recipe.static else 0
    if plan.model.max_drop is None:
        calibration_set, held_out = source.draw(config, calibration=calibration, held_out=plan.held_out_count)
        return calibration_set, (), held_out
    sets = source.draw_with_selection(config, calibration=calibration, held_out=plan.held_out_count)
    for refs in sets[1:]:
        plan.model.max_drop.require_enough(len(refs))
    return sets


def _search(
    plan: ExportPlan,
    max_drop: MaxDrop,
    prepared: Prepared,
    calibration: CalibrationSet | None,
    float_model: Model,
    source: DataSource,
    selection: Refs,
    path: Path,
) -> tuple[Recipe, dict[str, Any]]:
    """Chooses the recipe and leaves its file at `path`; returns it and the record of the search."""
    model = plan.model

    def convert(recipe: Recipe, out: Path) -> None:
        convert_model(prepared, recipe, model.target, out)

    def rank() -> list[str]:
        assert calibration is not None
        return [block.pattern for block in analyze(prepared, calibration.head(_ANALYZED)).blocks]

    # Beside the artifact: the files of the recordings are large, and /tmp may lie in memory.
    with tempfile.TemporaryDirectory(prefix=".tmp-search-", dir=path.parents[1]) as folder:
        with source.loader(selection, plan.checkpoint.config) as loader:
            trials = Trials(
                convert,
                model.file_format,
                float_model,
                loader.epoch(0),
                recordings=len(selection),
                folder=Path(folder),
            )
        chosen, tried = search(trials, rank, max_drop, model.time_limit_s)
        trials.path(chosen.recipe).replace(path)
    record = {
        "max_drop_points": max_drop.points,
        "time_limit_s": model.time_limit_s,
        "recordings": len(selection),
        "tried": [candidate.to_dict() for candidate in tried],
    }
    return chosen.recipe, record


def convert_model(prepared: Prepared, recipe: Recipe, target: ExportTarget, path: Path) -> None:
    """Converts the deploy form to the format of the path's suffix.

    Raises:
        DataError: the converter failed.
    """
    metadata_json = embedded_metadata(prepared.config)
    if path.suffix == ".tflite":
        content = convert_to_tflite(prepared.model(recipe), recipe)
        path.write_bytes(finish_tflite(content, metadata_json, prepared.producers))
        return
    from .onnx_file import convert_to_onnx, save_onnx

    model = prepared.float_model(recipe)
    quantized = convert_to_onnx(model, recipe, target, producers=prepared.producers, ranges=prepared.ranges)
    save_onnx(quantized, path, metadata_json)


def convert_plain(model: Any, recipe: Recipe, calibration: CalibrationSet | None, path: Path, metadata: str) -> None:
    """Converts the training graph to the format of the path's suffix, through the converters' defaults, to compare.

    Raises:
        UsageError: the recipe is neither float32 nor integers only.
        DataError: a converter failed.
    """
    if recipe.base != "float32" and not recipe.integer_only:
        raise UsageError(
            f"target plain supports float32 and static_wi8_ai8, not {recipe.name}; choose another --target"
        )
    names = [tensor.name for tensor in model.inputs]
    samples = partial(_samples, names, calibration) if calibration is not None else None
    if path.suffix == ".tflite":
        path.write_bytes(finish_tflite(convert_plain_tflite(model, samples), metadata, {}))
        return
    from .onnx_file import convert_plain_onnx, save_onnx

    save_onnx(convert_plain_onnx(model, samples), path, metadata)


def _samples(names: list[str], calibration: CalibrationSet) -> Iterator[dict[str, Any]]:
    for index in range(len(calibration.names)):
        batch = calibration.batch(index, 1)
        yield {name: batch[name] for name in names}


def embedded_metadata(config: ModelConfig) -> str:
    """The JSON text inside every model file: labels and preprocessing."""
    labels = [{"code": label.code, "name": label.name} for label in config.labels]
    return json.dumps({"labels": labels, "preprocess": config.spec.to_dict()}, ensure_ascii=False)


def _write_golden(folder: Path, refs: Sequence[RecordingRef], spec: PreprocessSpec, runner: Runner) -> tuple[str, ...]:
    """Raw inputs and this file's logits, for any device to check itself against; names in the artifact.

    The first recording has its preprocessed tensors, too: 1.3 MB for the demo, 6.8 MB for the paper's inputs. Nothing
    is compressed, so that a device needs no inflate.
    """
    folder.mkdir()
    names: list[str] = []
    for ref in refs[:_GOLDEN_RECORDINGS]:
        recording = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz)
        tensors = recording.tensors(spec)
        path = folder / f"{ref.name}.npz"
        arrays = {
            "joints": recording.joints,
            "confidence": recording.confidence,
            "waveform": recording.waveform,
            "logits": runner(tensors),
        }
        np.savez(path, **arrays, **({} if names else tensors))
        names.append(f"golden/{path.name}")
    return tuple(names)


def _describe(
    plan: ExportPlan,
    path: Path,
    calibration: CalibrationSet | None,
    searched: dict[str, Any] | None,
    verification: Verification,
    runner: Runner,
    golden: tuple[str, ...],
) -> Manifest:
    config, model = plan.checkpoint.config, plan.model
    backbones = {"visual": config.visual.name, "audio": config.audio.name}
    # Converters of the training graph fold it in their own way, so that its deployed parameters are unknown.
    fields = ("parameters", "macs", "deployed_parameters")[: 3 if model.target.deployed else 2]
    parts = cost_by_part(config, model.stream, layer_norm=model.target.layer_norm)
    measurement = measure(path, RUNTIMES_OF_FORMAT[model.file_format][0])
    if model.file_format == "tflite":
        measurement["peak_bytes_mapped"] = measure(path, MAPPED, warmup=1, runs=1)["peak_bytes"]
    return Manifest(
        name=plan.name,
        format=model.file_format,
        model_file=path.name,
        sha256=file_sha256(path),
        size_bytes=path.stat().st_size,
        preset=config.preset,
        recipe=model.recipe.name,
        preprocess=config.spec.to_dict(),
        labels=config.labels,
        inputs=runner.inputs,
        outputs=runner.outputs,
        target=model.target.name,
        calibration={**calibration.provenance(), **asdict(plan.calibration)} if calibration else None,
        cost={name: {field: getattr(part, field) for field in fields} for name, part in parts.items()},
        search=searched,
        verification=verification.to_dict(),
        measurement=measurement,
        checkpoint=plan.origin,
        golden=golden,
        versions={name: version for name in _LIBRARIES if (version := _version(name))},
        command=plan.command,
        stream=model.stream,
        backbones={part: name for part, name in backbones.items() if model.stream in (part, "fused")},
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
