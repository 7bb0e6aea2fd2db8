"""How much every channel of a group matters, and how much narrowing each group alone changes the logits.

Scores have the shape [parts, width]; higher matters more. They are compared within a group only: the sensitivity scan
(`measure_damage`) decides how much each group gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from console.progress import Progress
from model.recogniser import Recogniser, Weights
from recordings.calibration import CalibrationSet

from ..recover.distillation import divergence
from .budget import Damage
from .groups import Axis, Group, Indices, silenced

Criterion = Literal["magnitude", "scale", "taylor"]
Scores: TypeAlias = npt.NDArray[np.float64]
Array: TypeAlias = npt.NDArray[Any]

SHARES = (0.75, 0.5, 0.25)
_GRADIENT_BATCH, _ANSWER_BATCH = 8, 32


def magnitude(group: Group, weights: Weights) -> Scores:
    """Norm of all kernel entries that produce or read the channel (Li et al. 2017, over the group).

    Each kernel counts relative to its mean square, so that a large one does not outweigh the others.
    """
    kernels = [axis for axis in group.axes if axis.weight.endswith("kernel")]
    squares = [_by_channel(group, axis, np.square(weights[axis.weight], dtype=np.float64)) for axis in kernels]
    norms: Scores = np.sqrt(np.mean([kernel / max(float(kernel.mean()), 1e-30) for kernel in squares], axis=0))
    return norms


def scale(group: Group, weights: Weights) -> Scores:
    """Factors of batch norms, layer norms and LayerScale on the channel (Liu et al. 2017, Network slimming).

    Groups without any, such as the inside of a ConvNeXt block, are scored by `magnitude`.
    """
    factors = [
        _by_channel(group, axis, np.abs(weights[axis.weight], dtype=np.float64))
        for axis in group.axes
        if axis.role == "gate" and axis.weight.endswith("gamma")
    ]
    return np.asarray(np.mean(factors, axis=0)) if factors else magnitude(group, weights)


def taylor(group: Group, weights: Weights, gradients: Mapping[str, npt.NDArray[np.float32]]) -> Scores:
    """Squared change of the loss, to first order, when the channel's gates become zero (Molchanov et al. 2019, Eq. 8).

    Gradients are of the loss on one batch by every gate. Scores of several batches are added.
    """
    gates = [axis for axis in group.axes if axis.role == "gate"]
    changes = [_by_channel(group, a, np.float64(weights[a.weight]) * gradients[a.weight]) for a in gates]
    change: Scores = np.sum(changes, axis=0)
    return np.square(change)


def strongest(scores: Scores, count: int) -> Indices:
    """The `count` channels of every part with the highest scores, in rising order [parts, count]."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.sort(order, axis=1).astype(np.int64)


def _by_channel(group: Group, axis: Axis, values: npt.NDArray[np.float64]) -> Scores:
    """Sums over all axes but the channels': [parts, width]."""
    moved = np.moveaxis(values, axis.axis, 0)
    summed: Scores = moved.reshape(group.parts, group.width, -1).sum(axis=2)
    return summed


def score_channels(
    recogniser: Recogniser, groups: Sequence[Group], criterion: Criterion, samples: CalibrationSet | None
) -> dict[str, Scores]:
    """Scores of every group's channels.

    `taylor` takes the gradient of the cross-entropy of the fused model and of both streams, on `samples`.
    """
    weights = recogniser.weights()
    if criterion != "taylor":
        score = {"magnitude": magnitude, "scale": scale}[criterion]
        return {group.name: score(group, weights) for group in groups}
    assert samples is not None
    gates = {axis.weight for group in groups for axis in group.axes if axis.role == "gate"}
    variables = {name: variable for name, variable in recogniser.variables().items() if name in gates}

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def gradients(skeleton: tf.Tensor, audio: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = (
                recogniser.fused([skeleton, audio], training=False),
                recogniser.visual(skeleton, training=False),
                recogniser.audio(audio, training=False),
            )
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
            loss = sum(tf.reduce_mean(entropy(labels, logits)) for logits in outputs)
        slopes = tape.gradient(loss, list(variables.values()), unconnected_gradients="zero")
        return [tf.convert_to_tensor(slope) for slope in slopes]

    scores = {group.name: np.zeros((group.parts, group.width)) for group in groups}
    starts = range(0, len(samples.names), _GRADIENT_BATCH)
    with Progress("scoring channels", len(starts)) as progress:
        for start in starts:
            batch = slice(start, start + _GRADIENT_BATCH)
            values = gradients(samples.skeleton[batch], samples.audio[batch], samples.labels[batch])
            by_name = {name: np.asarray(value) for name, value in zip(variables, values, strict=True)}
            for group in groups:
                scores[group.name] += taylor(group, weights, by_name)
            progress.advance()
    return scores


def measure_damage(
    recogniser: Recogniser, groups: Sequence[Group], scores: Mapping[str, Scores], samples: CalibrationSet
) -> dict[str, Damage]:
    """Mean Kullback-Leibler divergence from the unpruned model, with each group alone at each of `SHARES` of its width.

    The weakest channels are silenced in place, so nothing is rebuilt; the model's weights are restored afterwards.
    Groups of one channel have nothing to give and are left out.
    """
    weights, variables = recogniser.weights(), recogniser.variables()

    def assign(values: Weights) -> None:
        for name, value in values.items():
            variables[name].assign(value)

    answer = _answers(recogniser, samples)
    unpruned = answer(None)
    damage: dict[str, Damage] = {}
    wide = [group for group in groups if group.width > 1]
    with Progress("scanning sensitivity", len(wide) * len(SHARES)) as progress:
        for group in wide:
            values = [0.0]
            for share in SHARES:
                kept = strongest(scores[group.name], max(1, round(share * group.width)))
                changed = silenced(group, weights, kept)
                assign(changed)
                values.append(float(divergence(unpruned, answer(group), 1.0)))
                assign({name: weights[name] for name in changed})
                progress.advance(note=group.name)
            # If fewer channels seem to do better, that is chance.
            rising = np.maximum.accumulate(values)
            damage[group.name] = dict(zip((1.0, *SHARES), rising.tolist(), strict=True))
    return damage


def _answers(recogniser: Recogniser, samples: CalibrationSet) -> Callable[[Group | None], Array]:
    """A function: the group that has changed, or None → logits of the fused model on the samples, float64 [N, classes].

    Only the group's stream is computed again.
    """
    skeleton, audio = recogniser.features.input
    visual_features, audio_features = recogniser.features.output
    streams = {
        "visual": (_in_batches(keras.Model(skeleton, visual_features)), samples.skeleton),
        "audio": (_in_batches(keras.Model(audio, audio_features)), samples.audio),
    }
    head = _in_batches(recogniser.head)
    unchanged = {name: model(tensor) for name, (model, tensor) in streams.items()}

    def answer(group: Group | None) -> Array:
        stream = group.name.split("/")[0] if group else ""
        features = unchanged | {name: model(tensor) for name, (model, tensor) in streams.items() if name == stream}
        return head(features["visual"], features["audio"]).astype(np.float64)

    return answer


def _in_batches(model: keras.Model) -> Callable[..., Array]:
    """The model in inference on arrays [N, …], a batch at a time."""
    run = tf.function(lambda *tensors: model(tensors, training=False), autograph=False, reduce_retracing=True)

    def all_of(*arrays: Array) -> Array:
        starts = range(0, len(arrays[0]), _ANSWER_BATCH)
        return np.concatenate([np.asarray(run(*(array[i : i + _ANSWER_BATCH] for array in arrays))) for i in starts])

    return all_of
