"""Model files of recognisers with random weights, without an export's verification and measurement."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from kit.networks import noise

from export.pipeline import convert_model
from export.targets import TARGETS
from model.config import DeployForm, ModelConfig
from model.recogniser import build_recogniser
from quantize.prepare import CalibrationOptions, Prepared, prepare
from quantize.recipes import parse_recipe

INT8 = "static_wi8_ai8"


def randomise(weights: Iterable[Any], seed: int = 0) -> list[Any]:
    """Values of the same shapes of which none is 0 or 1: converters drop or merge weights that are neutral or equal."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.05, 0.1, np.shape(value)).astype(np.float32) for value in weights]


def write_file(config: ModelConfig, target: str, recipe: str, folder: Path) -> Path:
    """A file of the target's first format in `folder`, calibrated on noise where the recipe fixes ranges."""
    path = folder / f"{target}-{recipe}-{config.audio.norm}.{TARGETS[target].formats[0]}"
    parsed = parse_recipe(recipe)
    convert_model(_prepared(config, TARGETS[target].form, parsed.static), parsed, TARGETS[target], path)
    return path


@cache
def _weights(config: ModelConfig) -> dict[str, Any]:
    weights = build_recogniser(config).weights()
    return dict(zip(weights, randomise(weights.values()), strict=True))


@cache
def _prepared(config: ModelConfig, form: DeployForm, calibrated: bool) -> Prepared:
    calibration = noise(config, 4) if calibrated else None
    return prepare(config, _weights(config), form, calibration, CalibrationOptions(method="minmax"))
