"""Networks with random weights, to study cost, size and time without training."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from recordings.actions import NTU60_ACTIONS
from runtime.manifest import Label

from .checkpoint import Checkpoint
from .config import preset_config
from .recogniser import build_recogniser

RANDOM = "random_weights"  # of a checkpoint's history: its answers carry no meaning


def random_checkpoint(
    preset: str,
    *,
    visual_depth: int = 50,
    audio_norm: Literal["layer", "batch"] = "layer",
    stride_on: Literal["3x3", "1x1"] = "3x3",
    seed: int = 0,
) -> Checkpoint:
    """An untrained checkpoint of a preset for NTU's 60 classes, with the weights that training would begin with."""
    labels = tuple(Label(f"A{i:03d}", action) for i, action in enumerate(NTU60_ACTIONS, start=1))
    config = preset_config(preset, labels, visual_depth=visual_depth, audio_norm=audio_norm)
    config = replace(config, visual=replace(config.visual, stride_on=stride_on))
    return Checkpoint(config, build_recogniser(config, seed=seed).weights(), {RANDOM: True})
