"""Recognisers with random weights, random samples for them, and their logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.config import ModelConfig
from model.recogniser import Recogniser, Weights, build_recogniser
from recordings.calibration import CalibrationSet

# Float32 sums in another order, relative to the largest logit or weight, at least to 1.
SAME_FLOAT = 1e-4


@cache
def _built(config: ModelConfig) -> tuple[Recogniser, Weights]:
    """A recogniser, which takes a second to build, and its initial weights."""
    recogniser = build_recogniser(config, seed=1)
    return recogniser, recogniser.weights()


def recogniser_with(config: ModelConfig, weights: Weights) -> Recogniser:
    """A recogniser with these weights; the next call with this configuration returns the same one."""
    recogniser = _built(config)[0]
    recogniser.set_weights(weights)
    return recogniser


def initial_weights(config: ModelConfig) -> Weights:
    """Weights of a recogniser that has not been trained."""
    return dict(_built(config)[1])


def random_weights(config: ModelConfig, seed: int) -> Weights:
    """Weights of every kind away from their initial values, so that a channel that is cut wrongly shows."""
    rng = np.random.default_rng(seed)
    weights = initial_weights(config)
    for name, value in weights.items():
        if name.endswith("moving_variance"):
            weights[name] = rng.uniform(0.5, 2, value.shape).astype(np.float32)
        elif name.endswith("kernel"):
            weights[name] = rng.permuted(value.ravel()).reshape(value.shape)
        else:
            weights[name] = (value + rng.normal(0, 0.3, value.shape)).astype(np.float32)
    return weights


def noise(config: ModelConfig, count: int, seed: int = 0) -> CalibrationSet:
    """Random samples, the classes taking turns."""
    rng = np.random.default_rng(seed)
    skeleton = rng.random((count, *config.spec.skeleton.shape)).astype(np.float32)
    audio = rng.normal(size=(count, *config.spec.audio.shape)).astype(np.float32)
    labels = np.arange(count, dtype=np.int32) % config.classes
    return CalibrationSet(tuple(f"R{i}" for i in range(count)), labels, skeleton, audio, seed)


def inputs_of(samples: CalibrationSet) -> list[npt.NDArray[np.float32]]:
    """The inputs of a fused model."""
    return [samples.skeleton, samples.audio]


def all_logits(config: ModelConfig, weights: Weights, samples: CalibrationSet) -> list[npt.NDArray[np.float32]]:
    """Logits of the fused model and of both streams."""
    recogniser = recogniser_with(config, weights)
    return [
        recogniser.fused(inputs_of(samples), training=False).numpy(),
        recogniser.visual(samples.skeleton, training=False).numpy(),
        recogniser.audio(samples.audio, training=False).numpy(),
    ]


def plain_onnx(path: Path) -> Callable[[dict[str, Any]], Any]:
    """A runner that computes every node separately, in float between the roundings, without integer kernels."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda tensors: session.run(["logits"], tensors)[0][0]


def assert_close(actual: Any, expected: Any, message: str = "") -> None:
    """Equal but for float32 rounding."""
    expected = np.asarray(expected)
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=SAME_FLOAT * scale, err_msg=message)
