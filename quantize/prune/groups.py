"""Channel groups: which axes of which weights shrink together, and the cut itself.

A group is a set of channels that exist in several layers at once: a residual stream, the inside of a block, a head of
the attention. Channel i can only be removed from all of them together. Weights are those of the training form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from model.config import ModelConfig, ResNetBlock
from model.recogniser import Weights

Role = Literal["gate", "cut", "read"]
Indices = npt.NDArray[np.int64]
Kept = Mapping[str, Indices]


@dataclass(frozen=True)
class Axis:
    """One axis of one weight that has an entry, or `unit` consecutive ones, for every channel of a group.

    Attributes:
        weight: its name.
        axis: its number.
        role: `gate`: zeros there make the channel zero; `cut`: another entry of the channel's producer; `read`: of a
            consumer.
        unit: entries per channel, more than one for heads of an attention.
    """

    weight: str
    axis: int
    role: Role
    unit: int = 1


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together.

    Attributes:
        name: `visual/stage2/residual`, `audio/stage0/block1/expanded`, …
        width: channels.
        paths: places of the width in the configuration, as a dictionary.
        axes: places of the channels in the weights.
        parts: number of independent sets of `width` channels that follow one another on each axis, all narrowed to the
            same width: the dimensions of every head.
    """

    name: str
    width: int
    paths: tuple[tuple[Any, ...], ...]
    axes: tuple[Axis, ...]
    parts: int = 1

    def entries(self, channels: Indices, unit: int) -> Indices:
        """Positions on an axis [parts · width · unit] of the channels [parts, n]."""
        at = (np.arange(self.parts)[:, None] * self.width + channels)[..., None] * unit + np.arange(unit)
        flat: Indices = at.ravel()
        return flat


def channel_groups(config: ModelConfig) -> tuple[Group, ...]:
    """Every group of the recogniser, in the order of computation."""
    return (*_resnet(config), *_convnext(config), *_fusion(config))


def cut_channels(config: ModelConfig, weights: Weights, kept: Kept) -> tuple[ModelConfig, Weights]:
    """Remove the channels that are not kept from configuration and weights.

    Args:
        config, weights: of a checkpoint.
        kept: for the groups to shrink, the channels that stay [parts, n], rising.
    """
    out = dict(weights)
    for name in [group.name for group in channel_groups(config) if group.name in kept]:
        # Again for every cut: the number of entries of a head depends on the cut before.
        group = next(group for group in channel_groups(config) if group.name == name)
        channels = kept[name]
        assert channels.shape[0] == group.parts, (name, channels.shape)
        for axis in group.axes:
            out[axis.weight] = out[axis.weight].take(group.entries(channels, axis.unit), axis.axis)
        narrow = narrowed(config, {name: channels.shape[1]})
        # The scale of the scores follows the number of dimensions; the scores must not.
        ratio = (narrow.fusion.key_dim / config.fusion.key_dim) ** 0.5
        for weight in ("fusion/query/kernel", "fusion/query/bias"):
            out[weight] = (out[weight] * ratio).astype(np.float32)
        config = narrow
    return config, {name: np.ascontiguousarray(value) for name, value in out.items()}


def silenced(group: Group, weights: Weights, channels: Indices) -> Weights:
    """The gates of a group, zero in all but `channels` [parts, n]."""
    out: Weights = {}
    for gate in group.axes:
        if gate.role == "gate":
            value = out.get(gate.weight, weights[gate.weight])
            mask = np.zeros(value.shape[gate.axis], np.float32)
            mask[group.entries(channels, gate.unit)] = 1
            out[gate.weight] = value * mask.reshape([-1 if axis == gate.axis else 1 for axis in range(value.ndim)])
    return out


def narrowed(config: ModelConfig, widths: Mapping[str, int]) -> ModelConfig:
    """The configuration with new widths for some groups, by name."""
    document = config.to_dict()
    for group in channel_groups(config):
        if group.name in widths:
            set_width(document, group, widths[group.name])
    return ModelConfig.from_dict(document)


def set_width(document: dict[str, Any], group: Group, width: int) -> None:
    """Write a group's width into a configuration that is a dictionary."""
    for path in group.paths:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = width


def _conv_bn(name: str) -> list[Axis]:
    """The output channels of a convolution with batch norm."""
    return [Axis(f"{name}/kernel", 3, "cut"), *_norm(f"{name}/bn", batch=True)]


def _norm(name: str, *, batch: bool) -> list[Axis]:
    """The channels of a batch norm or a layer norm."""
    statistics = ("moving_mean", "moving_variance") if batch else ()
    return [
        *(Axis(f"{name}/{kind}", 0, "gate") for kind in ("gamma", "beta")),
        *(Axis(f"{name}/{kind}", 0, "cut") for kind in statistics),
    ]


def _layer(name: str, axis: int = 3, role: Role = "gate", unit: int = 1) -> list[Axis]:
    """The output channels of a layer with a bias."""
    return [Axis(f"{name}/kernel", axis, role, unit), Axis(f"{name}/bias", 0, role, unit)]


def _read(name: str, axis: int = 2, unit: int = 1) -> Axis:
    return Axis(f"{name}/kernel", axis, "read", unit)


def _resnet(config: ModelConfig) -> Iterator[Group]:
    resnet, blocks = config.visual, config.visual.blocks()
    stem = [*_conv_bn("visual/stem"), *_readers(blocks[0])]
    # A first block without shortcut adds the stem itself. Where their widths differ in a basic network it has a
    # shortcut, which would disappear once they agreed: such a network keeps both.
    tied = not blocks[0].shortcut
    if resnet.bottleneck:
        yield Group("visual/stem", resnet.stem, (("visual", "stem"),), tuple(stem))
    residual: list[Axis] = stem if tied else []
    for block, following in zip(blocks, (*blocks[1:], None), strict=True):
        convolutions = [name for name, *_ in block.convolutions]
        if block.shortcut:
            residual += _conv_bn(f"{block.name}/shortcut")
        residual += _conv_bn(convolutions[-1])
        for step, width in enumerate(block.inner):
            path = ("visual", "stages", block.level, "inner", block.index, step)
            axes = (*_conv_bn(convolutions[step]), _read(convolutions[step + 1]))
            yield Group(f"{block.name}/inner{step}", width, (path,), axes)
        residual += _readers(following) if following else [_read("fusion/visual"), _read("visual/classifier", 0)]
        if following and following.level == block.level:
            continue
        paths: list[tuple[Any, ...]] = [("visual", "stages", block.level, "residual")]
        if block.level == 0 and tied:
            paths.append(("visual", "stem"))
        if block.level or resnet.bottleneck or tied:
            yield Group(f"visual/stage{block.level}/residual", block.residual, tuple(paths), tuple(residual))
        residual = []


def _readers(block: ResNetBlock) -> list[Axis]:
    """The input channels of a block."""
    first = block.convolutions[0][0]
    return [_read(name) for name in ([first, f"{block.name}/shortcut"] if block.shortcut else [first])]


def _convnext(config: ModelConfig) -> Iterator[Group]:
    batch, blocks = config.audio.norm == "batch", config.audio.blocks()
    axes: list[Axis] = []
    for block, following in zip(blocks, (*blocks[1:], None), strict=True):
        name = block.name
        if block.entry:
            stem = block.level == 0
            axes = _layer(f"{block.entry}/conv", role="cut" if stem else "gate")
            axes += _norm(f"{block.entry}/norm", batch=batch) if stem else []
        yield Group(
            f"{name}/expanded",
            block.expanded,
            (("audio", "stages", block.level, "expanded", block.index),),
            (*_layer(f"{name}/expand"), _read(f"{name}/project")),
        )
        axes += [
            Axis(f"{name}/depthwise/depthwise_kernel", 2, "cut"),
            Axis(f"{name}/depthwise/bias", 0, "cut"),
            *_norm(f"{name}/norm", batch=batch),
            _read(f"{name}/expand"),
            *_layer(f"{name}/project", role="cut"),
            Axis(f"{name}/scale/gamma", 0, "gate"),
        ]
        if following is None:
            axes += [_read("fusion/audio"), *_norm("audio/norm", batch=batch), _read("audio/classifier", 0)]
        elif following.entry:
            axes += [*_norm(f"{following.entry}/norm", batch=batch), _read(f"{following.entry}/conv")]
        else:
            continue
        path = ("audio", "stages", block.level, "width")
        yield Group(f"audio/stage{block.level}/width", block.width, (path,), tuple(axes))


def _fusion(config: ModelConfig) -> Iterator[Group]:
    f = config.fusion

    def group(name: str, axes: list[Axis], *, parts: int = 1) -> Group:
        return Group(f"fusion/{name}", getattr(f, name), (("fusion", name),), tuple(axes), parts)

    norm = _norm("fusion/norm", batch=False)
    audio = [*_layer("fusion/audio"), _read("fusion/query"), *_layer("fusion/output", 1), *norm]
    yield group("audio_width", [*audio, _read("fusion/classifier", 0)])
    yield group("visual_width", [*_layer("fusion/visual"), _read("fusion/key"), _read("fusion/value")])
    # Dimensions before heads: removing a head removes its dimensions.
    yield group("key_dim", [*_layer("fusion/query"), *_layer("fusion/key")], parts=f.heads)
    yield group("value_dim", [*_layer("fusion/value"), _read("fusion/output", 0)], parts=f.heads)
    keys = [axis for name in ("query", "key") for axis in _layer(f"fusion/{name}", unit=f.key_dim)]
    values = [*_layer("fusion/value", unit=f.value_dim), _read("fusion/output", 0, f.value_dim)]
    yield group("heads", [*keys, *values])
