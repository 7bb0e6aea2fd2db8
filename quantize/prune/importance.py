"""How much every channel of a group matters: pure functions of weights, gradients and the group. Higher matters more.

Scores have the shape [parts, width]. All three are compared within a group; how much a group gives is decided by the
sensitivity scan (`quantize.prune.sensitivity`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from model.recogniser import Weights

from .groups import Axis, Group, Indices

Criterion = Literal["magnitude", "scale", "taylor"]
Scores: TypeAlias = npt.NDArray[np.float64]


def magnitude(group: Group, weights: Weights) -> Scores:
    """Norm of all kernel entries that produce or read the channel (Li et al. 2017, over the whole group).

    Each kernel counts relative to its own size, so that a wide one does not outweigh the others.
    """
    kernels = [own for own in group.axes if own.weight.endswith("kernel")]
    total = np.zeros((group.parts, group.width))
    for own in kernels:
        squares = _by_channel(group, own, np.square(weights[own.weight], dtype=np.float64))
        total += squares / max(float(squares.mean()), 1e-30)
    found: Scores = np.sqrt(total / len(kernels))
    return found


def scale(group: Group, weights: Weights) -> Scores:
    """Factors of batch norms, layer norms and LayerScale on the channel (Liu et al. 2017, Network slimming).

    Groups without any, such as the inside of a ConvNeXt block, are scored by `magnitude`.
    """
    factors = [own for own in group.axes if own.role == "gate" and own.weight.endswith("gamma")]
    if not factors:
        return magnitude(group, weights)
    by_layer = [_by_channel(group, own, np.abs(weights[own.weight], dtype=np.float64)) for own in factors]
    total: Scores = np.mean(by_layer, axis=0)
    return total


def taylor(group: Group, weights: Weights, gradients: Mapping[str, npt.NDArray[np.float32]]) -> Scores:
    """Squared change of the loss, to first order, when the channel's gates become zero (Molchanov et al. 2019, Eq. 8).

    Args:
        group: what is scored.
        weights: of the training form.
        gradients: of the loss on one batch by every gate. Scores of several batches are added.
    """
    change = np.zeros((group.parts, group.width))
    for own in group.axes:
        if own.role == "gate":
            change += _by_channel(group, own, np.float64(weights[own.weight]) * gradients[own.weight])
    return np.square(change)


WEIGHT_CRITERIA: dict[Criterion, Callable[[Group, Weights], Scores]] = {"magnitude": magnitude, "scale": scale}


def strongest(scores: Scores, count: int) -> Indices:
    """The `count` channels of every part with the highest scores, in rising order [parts, count]."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.sort(order, axis=1).astype(np.int64)


def _by_channel(group: Group, own: Axis, values: npt.NDArray[np.float64]) -> Scores:
    """Sums over everything but the channels: [parts, width]."""
    moved = np.moveaxis(values, own.axis, 0)
    summed: Scores = moved.reshape(group.parts, group.width, -1).sum(axis=2)
    return summed
