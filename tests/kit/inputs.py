"""Bodies and sounds for tests of the preprocessing, in NumPy and in C++, and how closely results must agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess import SkeletonLayout

Array = npt.NDArray[Any]

# Pixels are float64, distances float32: 1.2e-7 of at most 224 px, times the Gaussian's steepest slope 0.61 / σ, is
# below 2e-5. The cut-off adds at most exp(−CUTOFF_SIGMA² / 2) for each limb that ends near the pixel.
HEATMAP_TOLERANCE = 1e-4
PARITY_DB = 1e-3  # both sides hold powers in float32; a decibel value is then known to about 1e-5


def body(layout: SkeletonLayout, frames: int, *, seed: int, at: tuple[float, float, float] = (0.2, 0.1, 3.0)) -> Array:
    """A body of human size that moves: float32 [frames, joints, 3]."""
    rng = np.random.default_rng(seed)
    rest = rng.normal(0, 0.35, (layout.joint_count, 3))
    rest[layout.pelvis] = 0
    rest[layout.shoulder_center] = (0, 0.5, 0.05)
    steps = rng.normal(0, 0.03, (frames, layout.joint_count, 3)).cumsum(axis=0)
    return (rest + steps + np.array(at)).astype(np.float32)


def scene(*bodies: Array, confidence: float = 1.0) -> tuple[Array, Array]:
    joints = np.stack(bodies, axis=1)
    return joints, np.full(joints.shape[:-1], confidence, np.float32)


def _noise(count: int, level: float = 0.1) -> Array:
    return np.random.default_rng(0).normal(0, level, count)


def _impulses(count: int) -> Array:
    signal = np.zeros(count)
    signal[[0, 1, count // 2, -2, -1]] = (1, -0.5, 1, 0.5, -1)
    return signal


def _chirp(count: int) -> Array:
    t = np.arange(count) / 32_000
    return 0.5 * np.sin(2 * np.pi * (20 * t + 0.5 * (15_900 - 20) / t[-1] * t**2))


def _speech_like(count: int) -> Array:
    """A voice of 120 Hz with harmonics, on and off four times a second, over faint noise."""
    t = np.arange(count) / 32_000
    voice = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 40))
    return 0.2 * voice * np.clip(np.sin(2 * np.pi * 4 * t), 0, None) ** 2 + _noise(count, 1e-4)


SIGNALS: dict[str, Callable[[int], Array]] = {
    "white noise": _noise,
    "silence": np.zeros,
    "near silence": lambda count: _noise(count, 1e-6),
    "one small step": lambda count: np.where(np.arange(count) < count // 3, 0, 2**-15),
    "constant": lambda count: np.full(count, 0.25),
    "impulses at the edges": _impulses,
    "sine": lambda count: 0.8 * np.sin(2 * np.pi * 997 * np.arange(count) / 32_000),
    "sine at the highest frequency": lambda count: np.cos(np.pi * np.arange(count)),
    "chirp": _chirp,
    "clipped and loud": lambda count: np.clip(_noise(count, 5.0), -1, 1),
    "16-bit scale": lambda count: np.round(_noise(count, 8000.0)),
    "speech-like bursts": _speech_like,
    "loud then silent": lambda count: np.where(np.arange(count) < count // 2, _noise(count), 0),
}
