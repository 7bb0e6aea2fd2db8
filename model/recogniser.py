"""The recogniser in its training form: two backbones, a head for each stream, and their fusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tf_keras as keras

from preprocess.errors import DataError

from .backbones import convnext_features, norm, resnet_features
from .config import FusionConfig, ModelConfig, Norm, Stream
from .layers import Heads, JoinHeads, LayerNorm, MatMul, SeededDropout

Weights = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Recogniser:
    """Keras models that share their weights.

    Attributes:
        config: what they were built from.
        visual: skeleton [B, S, S, C] → logits [B, classes].
        audio: audio [B, bands, frames, 3] → logits [B, classes].
        fused: (skeleton, audio) → logits [B, classes].
        features: (skeleton, audio) → (visual features, audio features), what the fusion head reads.
        head: (visual features, audio features) → logits [B, classes].
    """

    config: ModelConfig
    visual: keras.Model
    audio: keras.Model
    fused: keras.Model
    features: keras.Model
    head: keras.Model

    def stream(self, name: Stream) -> keras.Model:
        return {"fused": self.fused, "visual": self.visual, "audio": self.audio}[name]

    def variables(self) -> dict[str, Any]:
        """Every variable by its name, each once."""
        return {v.name.removesuffix(":0"): v for m in (self.visual, self.audio, self.head) for v in m.variables}

    def weights(self) -> Weights:
        return {name: variable.numpy() for name, variable in self.variables().items()}

    def set_weights(self, weights: Weights) -> None:
        """Copy `weights` into the model; see `set_variables`."""
        set_variables(self.variables(), weights)

    def dropout_layers(self) -> list[SeededDropout]:
        return [layer for layer in self.head.layers if isinstance(layer, SeededDropout)]


def set_variables(variables: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy weights into the Keras variables of the same names.

    Raises:
        DataError: a name or a shape does not fit, or a number is not finite.
    """
    if variables.keys() != weights.keys():
        difference = sorted(variables.keys() ^ weights.keys())
        raise DataError(
            f"weights and configuration name {len(difference)} different tensors, the first {difference[0]!r}; "
            "use a checkpoint written with this configuration"
        )
    for name, variable in variables.items():
        value = weights[name]
        if tuple(variable.shape) != value.shape:
            raise DataError(f"weight {name!r} has shape {value.shape}, the configuration {tuple(variable.shape)}")
        if not np.isfinite(value).all():
            raise DataError(f"weight {name!r} holds numbers that are not finite; the checkpoint is damaged")
        variable.assign(value)


def build_recogniser(config: ModelConfig, *, seed: int = 0, dropout: float = 0.0) -> Recogniser:
    """Build all models with random weights drawn from `seed`; `dropout` acts in training alone."""
    keras.utils.set_random_seed(seed)
    skeleton = keras.Input(config.spec.skeleton.shape, name="skeleton")
    audio = keras.Input(config.spec.audio.shape, name="audio")
    visual_features = resnet_features(skeleton, config.visual)
    audio_features = convnext_features(audio, config.audio)

    visual_map = keras.Input(visual_features.shape[1:], name="visual_features")
    audio_map = keras.Input(audio_features.shape[1:], name="audio_features")
    logits = fusion_logits(visual_map, audio_map, config.fusion, config.classes, dropout=dropout)
    head = keras.Model([visual_map, audio_map], logits, name="fusion")
    features = [visual_features, audio_features]
    # Layers are created in a fixed order, since each draws its weights from the seed's sequence.
    visual_logits = _stream_logits(visual_features, "visual", config.classes)
    audio_logits = _stream_logits(audio_features, "audio", config.classes, config.audio.norm)
    return Recogniser(
        config=config,
        visual=keras.Model(skeleton, visual_logits, name="visual_stream"),
        audio=keras.Model(audio, audio_logits, name="audio_stream"),
        fused=keras.Model([skeleton, audio], head(features), name="recogniser"),
        features=keras.Model([skeleton, audio], features, name="features"),
        head=head,
    )


def _stream_logits(features: Any, name: str, classes: int, kind: Norm | None = None) -> Any:
    """The head of a single stream: global average pooling, a normalisation if `kind`, and a linear classifier."""
    x = keras.layers.GlobalAveragePooling2D(name=f"{name}/pool")(features)
    if kind:
        x = norm(x, kind, f"{name}/norm")
    return keras.layers.Dense(classes, name=f"{name}/classifier")(x)


def fusion_logits(
    visual_features: Any, audio_features: Any, config: FusionConfig, classes: int, *, dropout: float
) -> Any:
    """Cross-attention (paper, section 3.4): audio tokens are the queries, visual tokens the keys and values.

    F = LayerNorm(A + Dropout(MHA(Q_A, K_V, V_V))), the mean over tokens, and a linear classifier.
    """

    def project(x: Any, width: int, name: str) -> Any:
        return keras.layers.Conv2D(width, 1, kernel_initializer="glorot_uniform", name=f"fusion/{name}")(x)

    a = project(audio_features, config.audio_width, "audio")
    v = project(visual_features, config.visual_width, "visual")
    # The scale goes to the queries: fewer numbers than the scores.
    query = project(a, config.heads * config.key_dim, "query") * config.key_dim**-0.5
    key = project(v, config.heads * config.key_dim, "key")
    value = project(v, config.heads * config.value_dim, "value")
    query, key, value = (Heads(config.heads)(x) for x in (query, key, value))
    shares = keras.layers.Softmax(name="fusion/softmax")(MatMul(transpose_b=True, name="fusion/scores")([query, key]))
    mixed = JoinHeads((a.shape[1] * a.shape[2],), name="fusion/join")(MatMul(name="fusion/mixed")([shares, value]))
    mixed = keras.layers.Dense(config.audio_width, name="fusion/output")(mixed)
    mixed = SeededDropout(dropout, name="fusion/dropout")(mixed)
    tokens = keras.layers.Reshape((a.shape[1] * a.shape[2], config.audio_width), name="fusion/tokens")(a)
    fused = LayerNorm(name="fusion/norm")(keras.layers.Add(name="fusion/add")([tokens, mixed]))
    pooled = keras.layers.GlobalAveragePooling1D(name="fusion/pool")(fused)
    return keras.layers.Dense(classes, name="fusion/classifier")(pooled)
