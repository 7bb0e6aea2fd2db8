"""The plan of an export: every decision of the command line, taken before TensorFlow is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from console.files import check_free
from console.options import command_line
from model.checkpoint import DEMO_CHECKPOINT, Checkpoint, load_checkpoint, random_checkpoint
from model.config import Norm, Stream, StrideOn
from preprocess.errors import DataError, UsageError
from quantize.gate.paired import MaxDrop
from quantize.recipes import FLOAT32, STATIC_WI8_AI8, Recipe, parse_recipe
from runtime.manifest import file_sha256

from .targets import DEFAULT_TARGET, ExportTarget, choose_target

if TYPE_CHECKING:
    from quantize.prepare import CalibrationOptions

# At paper size one recording takes half a second in the calibrator and a second in all runtimes.
_CALIBRATION = {"nano": 256, "paper": 32}
_HELD_OUT = {"nano": 1000, "paper": 16}


@dataclass(frozen=True)
class ModelChoice:
    """The model file to make.

    Attributes:
        file_format: `tflite` or `onnx`.
        target: kind of device.
        recipe: precision.
        stream: `fused`, or one stream with its own classifier.
        max_drop: accuracy that a search for the recipe, which begins at `recipe`, may lose; None: `recipe` is final.
        time_limit_s: the search tries no further recipe after that.
    """

    file_format: str
    target: ExportTarget
    recipe: Recipe
    stream: Stream = "fused"
    max_drop: MaxDrop | None = None
    time_limit_s: float = 0.0

    @classmethod
    def of(cls, options: argparse.Namespace, file_format: str) -> ModelChoice:
        """From `--int8`, `--recipe`, `--max-drop`, `--time-limit`, `--target` and `--stream`.

        Raises:
            UsageError: they contradict each other.
        """
        target = choose_target(options.target, file_format)
        if options.max_drop is not None:
            if options.init:
                raise UsageError("--max-drop needs trained weights: random ones have no accuracy to keep")
            if not target.deployed:
                raise UsageError(f"--max-drop searches among our own graphs; leave out --target {target.name}")
            max_drop, time_limit_s = MaxDrop(options.max_drop), 60 * options.time_limit
            return cls(file_format, target, STATIC_WI8_AI8, options.stream, max_drop, time_limit_s)
        recipe = parse_recipe(options.recipe) if options.recipe else STATIC_WI8_AI8 if options.int8 else FLOAT32
        recipe.check_format(file_format)
        return cls(file_format, target, recipe, options.stream)

    def name(self, preset: str, options: argparse.Namespace) -> str:
        """The name of the artifact: `nano-int8-tflite`."""
        default = self.target.name == DEFAULT_TARGET[self.file_format]
        words = (self.file_format, "searched" if self.max_drop else "", "" if default else self.target.name)
        return artifact_name(options, preset, self.recipe, *words)


@dataclass(frozen=True)
class ExportPlan:
    """An export.

    Attributes:
        name: of the artifact.
        model: the file to make.
        checkpoint: configuration and weights.
        origin: name and hash of the weights' file, for the manifest.
        calibration: how ranges are found.
        calibration_count, held_out_count: recordings to calibrate with, and to verify on.
        command: repeats the export, for the manifest.
    """

    name: str
    model: ModelChoice
    checkpoint: Checkpoint
    origin: dict[str, str]
    calibration: CalibrationOptions
    calibration_count: int
    held_out_count: int
    command: str

    @classmethod
    def of(cls, options: argparse.Namespace, name: str, model: ModelChoice, checkpoint: Checkpoint) -> ExportPlan:
        """From the options of every kind of export.

        Raises:
            UsageError: `--max-drop` cannot be shown on so few recordings.
        """
        from quantize.prepare import CalibrationOptions

        preset = checkpoint.config.preset
        held_out = options.recordings or _HELD_OUT[preset]
        if model.max_drop:
            model.max_drop.require_enough(held_out)
        origin = {"name": f"random weights, seed {options.seed}", "sha256": ""}
        if not options.init:
            path = options.checkpoint or DEMO_CHECKPOINT
            origin = {"name": path.name if options.checkpoint else "demo", "sha256": file_sha256(path)}
        return cls(
            name=name,
            model=model,
            checkpoint=checkpoint,
            origin=origin,
            calibration=CalibrationOptions.of(options),
            calibration_count=options.calibration or _CALIBRATION[preset],
            held_out_count=held_out,
            command=command_line(options),
        )


def choose_weights(options: argparse.Namespace) -> tuple[str, Callable[[], Checkpoint]]:
    """The preset, and a function that gives the checkpoint; for random weights it loads TensorFlow.

    Raises:
        UsageError: `--checkpoint`, `--init`, `--preset`, `--audio-norm` and `--stride-on` contradict each other.
        DataError: the checkpoint is damaged, or has a preset that this release does not know.
    """
    if options.checkpoint and options.init:
        raise UsageError("--init random and --checkpoint exclude each other; give one of them")
    if options.init:
        preset = options.preset or "nano"
        norm: Norm = options.audio_norm or "layer"
        stride_on: StrideOn = options.stride_on or "3x3"
        return preset, partial(random_checkpoint, preset, audio_norm=norm, stride_on=stride_on, seed=options.seed)
    for name in ("audio_norm", "stride_on", "preset"):
        if value := getattr(options, name):
            words = name.replace("_", "-")
            raise UsageError(f"--{words} {value} needs --init random; a checkpoint has its own configuration")
    checkpoint = load_checkpoint(options.checkpoint or DEMO_CHECKPOINT)
    preset = checkpoint.config.preset
    if preset not in _CALIBRATION:
        raise DataError(f"checkpoint has preset {preset!r}; this release knows {', '.join(_CALIBRATION)}")
    return preset, lambda: checkpoint


def artifact_name(options: argparse.Namespace, preset: str, recipe: Recipe, *words: str) -> str:
    """`nano-int8` and `words`; random weights and a single stream are named, too."""
    stream = "" if options.stream == "fused" else options.stream
    return "-".join(filter(None, (preset, options.init, stream, recipe.short, *words)))


def choose_folder(options: argparse.Namespace, name: str) -> Path:
    """`--out`, or the default for an artifact of that name.

    Raises:
        UsageError: it exists, and `--force` is not set.
    """
    out: Path = options.out or Path("artifacts") / name
    check_free(out, force=options.force)
    return out
