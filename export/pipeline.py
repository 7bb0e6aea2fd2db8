"""Making an artifact: prepare, choose the recipe, convert, verify, describe; only then the folder gets its name."""

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
from model.checkpoint import RANDOM
from model.config import INPUTS_OF, ModelConfig
from model.cost import Cost, cost_by_part
from model.evaluation import keras_model
from model.recogniser import build_recogniser
from preprocess.spec import PreprocessSpec
from quantize.analysis import analyze
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

from .plan import ExportPlan, ModelChoice
from .search import Budget, Trials, search
from .targets import ExportTarget
from .tflite_file import convert_to_tflite, finish_tflite
from .verification import Verification, verify

_GOLDEN_RECORDINGS = 3
_ANALYZED = 16  # recordings that rank the blocks
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
class _Recordings:
    """Recordings to calibrate with (None: no ranges are needed), to choose a recipe on, and to verify on."""

    calibration: CalibrationSet | None
    selection: Refs
    held_out: Refs


@dataclass(frozen=True)
class _Network:
    """A checkpoint, ready to answer in float and to be converted.

    Attributes:
        model: the file to make.
        config: of the checkpoint.
        keras_model: the stream in its training form.
        float_model: the same, for questions.
        prepared: the deploy form; None where the converters get the training form.
        calibration: recordings that fixed the ranges.
    """

    model: ModelChoice
    config: ModelConfig
    keras_model: Any
    float_model: Model
    prepared: Prepared | None
    calibration: CalibrationSet | None

    def convert(self, recipe: Recipe, path: Path) -> None:
        """Writes the file of a recipe."""
        if self.prepared:
            convert_model(self.prepared, recipe, self.model.target, path)
            return
        from .plain import convert_plain

        convert_plain(self.keras_model, recipe, self.calibration, path, embedded_metadata(self.config))

    def noisiest_blocks(self) -> list[str]:
        """Patterns of the tensors of every block; the block that adds most noise comes first."""
        assert self.prepared is not None
        assert self.calibration is not None
        return [block.pattern for block in analyze(self.prepared, self.calibration.head(_ANALYZED)).blocks]


def export(plan: ExportPlan, source: DataSource, out: Path, *, force: bool) -> tuple[Manifest, Verification]:
    """Writes the artifact's folder, whole or not at all.

    The folder is written even if the verification fails: the manifest records that, and the caller must report it.

    Raises:
        UsageError: `out` exists and `force` is not set, or there are too few recordings.
        DataError: recordings are bad, a converter failed, or a runtime cannot load the file.
        AnswerIsNo: a number is not finite, or no recipe is within the budget; nothing is written then.
    """
    with atomic_folder(out, force=force) as folder:
        recordings = _draw(plan, source)
        network = _prepare(plan, recordings.calibration)
        path = folder / f"model.{plan.model.file_format}"
        searched = None
        if plan.model.budget:
            recipe, searched = _search(network, plan.model.budget, source, recordings.selection, path)
            plan = replace(plan, model=replace(plan.model, recipe=recipe))
        else:
            network.convert(plan.model.recipe, path)
        with source.loader(recordings.held_out, network.config) as loader:
            verification, runner = verify(
                path,
                plan.model,
                network.float_model,
                loader.epoch(0),
                spec=network.config.spec,
                recordings=len(recordings.held_out),
                random_weights=RANDOM in plan.checkpoint.history,
            )
        golden = _write_golden(folder / "golden", recordings.held_out, network.config.spec, runner)
        manifest = _describe(plan, path, recordings.calibration, searched, verification, runner, golden)
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest, verification


def _draw(plan: ExportPlan, source: DataSource) -> _Recordings:
    config, calibration = plan.checkpoint.config, plan.calibration_count if plan.model.recipe.static else 0
    if plan.model.budget is None:
        calibration_set, held_out = source.draw(config, calibration=calibration, held_out=plan.held_out_count)
        return _Recordings(calibration_set, (), held_out)
    sets = _Recordings(*source.draw_with_selection(config, calibration=calibration, held_out=plan.held_out_count))
    for refs in (sets.selection, sets.held_out):
        plan.model.budget.max_drop.require_enough(len(refs))
    return sets


def _prepare(plan: ExportPlan, calibration: CalibrationSet | None) -> _Network:
    config, model = plan.checkpoint.config, plan.model
    recogniser = build_recogniser(config)
    recogniser.set_weights(plan.checkpoint.weights)
    prepared = None
    if model.target.deployed:
        form = replace(model.target.form, stream=model.stream)
        prepared = prepare(config, plan.checkpoint.weights, form, calibration, plan.calibration)
        model.recipe.check_tensors(prepared.producers.values())
    float_model = keras_model(recogniser, model.stream)
    return _Network(model, config, recogniser.stream(model.stream), float_model, prepared, calibration)


def _search(
    network: _Network, budget: Budget, source: DataSource, selection: Refs, path: Path
) -> tuple[Recipe, dict[str, Any]]:
    """Chooses the recipe and leaves its file at `path`; returns it and the record of the search."""
    # Beside the artifact: the files of the recordings are large, and /tmp may lie in memory.
    with tempfile.TemporaryDirectory(prefix=".tmp-search-", dir=path.parents[1]) as folder:
        with source.loader(selection, network.config) as loader:
            trials = Trials(
                network.convert,
                network.model.file_format,
                network.float_model,
                loader.epoch(0),
                inputs=INPUTS_OF[network.model.stream],
                recordings=len(selection),
                folder=Path(folder),
            )
        chosen, tried = search(trials, network.noisiest_blocks, budget)
        trials.path(chosen.recipe).replace(path)
    record = {
        "max_drop_points": budget.max_drop.points,
        "time_limit_s": budget.time_limit_s,
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
    parts = cost_by_part(config, model.stream, layer_norm=model.target.layer_norm)
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
        cost={name: _cost(part, model.target) for name, part in parts.items()},
        search=searched,
        verification=verification.to_dict(),
        measurement=_measurement(path, model.file_format),
        checkpoint=plan.origin,
        golden=golden,
        versions={name: version for name in _LIBRARIES if (version := _version(name))},
        command=plan.command,
        stream=model.stream,
        backbones={part: name for part, name in backbones.items() if model.stream in (part, "fused")},
    )


def _cost(part: Cost, target: ExportTarget) -> dict[str, int]:
    cost = {"parameters": part.parameters, "macs": part.macs}
    # Converters of the training graph fold it in their own way.
    return {**cost, "deployed_parameters": part.deployed_parameters} if target.deployed else cost


def _measurement(path: Path, file_format: str) -> dict[str, Any]:
    measurement = measure(path, RUNTIMES_OF_FORMAT[file_format][0])
    if file_format == "tflite":
        measurement["peak_bytes_mapped"] = measure(path, MAPPED, warmup=1, runs=1)["peak_bytes"]
    return measurement


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
