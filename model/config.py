"""Configuration of the recogniser. Every width is free, so a pruned network is an ordinary configuration.

A model is always rebuilt from its configuration, never unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from console.strict_json import decode
from preprocess.errors import DataError, require
from preprocess.spec import PreprocessSpec
from recordings.actions import action_code, action_name
from recordings.recording import Input, RecordingRef
from runtime.manifest import Label

CONFIG_VERSION = 1
RESNET_EPSILON = 1.001e-5  # of batch norm, as in keras.applications
CONVNEXT_EPSILON = 1e-3  # of batch norm
LAYER_NORM_EPSILON = 1e-6
Norm: TypeAlias = Literal["layer", "batch"]
StrideOn: TypeAlias = Literal["3x3", "1x1"]
NormForm: TypeAlias = Literal["convolutions", "layer"]
Stream: TypeAlias = Literal["fused", "visual", "audio"]
STREAMS: tuple[Stream, ...] = ("fused", "visual", "audio")
INPUTS_OF: dict[Stream, tuple[Input, ...]] = {
    "fused": ("skeleton", "audio"),
    "visual": ("skeleton",),
    "audio": ("audio",),
}


def _require_widths(name: str, widths: Iterable[int]) -> None:
    wrong = [width for width in widths if width < 1]
    require(not wrong, name, wrong, "use positive whole numbers")


def _require_stages(name: str, blocks: list[int]) -> None:
    require(len(blocks) == 4 and min(blocks) > 0, name, blocks, "give four stages of at least one block")


@dataclass(frozen=True)
class DeployForm:
    """What an exported graph contains and how the target wants it written.

    Attributes:
        depthwise: `split` writes the 7 × 7 depthwise as the sum of three with at most 25 taps, the most that XNNPACK
            has kernels for; `whole` leaves it.
        layer_norm: `convolutions` takes mean and variance by 1 × 1 convolutions to one channel and folds scale and
            offset into the next convolution, so that every operation has an integer kernel; `layer` keeps it as one
            layer, for runtimes that have it as one operation.
        stream: the complete recogniser, or one stream with its classifier.
    """

    depthwise: Literal["split", "whole"]
    layer_norm: NormForm
    stream: Stream = "fused"


@dataclass(frozen=True)
class ResNetStage:
    """One resolution of a ResNet.

    Attributes:
        residual: channels of the residual stream.
        inner: for every block the channels inside it: two numbers for a bottleneck, one for a basic block.
    """

    residual: int
    inner: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ResNetBlock:
    """A block of a ResNet, in the names of its weights.

    Attributes:
        name: `visual/stage2/block0`.
        level: index of its stage, from 0.
        index: of the block in its stage, from 0.
        inner: channels inside: two numbers for a bottleneck, one for a basic block.
        residual: channels of the output.
        stride: factor by which the resolution falls, 1 or 2.
        shortcut: whether a 1 × 1 convolution `{name}/shortcut` adapts the input, instead of the identity.
        convolutions: (name, kernel size, output channels, stride) in the order of computation.
    """

    name: str
    level: int
    index: int
    inner: tuple[int, ...]
    residual: int
    stride: int
    shortcut: bool
    convolutions: tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class ResNetConfig:
    """A ResNet of basic blocks (18, 34) or bottlenecks (50).

    Attributes:
        stem: channels after the first 7 × 7 convolution.
        stages: the four resolutions.
        stride_on: the convolution of a bottleneck that halves the resolution: `3x3` as in the published
            4.09 GMAC network (v1.5), `1x1` as in keras.applications (v1).
    """

    stem: int
    stages: tuple[ResNetStage, ...]
    stride_on: StrideOn = "3x3"

    def __post_init__(self) -> None:
        _require_stages("number of ResNet blocks by stage", [len(stage.inner) for stage in self.stages])
        kinds = {len(inner) for stage in self.stages for inner in stage.inner}
        require(kinds in ({1}, {2}), "ResNet inner widths", kinds, "give every block one or every block two widths")
        widths = [self.stem, *(s.residual for s in self.stages), *(w for s in self.stages for i in s.inner for w in i)]
        _require_widths("ResNet width", widths)

    @property
    def bottleneck(self) -> bool:
        return len(self.stages[0].inner[0]) == 2

    @property
    def name(self) -> str:
        """By the number of layers with weights, as published: `ResNet-50`."""
        return f"ResNet-{2 + sum(len(inner) + 1 for stage in self.stages for inner in stage.inner)}"

    def blocks(self) -> tuple[ResNetBlock, ...]:
        """All blocks in the order of computation; the stem before them is `visual/stem`."""
        blocks = []
        width = self.stem
        for level, stage in enumerate(self.stages):
            for index, inner in enumerate(stage.inner):
                name = f"visual/stage{level}/block{index}"
                stride = 2 if level > 0 and index == 0 else 1
                # A basic network's first stage keeps its identity shortcut when the widths agree, as published.
                shortcut = index == 0 and (self.bottleneck or stride != 1 or width != stage.residual)
                width = stage.residual
                kernels = (1, 3, 1) if self.bottleneck else (3, 3)
                strided = 1 if self.bottleneck and self.stride_on == "3x3" else 0
                convolutions = tuple(
                    (f"{name}/conv{step}", kernel, outputs, stride if step == strided else 1)
                    for step, (kernel, outputs) in enumerate(zip(kernels, (*inner, width), strict=True))
                )
                blocks.append(ResNetBlock(name, level, index, inner, width, stride, shortcut, convolutions))
        return tuple(blocks)


@dataclass(frozen=True)
class ConvNeXtStage:
    """One resolution of a ConvNeXt: the residual width and for every block the expanded width."""

    width: int
    expanded: tuple[int, ...]


@dataclass(frozen=True)
class ConvNeXtBlock:
    """A block of a ConvNeXt, in the names of its weights.

    Attributes:
        name: `audio/stage2/block0`.
        level: index of its stage, from 0.
        index: of the block in its stage, from 0.
        width: channels of the residual stream.
        expanded: channels between `{name}/expand` and `{name}/project`.
        entry: what lowers the resolution before the first block of a stage: `audio/stem` (convolution, norm) or
            `audio/stage1/downsample` (norm, convolution); empty before the other blocks.
    """

    name: str
    level: int
    index: int
    width: int
    expanded: int
    entry: str


@dataclass(frozen=True)
class ConvNeXtConfig:
    """A ConvNeXt.

    Attributes:
        stages: the four resolutions.
        norm: `layer` as published, or `batch`, which costs nothing once folded.
        layer_scale_init: initial value of LayerScale.
    """

    stages: tuple[ConvNeXtStage, ...]
    norm: Norm = "layer"
    layer_scale_init: float = 1e-6

    def __post_init__(self) -> None:
        _require_stages("number of ConvNeXt blocks by stage", [len(stage.expanded) for stage in self.stages])
        _require_widths("ConvNeXt width", (w for stage in self.stages for w in (stage.width, *stage.expanded)))

    @property
    def name(self) -> str:
        """By the number of blocks of every stage, as published: `ConvNeXt-T`."""
        depths = tuple(len(stage.expanded) for stage in self.stages)
        return "ConvNeXt-T" if depths == (3, 3, 9, 3) else f"ConvNeXt {'-'.join(map(str, depths))}"

    def blocks(self) -> tuple[ConvNeXtBlock, ...]:
        """All blocks in the order of computation."""
        blocks = []
        for level, stage in enumerate(self.stages):
            entry = f"audio/stage{level}/downsample" if level else "audio/stem"
            for index, expanded in enumerate(stage.expanded):
                name = f"audio/stage{level}/block{index}"
                blocks.append(ConvNeXtBlock(name, level, index, stage.width, expanded, "" if index else entry))
        return tuple(blocks)


@dataclass(frozen=True)
class FusionConfig:
    """Cross-attention in which audio asks and vision answers (paper, section 3.4).

    Attributes:
        audio_width: width to which audio tokens are projected; the residual stream.
        visual_width: width to which visual tokens are projected.
        heads: attention heads.
        key_dim: width of queries and keys per head.
        value_dim: width of values per head.
    """

    audio_width: int
    visual_width: int
    heads: int
    key_dim: int
    value_dim: int

    def __post_init__(self) -> None:
        widths = (self.audio_width, self.visual_width, self.heads, self.key_dim, self.value_dim)
        _require_widths("fusion width", widths)


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build the recogniser and to prepare its inputs."""

    preset: str
    visual: ResNetConfig
    audio: ConvNeXtConfig
    fusion: FusionConfig
    spec: PreprocessSpec
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        require(len(self.labels) >= 2, "number of classes", len(self.labels), "a classifier needs at least two")
        require(len(set(self.codes)) == self.classes, "class codes", self.codes, "every class must have its own code")

    @property
    def classes(self) -> int:
        return len(self.labels)

    @property
    def codes(self) -> list[str]:
        """Codes of the classes, in the order of the logits."""
        return [label.code for label in self.labels]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives an equal configuration back."""
        plain = json.loads(json.dumps(asdict(self)))
        return {"version": CONFIG_VERSION, **plain, "spec": self.spec.to_dict()}

    @classmethod
    def from_dict(cls, data: Any) -> ModelConfig:
        """Inverse of `to_dict`.

        Raises:
            DataError: the document is not a configuration that this release reads.
        """
        version = data.get("version") if isinstance(data, dict) else type(data).__name__
        if version != CONFIG_VERSION:
            raise DataError(f"configuration version is {version!r}; this release reads {CONFIG_VERSION}")
        spec = PreprocessSpec.from_dict(data.get("spec"))
        document = _without_version({**data, "spec": _without_version(spec.to_dict())})
        config: ModelConfig = decode(cls, document, "configuration")
        return config

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)


def _without_version(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "version"}


def labels_of(refs: Sequence[RecordingRef]) -> tuple[Label, ...]:
    """The classes that occur in `refs`, by code.

    Raises:
        DataError: there are fewer than two.
    """
    names = {action_code(ref.format, ref.action): action_name(ref.format, ref.action) for ref in refs}
    if len(names) < 2:
        raise DataError(f"the recordings hold {len(names)} class ({', '.join(names)}); training needs at least two")
    return tuple(Label(code, names[code]) for code in sorted(names))


def resnet(depth: int, *, width: float = 1.0, stride_on: StrideOn = "3x3") -> ResNetConfig:
    """ResNet-18, -34 or -50 with all widths multiplied by `width`.

    Raises:
        DataError: the depth is another.
    """
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
    if depth not in blocks:
        raise DataError(f"ResNet depth is {depth}; use 18, 34 or 50")
    stages = []
    for level, count in enumerate(blocks[depth]):
        inner = round(64 * 2**level * width)
        basic = ResNetStage(inner, ((inner,),) * count)
        stages.append(ResNetStage(4 * inner, ((inner, inner),) * count) if depth == 50 else basic)
    return ResNetConfig(stem=round(64 * width), stages=tuple(stages), stride_on=stride_on)


def convnext(
    widths: tuple[int, ...] = (96, 192, 384, 768),
    *,
    norm: Norm = "layer",
    layer_scale_init: float = 1e-6,
) -> ConvNeXtConfig:
    """ConvNeXt-Tiny's depths 3-3-9-3 with the given widths and fourfold expansion."""
    depths = zip(widths, (3, 3, 9, 3), strict=True)
    return ConvNeXtConfig(tuple(ConvNeXtStage(w, (4 * w,) * depth) for w, depth in depths), norm, layer_scale_init)


def preset_config(
    name: str, labels: tuple[Label, ...], *, visual_depth: int = 50, audio_norm: Norm = "layer"
) -> ModelConfig:
    """The named preset for the given classes. `nano` has about an eighth of the width of `paper`.

    Raises:
        DataError: no preset has that name.
    """
    spec, paper = PreprocessSpec.preset(name), name == "paper"
    return ModelConfig(
        preset=name,
        visual=resnet(visual_depth, width=1 if paper else 1 / 8),
        # Trained from scratch in few steps, LayerScale has no time to grow from 1e-6.
        audio=convnext(norm=audio_norm) if paper else convnext((16, 24, 48, 96), norm=audio_norm, layer_scale_init=0.1),
        fusion=FusionConfig(256, 256, 4, 64, 64) if paper else FusionConfig(64, 64, 4, 16, 16),
        spec=spec,
        labels=labels,
    )
