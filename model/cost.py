"""Parameters and multiply-accumulates of the recogniser, counted from its configuration without building it.

One MAC is one multiplication with its addition; what papers on ResNet and ConvNeXt call FLOPs are MACs. Convolutions,
dense layers and the attention's two products count; norms, activations and additions do not.
Parameters are the trained ones: kernels, biases, norm scales and offsets, LayerScale; no moving statistics. Deployed
parameters are those left in the model file, after `model.folding` has put norms and LayerScale into convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from .config import ConvNeXtConfig, ModelConfig, NormForm, ResNetConfig, Stream

Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer at batch size one.

    Attributes:
        name: as its weights are named.
        parameters: trained ones.
        macs: multiply-accumulates.
        deployed: parameters of the layer in the deploy form; folded ones count in the layer that absorbed them.
    """

    name: str
    parameters: int
    macs: int
    deployed: int


@dataclass(frozen=True)
class Cost:
    """Cost of a part of the network."""

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def deployed_parameters(self) -> int:
        return sum(layer.deployed for layer in self.layers)

    def part(self, name: str) -> Cost:
        """Cost of `visual`, `audio` or `fusion`."""
        return Cost(tuple(layer for layer in self.layers if layer.name.startswith(f"{name}/")))


def model_cost(config: ModelConfig, *, layer_norm: NormForm = "convolutions") -> Cost:
    """Cost of the fused model, whose streams have no classifiers.

    `layer_norm` is the deploy form's, on which deployed parameters depend: `convolutions` folds scale and offset of
    every layer norm but the stem's into the next convolution, `layer` leaves them. The convolutions with constant
    kernels that take mean and variance count like the norm that they are: not at all.
    """
    skeleton, audio = config.spec.skeleton, config.spec.audio
    visual_layers = _resnet_layers(config.visual, (skeleton.size, skeleton.size), skeleton.channels, 0)
    audio_layers = _convnext_layers(config.audio, (audio.n_mels, audio.frames), 3, 0, layer_norm)
    return Cost((*visual_layers, *audio_layers, *_fusion_layers(config, layer_norm)))


def cost_by_part(config: ModelConfig, stream: Stream, *, layer_norm: NormForm) -> dict[str, Cost]:
    """Cost of the parts of an exported model, and of all of it by the name of the stream.

    `layer_norm`: see `model_cost`.
    """
    if stream == "fused":
        cost = model_cost(config, layer_norm=layer_norm)
        return {**{name: cost.part(name) for name in ("visual", "audio", "fusion")}, "fused": cost}
    if stream == "visual":
        rows, columns, channels = config.spec.skeleton.shape
        return {stream: resnet_cost(config.visual, (rows, columns), channels, classes=config.classes)}
    rows, columns, channels = config.spec.audio.shape
    cost = convnext_cost(config.audio, (rows, columns), channels, classes=config.classes, layer_norm=layer_norm)
    return {stream: cost}


def resnet_cost(config: ResNetConfig, size: Size, channels: int, *, classes: int = 0) -> Cost:
    """Cost of a ResNet over an input of `size` (rows, columns), with a classifier of `classes` unless they are 0."""
    return Cost(tuple(_resnet_layers(config, size, channels, classes)))


def convnext_cost(
    config: ConvNeXtConfig, size: Size, channels: int, *, classes: int = 0, layer_norm: NormForm = "convolutions"
) -> Cost:
    """Cost of a ConvNeXt over an input of `size`, with norm and classifier unless `classes` is 0.

    `layer_norm`: see `model_cost`.
    """
    return Cost(tuple(_convnext_layers(config, size, channels, classes, layer_norm)))


def _resnet_layers(config: ResNetConfig, size: Size, channels: int, classes: int) -> Iterator[LayerCost]:
    def conv_bn(name: str, kernel: int, into: int, out: int, at: Size) -> LayerCost:
        weights = kernel * kernel * into * out
        return LayerCost(name, weights + 2 * out, weights * at[0] * at[1], weights + out)

    size = _shrink(size, 2)
    yield conv_bn("visual/stem", 7, channels, config.stem, size)
    size, width = _shrink(size, 2), config.stem
    for block in config.blocks():
        if block.shortcut:
            yield conv_bn(f"{block.name}/shortcut", 1, width, block.residual, _shrink(size, block.stride))
        for name, kernel, out, stride in block.convolutions:
            size = _shrink(size, stride)
            yield conv_bn(name, kernel, width, out, size)
            width = out
    if classes:
        yield _conv("visual/classifier", 1, width, classes, (1, 1))


def _convnext_layers(
    config: ConvNeXtConfig, size: Size, channels: int, classes: int, layer_norm: NormForm
) -> Iterator[LayerCost]:
    def norm(name: str, width: int, *, folded: bool = True) -> LayerCost:
        return _norm(name, width, folded=config.norm == "batch" or (folded and layer_norm == "convolutions"))

    width = channels
    for block in config.blocks():
        name, stem = block.name, block.level == 0
        if block.entry:
            kernel = 4 if stem else 2
            size = (size[0] // kernel, size[1] // kernel)
            # No convolution follows the stem's norm alone.
            yield norm(f"{block.entry}/norm", block.width if stem else width, folded=not stem)
            yield _conv(f"{block.entry}/conv", kernel, width, block.width, size)
        width = block.width
        weights = 49 * width + width
        yield LayerCost(f"{name}/depthwise", weights, 49 * width * size[0] * size[1], weights)
        yield norm(f"{name}/norm", width)
        yield _conv(f"{name}/expand", 1, width, block.expanded, size)
        yield _conv(f"{name}/project", 1, block.expanded, width, size)
        yield LayerCost(f"{name}/scale", width, 0, 0)
    if classes:
        yield norm("audio/norm", width)
        yield _conv("audio/classifier", 1, width, classes, (1, 1))


def _fusion_layers(config: ModelConfig, layer_norm: NormForm) -> Iterator[LayerCost]:
    f = config.fusion
    skeleton, audio = config.spec.skeleton, config.spec.audio
    visual_map: Size = (-(-skeleton.size // 32), -(-skeleton.size // 32))
    audio_map: Size = (audio.n_mels // 32, audio.frames // 32)
    queries, keys = audio_map[0] * audio_map[1], visual_map[0] * visual_map[1]
    yield _conv("fusion/audio", 1, config.audio.stages[-1].width, f.audio_width, audio_map)
    yield _conv("fusion/visual", 1, config.visual.stages[-1].residual, f.visual_width, visual_map)
    yield _conv("fusion/query", 1, f.audio_width, f.heads * f.key_dim, audio_map)
    yield _conv("fusion/key", 1, f.visual_width, f.heads * f.key_dim, visual_map)
    yield _conv("fusion/value", 1, f.visual_width, f.heads * f.value_dim, visual_map)
    yield LayerCost("fusion/attention", 0, queries * keys * f.heads * (f.key_dim + f.value_dim), 0)
    yield _conv("fusion/output", 1, f.heads * f.value_dim, f.audio_width, audio_map)
    yield _norm("fusion/norm", f.audio_width, folded=layer_norm == "convolutions")
    yield _conv("fusion/classifier", 1, f.audio_width, config.classes, (1, 1))


def _conv(name: str, kernel: int, into: int, out: int, size: Size) -> LayerCost:
    weights = kernel * kernel * into * out
    return LayerCost(name, weights + out, weights * size[0] * size[1], weights + out)


def _norm(name: str, width: int, *, folded: bool) -> LayerCost:
    return LayerCost(name, 2 * width, 0, 0 if folded else 2 * width)


def _shrink(size: Size, stride: int) -> Size:
    return (-(-size[0] // stride), -(-size[1] // stride))
