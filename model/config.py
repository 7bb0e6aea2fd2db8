"""Configuration of the recogniser. Every width is free, so a pruned network is an ordinary configuration.

A model is always rebuilt from its configuration, never unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from preprocess.errors import DataError
from preprocess.spec import PreprocessSpec
from runtime.manifest import Label

CONFIG_VERSION = 1
Stream = Literal["fused", "visual", "audio"]
STREAMS: tuple[Stream, ...] = ("fused", "visual", "audio")
INPUTS_OF: dict[Stream, tuple[str, ...]] = {
    "fused": ("skeleton", "audio"),
    "visual": ("skeleton",),
    "audio": ("audio",),
}


def _require(condition: bool, name: str, value: object, remedy: str) -> None:
    if not condition:
        raise DataError(f"{name} is {value!r}; {remedy}")


def _require_widths(name: str, widths: Iterable[object]) -> None:
    wrong = [width for width in widths if type(width) is not int or width < 1]
    _require(not wrong, name, wrong, "use positive whole numbers")


def _require_stages(name: str, blocks: list[int]) -> None:
    _require(len(blocks) == 4 and min(blocks) > 0, name, blocks, "give four stages of at least one block")


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
    stride_on: Literal["3x3", "1x1"] = "3x3"

    def __post_init__(self) -> None:
        _require_stages("number of ResNet blocks by stage", [len(stage.inner) for stage in self.stages])
        kinds = {len(inner) for stage in self.stages for inner in stage.inner}
        _require(kinds in ({1}, {2}), "ResNet inner widths", kinds, "give every block one or every block two widths")
        widths = [self.stem, *(s.residual for s in self.stages), *(w for s in self.stages for i in s.inner for w in i)]
        _require_widths("ResNet width", widths)
        _require(self.stride_on in ("3x3", "1x1"), "stride_on", self.stride_on, "use 3x3 or 1x1")

    @property
    def bottleneck(self) -> bool:
        return len(self.stages[0].inner[0]) == 2

    @property
    def name(self) -> str:
        """By the number of layers with weights, as published: `ResNet-50`."""
        return f"ResNet-{2 + sum(len(inner) + 1 for stage in self.stages for inner in stage.inner)}"


@dataclass(frozen=True)
class ConvNeXtStage:
    """One resolution of a ConvNeXt: the residual width and for every block the expanded width."""

    width: int
    expanded: tuple[int, ...]


@dataclass(frozen=True)
class ConvNeXtConfig:
    """A ConvNeXt.

    Attributes:
        stages: the four resolutions.
        norm: `layer` as published, or `batch`, which costs nothing once folded.
        layer_scale_init: initial value of LayerScale.
    """

    stages: tuple[ConvNeXtStage, ...]
    norm: Literal["layer", "batch"] = "layer"
    layer_scale_init: float = 1e-6

    def __post_init__(self) -> None:
        _require_stages("number of ConvNeXt blocks by stage", [len(stage.expanded) for stage in self.stages])
        _require_widths("ConvNeXt width", (w for stage in self.stages for w in (stage.width, *stage.expanded)))
        _require(self.norm in ("layer", "batch"), "norm", self.norm, "use layer or batch")
        _require(math.isfinite(self.layer_scale_init), "layer_scale_init", self.layer_scale_init, "use a finite number")

    @property
    def name(self) -> str:
        """By the number of blocks of every stage, as published: `ConvNeXt-T`."""
        depths = tuple(len(stage.expanded) for stage in self.stages)
        return "ConvNeXt-T" if depths == (3, 3, 9, 3) else f"ConvNeXt {'-'.join(map(str, depths))}"


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
        _require(len(self.labels) >= 2, "number of classes", len(self.labels), "a classifier needs at least two")
        _require(len(set(self.codes)) == self.classes, "class codes", self.codes, "every class must have its own code")

    @property
    def classes(self) -> int:
        return len(self.labels)

    @property
    def codes(self) -> list[str]:
        """Codes of the classes, in the order of the logits."""
        return [label.code for label in self.labels]

    def with_spec(self, spec: PreprocessSpec) -> ModelConfig:
        return replace(self, spec=spec)

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
        if not isinstance(data, dict) or data.get("version") != CONFIG_VERSION:
            found = data.get("version") if isinstance(data, dict) else type(data).__name__
            raise DataError(f"configuration version is {found!r}; this release reads {CONFIG_VERSION}")
        try:
            visual, audio = dict(data["visual"]), dict(data["audio"])
            visual["stages"] = tuple(
                ResNetStage(**{**s, "inner": tuple(tuple(b) for b in s["inner"])}) for s in visual["stages"]
            )
            audio["stages"] = tuple(ConvNeXtStage(**{**s, "expanded": tuple(s["expanded"])}) for s in audio["stages"])
            parts = {
                "visual": ResNetConfig(**visual),
                "audio": ConvNeXtConfig(**audio),
                "fusion": FusionConfig(**data["fusion"]),
                "spec": PreprocessSpec.from_dict(data["spec"]),
                "labels": tuple(Label(**label) for label in data["labels"]),
            }
            return cls(**{name: value for name, value in data.items() if name != "version"} | parts)
        except DataError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"configuration has a missing, unknown or mistyped field: {error}") from error

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)


def resnet(depth: int, *, width: float = 1.0, stride_on: Literal["3x3", "1x1"] = "3x3") -> ResNetConfig:
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
        if depth == 50:
            stages.append(ResNetStage(4 * inner, ((inner, inner),) * count))
        else:
            stages.append(ResNetStage(inner, ((inner,),) * count))
    return ResNetConfig(stem=round(64 * width), stages=tuple(stages), stride_on=stride_on)


def convnext(
    widths: tuple[int, ...] = (96, 192, 384, 768),
    *,
    norm: Literal["layer", "batch"] = "layer",
    layer_scale_init: float = 1e-6,
) -> ConvNeXtConfig:
    """ConvNeXt-Tiny's depths 3-3-9-3 with the given widths and fourfold expansion."""
    stages = tuple(
        ConvNeXtStage(width, (4 * width,) * depth) for width, depth in zip(widths, (3, 3, 9, 3), strict=True)
    )
    return ConvNeXtConfig(stages=stages, norm=norm, layer_scale_init=layer_scale_init)


PRESETS = ("nano", "paper")


def preset_config(
    name: str, labels: tuple[Label, ...], *, visual_depth: int = 50, audio_norm: Literal["layer", "batch"] = "layer"
) -> ModelConfig:
    """The named preset for the given classes. `nano` has about an eighth of the width of `paper`.

    Raises:
        DataError: no preset has that name.
    """
    spec = PreprocessSpec.preset(name)
    if name == "paper":
        return ModelConfig(
            preset=name,
            visual=resnet(visual_depth),
            audio=convnext(norm=audio_norm),
            fusion=FusionConfig(audio_width=256, visual_width=256, heads=4, key_dim=64, value_dim=64),
            spec=spec,
            labels=labels,
        )
    return ModelConfig(
        preset=name,
        visual=resnet(visual_depth, width=1 / 8),
        # Trained from scratch in few steps, LayerScale has no time to grow from 1e-6.
        audio=convnext((16, 24, 48, 96), norm=audio_norm, layer_scale_init=0.1),
        fusion=FusionConfig(audio_width=64, visual_width=64, heads=4, key_dim=16, value_dim=16),
        spec=spec,
        labels=labels,
    )
