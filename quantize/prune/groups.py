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

from model.config import ModelConfig
from model.recogniser import Weights

Role = Literal["gate", "cut", "read"]
Indices = npt.NDArray[np.int64]
Kept = Mapping[str, Indices]


@dataclass(frozen=True)
class Axis:
    """One axis of one weight that has an entry, or `unit` consecutive ones, for every channel of a group.

    Attributes:
        weight, axis: which.
        role: `gate`: zeros there make the channel zero; `cut`: it belongs to the channel's producer as well; `read`: a
            consumer, which sees the channel.
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
        paths: where the configuration, as a dictionary, has the width.
        axes: where the weights have the channels.
        parts: so many independent sets of `width` channels lie behind one another on each axis, and every one keeps
            the same number: the dimensions of every head.
        exact: removing a channel equals making it zero; not so where a layer norm takes its mean over the channels.
    """

    name: str
    width: int
    paths: tuple[tuple[Any, ...], ...]
    axes: tuple[Axis, ...]
    parts: int = 1
    exact: bool = True

    def entries(self, channels: Indices, unit: int) -> Indices:
        """Positions on an axis [parts · width · unit] of the channels [parts, n]."""
        at = (np.arange(self.parts)[:, None] * self.width + channels)[..., None] * unit + np.arange(unit)
        flat: Indices = at.ravel()
        return flat


def channel_groups(config: ModelConfig) -> tuple[Group, ...]:
    """Every group of the recogniser, in the order of computation."""
    return (*_resnet(config), *_convnext(config), *_fusion(config))


def cut_channels(config: ModelConfig, weights: Weights, kept: Kept) -> tuple[ModelConfig, Weights]:
    """Configuration and weights without the channels that are not kept.

    Args:
        config, weights: of a checkpoint.
        kept: for the groups to shrink, the channels that stay [parts, n], rising.
    """
    out = dict(weights)
    for name in [group.name for group in channel_groups(config) if group.name in kept]:
        # Anew for every cut: how many entries a head has depends on the cut before.
        group = next(own for own in channel_groups(config) if own.name == name)
        channels = kept[name]
        assert channels.shape[0] == group.parts, (name, channels.shape)
        for own in group.axes:
            out[own.weight] = out[own.weight].take(group.entries(channels, own.unit), own.axis)
        narrow = narrowed(config, {name: channels.shape[1]})
        # The scale of the scores follows the number of dimensions; the scores must not.
        ratio = (narrow.fusion.key_dim / config.fusion.key_dim) ** 0.5
        for weight in ("fusion/query/kernel", "fusion/query/bias"):
            out[weight] = (out[weight] * ratio).astype(np.float32)
        config = narrow
    return config, {name: np.ascontiguousarray(value) for name, value in out.items()}


def zero_channels(config: ModelConfig, weights: Weights, kept: Kept) -> Weights:
    """The weights with those channels silenced that are not kept; shapes stay."""
    out = dict(weights)
    for group in channel_groups(config):
        if group.name in kept:
            out |= silenced(group, out, kept[group.name])
    return out


def silenced(group: Group, weights: Weights, channels: Indices) -> Weights:
    """The gates of a group, zero in all but `channels` [parts, n]."""
    out: Weights = {}
    for own in group.axes:
        if own.role == "gate":
            value = out.get(own.weight, weights[own.weight])
            mask = np.zeros(value.shape[own.axis], np.float32)
            mask[group.entries(channels, own.unit)] = 1
            out[own.weight] = value * mask.reshape([-1 if axis == own.axis else 1 for axis in range(value.ndim)])
    return out


def narrowed(config: ModelConfig, widths: Mapping[str, int]) -> ModelConfig:
    """The configuration with other widths for the groups named."""
    document = config.to_dict()
    for group in channel_groups(config):
        if group.name in widths:
            set_width(document, group, widths[group.name])
    return ModelConfig.from_dict(document)


def set_width(document: dict[str, Any], group: Group, width: int) -> None:
    """Writes a group's width into a configuration that is a dictionary."""
    for path in group.paths:
        own: Any = document
        for step in path[:-1]:
            own = own[step]
        own[path[-1]] = width


def _conv_bn(name: str) -> list[Axis]:
    """What a convolution with batch norm has of its output channels."""
    statistics = [Axis(f"{name}/bn/{own}", 0, "cut") for own in ("moving_mean", "moving_variance")]
    return [
        Axis(f"{name}/kernel", 3, "cut"),
        *(Axis(f"{name}/bn/{own}", 0, "gate") for own in ("gamma", "beta")),
        *statistics,
    ]


def _layer(name: str, axis: int = 3, role: Role = "gate", unit: int = 1) -> list[Axis]:
    """What a layer with a bias has of its output channels."""
    return [Axis(f"{name}/kernel", axis, role, unit), Axis(f"{name}/bias", 0, role, unit)]


def _read(name: str, axis: int = 2, unit: int = 1) -> Axis:
    return Axis(f"{name}/kernel", axis, "read", unit)


def _resnet(config: ModelConfig) -> Iterator[Group]:
    resnet = config.visual
    stem, tied = _conv_bn("visual/stem"), False
    first = resnet.stages[0]
    readers = [_read("visual/stage0/block0/conv0")]
    if resnet.bottleneck:
        readers.append(_read("visual/stage0/block0/shortcut"))
    else:
        # The first block adds the stem itself. Where their widths differ it has a shortcut, which would disappear once
        # they agreed: such a network keeps both.
        tied = resnet.stem == first.residual
    if resnet.bottleneck:
        yield Group("visual/stem", resnet.stem, (("visual", "stem"),), (*stem, *readers))
    for level, stage in enumerate(resnet.stages):
        residual: list[Axis] = [*stem, *readers] if level == 0 and tied else []
        for index, inner in enumerate(stage.inner):
            name = f"visual/stage{level}/block{index}"
            if index:
                residual.append(_read(f"{name}/conv0"))
            elif resnet.bottleneck or level:
                residual += _conv_bn(f"{name}/shortcut")
            residual += _conv_bn(f"{name}/conv{len(inner)}")
            for step, width in enumerate(inner):
                path = ("visual", "stages", level, "inner", index, step)
                axes = (*_conv_bn(f"{name}/conv{step}"), _read(f"{name}/conv{step + 1}"))
                yield Group(f"{name}/inner{step}", width, (path,), axes)
        if level == 3:
            residual += [_read("fusion/visual"), _read("visual/classifier", 0)]
        else:
            residual += [_read(f"visual/stage{level + 1}/block0/{own}") for own in ("conv0", "shortcut")]
        paths: list[tuple[Any, ...]] = [("visual", "stages", level, "residual")]
        if level == 0 and not resnet.bottleneck:
            if not tied:
                continue
            paths.append(("visual", "stem"))
        yield Group(f"visual/stage{level}/residual", stage.residual, tuple(paths), tuple(residual))


def _convnext(config: ModelConfig) -> Iterator[Group]:
    batch = config.audio.norm == "batch"

    def norm(name: str) -> list[Axis]:
        moving = [Axis(f"{name}/{own}", 0, "cut") for own in ("moving_mean", "moving_variance")] if batch else []
        return [*(Axis(f"{name}/{own}", 0, "gate") for own in ("gamma", "beta")), *moving]

    for level, stage in enumerate(config.audio.stages):
        if level:
            axes = _layer(f"audio/stage{level}/downsample/conv")
        else:
            axes = [*_layer("audio/stem/conv", role="cut"), *norm("audio/stem/norm")]
        for index, expanded in enumerate(stage.expanded):
            name = f"audio/stage{level}/block{index}"
            yield Group(
                f"{name}/expanded",
                expanded,
                (("audio", "stages", level, "expanded", index),),
                (*_layer(f"{name}/expand"), _read(f"{name}/project")),
            )
            axes += [
                Axis(f"{name}/depthwise/depthwise_kernel", 2, "cut"),
                Axis(f"{name}/depthwise/bias", 0, "cut"),
                *norm(f"{name}/norm"),
                _read(f"{name}/expand"),
                *_layer(f"{name}/project", role="cut"),
                Axis(f"{name}/scale/gamma", 0, "gate"),
            ]
        if level == 3:
            axes += [_read("fusion/audio"), *norm("audio/norm"), _read("audio/classifier", 0)]
        else:
            behind = f"audio/stage{level + 1}/downsample"
            axes += [*norm(f"{behind}/norm"), _read(f"{behind}/conv")]
        yield Group(
            f"audio/stage{level}/width",
            stage.width,
            (("audio", "stages", level, "width"),),
            tuple(axes),
            exact=batch,
        )


def _fusion(config: ModelConfig) -> Iterator[Group]:
    f = config.fusion

    def group(name: str, axes: list[Axis], *, parts: int = 1, exact: bool = True) -> Group:
        return Group(f"fusion/{name}", getattr(f, name), (("fusion", name),), tuple(axes), parts, exact)

    norm = [Axis(f"fusion/norm/{own}", 0, "gate") for own in ("gamma", "beta")]
    audio = [*_layer("fusion/audio"), _read("fusion/query"), *_layer("fusion/output", 1), *norm]
    yield group("audio_width", [*audio, _read("fusion/classifier", 0)], exact=False)
    yield group("visual_width", [*_layer("fusion/visual"), _read("fusion/key"), _read("fusion/value")])
    # One after the other: a head takes its dimensions along.
    yield group("key_dim", [*_layer("fusion/query"), *_layer("fusion/key")], parts=f.heads)
    yield group("value_dim", [*_layer("fusion/value"), _read("fusion/output", 0)], parts=f.heads)
    keys = [own for name in ("query", "key") for own in _layer(f"fusion/{name}", unit=f.key_dim)]
    values = [*_layer("fusion/value", unit=f.value_dim), _read("fusion/output", 0, f.value_dim)]
    yield group("heads", [*keys, *values])
