"""Recognisers small enough to build, train and evaluate in a test."""

from __future__ import annotations

from typing import Literal

import numpy as np
from hypothesis import strategies as st

from model.config import ConvNeXtConfig, ConvNeXtStage, FusionConfig, ModelConfig, ResNetConfig, ResNetStage
from preprocess.spec import HeatmapSpec, LogMelSpec, PreprocessSpec
from recordings.batches import Batch
from runtime.manifest import Label

THREE_LABELS = tuple(Label(f"A{number:03d}", f"action {number}") for number in (1, 2, 3))


def tiny_spec(*, side: int = 32, bands: int = 32, frames: int = 64) -> PreprocessSpec:
    """Sizes that give (side / 32)² visual and (bands · frames / 1024) audio tokens."""
    return PreprocessSpec(
        skeleton=HeatmapSpec(size=side, sigma_px=0.5),
        audio=LogMelSpec(
            8000, window_samples=200, n_fft=256, hop_samples=160, n_mels=bands, fmax_hz=4e3, frames=frames
        ),
    )


def tiny_config(
    *,
    labels: tuple[Label, ...] = THREE_LABELS,
    spec: PreprocessSpec | None = None,
    bottleneck: bool = True,
    norm: Literal["layer", "batch"] = "layer",
) -> ModelConfig:
    """One block at each resolution, 4 to 16 channels, every width another where it may be."""
    inner = ((4, 5), (4, 6), (5, 4), (6, 4)) if bottleneck else ((4,), (5,), (6,), (7,))
    return ModelConfig(
        preset="tiny",
        visual=ResNetConfig(
            stem=4,
            stages=tuple(ResNetStage(width, (block,)) for width, block in zip((8, 10, 12, 16), inner, strict=True)),
        ),
        audio=ConvNeXtConfig(
            stages=tuple(ConvNeXtStage(width, (2 * width,)) for width in (4, 5, 6, 8)), norm=norm, layer_scale_init=0.1
        ),
        fusion=FusionConfig(audio_width=6, visual_width=10, heads=2, key_dim=3, value_dim=4),
        spec=spec or tiny_spec(),
        labels=labels,
    )


def tiny_batch(count: int = 4) -> Batch:
    """Random tensors for `tiny_config`, with the labels 0, 1, 2, 0, …"""
    rng, spec = np.random.default_rng(0), tiny_spec()
    skeleton = rng.random((count, *spec.skeleton.shape)).astype(np.float32)
    audio = rng.normal(size=(count, *spec.audio.shape)).astype(np.float32)
    return Batch(skeleton, audio, np.arange(count, dtype=np.int32) % 3, tuple(f"r{index}" for index in range(count)))


@st.composite
def model_configs(draw: st.DrawFn) -> ModelConfig:
    """Small configurations of every kind of block, with any widths and sizes."""
    width = st.integers(1, 9)
    block = st.tuples(width, width) if draw(st.booleans()) else st.tuples(width)
    blocks = st.lists(block, min_size=1, max_size=2).map(tuple)
    expanded = st.lists(width, min_size=1, max_size=2).map(tuple)
    return ModelConfig(
        preset="tiny",
        visual=ResNetConfig(
            stem=draw(width),
            stages=tuple(ResNetStage(draw(width), draw(blocks)) for _ in range(4)),
            stride_on=draw(st.sampled_from(("3x3", "1x1"))),
        ),
        audio=ConvNeXtConfig(
            stages=tuple(ConvNeXtStage(draw(width), draw(expanded)) for _ in range(4)),
            norm=draw(st.sampled_from(("layer", "batch"))),
        ),
        fusion=FusionConfig(*(draw(width) for _ in range(5))),
        spec=tiny_spec(
            side=draw(st.integers(20, 70)), bands=draw(st.integers(32, 70)), frames=draw(st.integers(32, 100))
        ),
        labels=THREE_LABELS[: draw(st.integers(2, 3))],
    )
