"""The sensitivity scan: what each group's narrowing alone does to the logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from console.progress import Progress
from model.recogniser import Recogniser, Weights
from recordings.calibration import CalibrationSet

from ..recover.distillation import divergence
from .budget import Damage
from .groups import Group, silenced
from .importance import WEIGHT_CRITERIA, Criterion, Scores, strongest, taylor

SHARES = (0.75, 0.5, 0.25)
Array: TypeAlias = npt.NDArray[Any]


def importance(
    recogniser: Recogniser,
    groups: Sequence[Group],
    criterion: Criterion,
    samples: CalibrationSet | None,
    *,
    batch_size: int = 8,
) -> dict[str, Scores]:
    """Scores of every group's channels.

    `taylor` takes the gradient of the cross-entropy of the fused model and of both streams, on `samples`.
    """
    weights = recogniser.weights()
    if criterion != "taylor":
        return {group.name: WEIGHT_CRITERIA[criterion](group, weights) for group in groups}
    assert samples is not None
    gates = {own.weight for group in groups for own in group.axes if own.role == "gate"}
    variables = {name: own for name, own in recogniser.variables().items() if name in gates}

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def gradients(skeleton: tf.Tensor, audio: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = (
                recogniser.fused([skeleton, audio], training=False),
                recogniser.visual(skeleton, training=False),
                recogniser.audio(audio, training=False),
            )
            loss = sum(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, own)) for own in outputs)
        found = tape.gradient(loss, list(variables.values()), unconnected_gradients="zero")
        return [tf.convert_to_tensor(own) for own in found]

    scores = {group.name: np.zeros((group.parts, group.width)) for group in groups}
    starts = range(0, len(samples.names), batch_size)
    with Progress("scoring channels", len(starts)) as progress:
        for start in starts:
            own = slice(start, start + batch_size)
            values = gradients(samples.skeleton[own], samples.audio[own], samples.labels[own])
            by_name = {name: np.asarray(value) for name, value in zip(variables, values, strict=True)}
            for group in groups:
                scores[group.name] += taylor(group, weights, by_name)
            progress.advance()
    return scores


def scan(
    recogniser: Recogniser,
    groups: Sequence[Group],
    scores: Mapping[str, Scores],
    samples: CalibrationSet,
    *,
    shares: Sequence[float] = SHARES,
    batch_size: int = 32,
) -> dict[str, Damage]:
    """Mean Kullback-Leibler divergence from the whole model, with each group at each share of its width alone.

    The weakest channels are silenced in place, so nothing is rebuilt; the model has its weights back afterwards.
    Groups of one channel have nothing to give and are left out.
    """
    weights = recogniser.weights()
    variables = recogniser.variables()
    answer = _Answer(recogniser, samples, batch_size)
    found: dict[str, Damage] = {}
    wide = [group for group in groups if group.width > 1]
    with Progress("scanning sensitivity", len(wide) * len(shares)) as progress:
        for group in wide:
            values = [0.0]
            for share in shares:
                kept = strongest(scores[group.name], max(1, round(share * group.width)))
                changed = silenced(group, weights, kept)
                _assign(variables, changed)
                values.append(float(divergence(answer.whole, answer(group), 1.0)))
                _assign(variables, {name: weights[name] for name in changed})
                progress.advance(note=group.name)
            # What fewer channels seem to do better is chance.
            rising = np.maximum.accumulate(values)
            found[group.name] = Damage((1.0, *shares), tuple(float(own) for own in rising))
    return found


class _Answer:
    """Logits of the fused model on the samples when one group has changed: only its own stream is computed again.

    Attributes:
        whole: with no change, float64 [N, classes].
    """

    def __init__(self, recogniser: Recogniser, samples: CalibrationSet, batch_size: int) -> None:
        skeleton, audio = recogniser.features.input
        seen, heard = recogniser.features.output
        self._streams = {
            "visual": (_batched(keras.Model(skeleton, seen), batch_size), samples.skeleton),
            "audio": (_batched(keras.Model(audio, heard), batch_size), samples.audio),
        }
        self._features = {name: run(tensor) for name, (run, tensor) in self._streams.items()}
        self._head = _batched(recogniser.head, batch_size)
        self.whole = self._logits(self._features)

    def __call__(self, group: Group) -> Array:
        own = group.name.split("/")[0]
        if own not in self._streams:
            return self._logits(self._features)
        run, tensor = self._streams[own]
        return self._logits({**self._features, own: run(tensor)})

    def _logits(self, features: Mapping[str, Array]) -> Array:
        return self._head(features["visual"], features["audio"]).astype(np.float64)


def _batched(model: keras.Model, batch_size: int) -> Callable[..., Array]:
    """The model in inference on arrays [N, …], a batch at a time."""
    run = tf.function(lambda *tensors: model(tensors, training=False), autograph=False, reduce_retracing=True)

    def all_of(*arrays: Array) -> Array:
        starts = range(0, len(arrays[0]), batch_size)
        return np.concatenate([np.asarray(run(*(own[i : i + batch_size] for own in arrays))) for i in starts])

    return all_of


def _assign(variables: Mapping[str, tf.Variable], values: Weights) -> None:
    for name, value in values.items():
        variables[name].assign(value)
