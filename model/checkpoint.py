"""A checkpoint: one `.npz` file that holds the configuration as JSON and every weight by name."""

from __future__ import annotations

import argparse
import json
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from console.files import atomic_file
from console.program import show, show_json
from preprocess.errors import DataError, UsageError
from recordings.actions import NTU60_ACTIONS
from runtime.manifest import Label

from .config import ModelConfig, Norm, StrideOn, preset_config
from .cost import model_cost

if TYPE_CHECKING:
    from .recogniser import Recogniser

RANDOM = "random_weights"  # key of a checkpoint's history: its answers carry no meaning
_CONFIG = "config.json"
_HISTORY = "history.json"
_UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, TypeError, ValueError, OSError, EOFError)
DEMO_CHECKPOINT = Path(__file__).parent / "demo" / "nano.npz"


@dataclass(frozen=True)
class Checkpoint:
    """Configuration, weights by name (float32), and their history (JSON)."""

    config: ModelConfig
    weights: dict[str, np.ndarray[Any, np.dtype[np.float32]]]
    history: dict[str, Any]

    def recogniser(self, *, dropout: float = 0.0) -> Recogniser:
        """The models with these weights; `dropout` acts in training alone.

        Raises:
            DataError: the weights do not fit the configuration.
        """
        from .recogniser import build_recogniser

        recogniser = build_recogniser(self.config, dropout=dropout)
        recogniser.set_weights(self.weights)
        return recogniser


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file completely or not at all."""
    arrays: dict[str, Any] = dict(checkpoint.weights)
    arrays[_CONFIG] = _encode(checkpoint.config.to_json())
    arrays[_HISTORY] = _encode(json.dumps(checkpoint.history, ensure_ascii=False))
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        DataError: the file is missing, damaged, or no checkpoint.
    """
    if not path.is_file():
        raise DataError(f"checkpoint {path} does not exist; train one with `python -m model train`")
    arrays = read_arrays(path)
    try:
        config, history = (json.loads(arrays.pop(name).tobytes().decode()) for name in (_CONFIG, _HISTORY))
    except KeyError as error:
        raise DataError(
            f"checkpoint {path} holds no {error.args[0]}; it was not written by `python -m model train`"
        ) from error
    except ValueError as error:
        raise DataError(f"checkpoint {path} is damaged, its configuration is not JSON: {error}") from error
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise DataError(f"checkpoint {path}: weight {name!r} is {array.dtype}, not float32; the file is damaged")
    try:
        return Checkpoint(ModelConfig.from_dict(config), arrays, history)
    except DataError as error:
        raise DataError(f"checkpoint {path}: {error}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All arrays of an `.npz` file; pickled objects are refused.

    Raises:
        DataError: the file is damaged or no `.npz`.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise DataError(f"{path} is damaged or no file of arrays: {error}") from error


def random_checkpoint(
    preset: str, *, visual_depth: int = 50, audio_norm: Norm = "layer", stride_on: StrideOn = "3x3", seed: int = 0
) -> Checkpoint:
    """An untrained checkpoint of a preset for NTU's 60 classes, with the initial weights of a training."""
    from .recogniser import build_recogniser

    labels = tuple(Label(f"A{i:03d}", action) for i, action in enumerate(NTU60_ACTIONS, start=1))
    config = preset_config(preset, labels, visual_depth=visual_depth, audio_norm=audio_norm)
    config = replace(config, visual=replace(config.visual, stride_on=stride_on))
    return Checkpoint(config, build_recogniser(config, seed=seed).weights(), {RANDOM: True})


def init_command(options: argparse.Namespace) -> None:
    """Write an untrained checkpoint and show its cost."""
    if options.out.suffix != ".npz":
        raise UsageError(f"--out is {options.out}; a checkpoint ends in .npz")
    checkpoint = random_checkpoint(
        options.preset, visual_depth=options.visual_depth, audio_norm=options.audio_norm, seed=options.seed
    )
    save_checkpoint(options.out, checkpoint)
    total = model_cost(checkpoint.config)
    if options.json:
        show_json({"checkpoint": str(options.out), "parameters": total.parameters, "macs": total.macs})
        return
    show(f"checkpoint: {options.out} ({total.parameters / 1e6:.2f} M parameters, {total.macs / 1e9:.3f} G MACs)")


def _encode(text: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(text.encode(), dtype=np.uint8)
