"""What each target gets: one row for every place where runtimes disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from preprocess.errors import UsageError

if TYPE_CHECKING:
    from model.deploy import DeployForm


@dataclass(frozen=True)
class Target:
    """A kind of device.

    Attributes:
        formats: file formats that make sense on it.
        depthwise, layer_norm: how the deploy form is written, see `model.deploy.DeployForm`.
        activations: eight-bit type of ONNX activations; TFLite has int8 alone.
        seven_bit_weights: ONNX weights use 7 of their 8 bits.
        note: why.
    """

    formats: tuple[str, ...]
    depthwise: Literal["split", "whole"]
    layer_norm: Literal["convolutions", "layer"]
    activations: Literal["int8", "uint8"]
    seven_bit_weights: bool
    note: str

    @property
    def form(self) -> DeployForm:
        from model.deploy import DeployForm

        return DeployForm(self.depthwise, self.layer_norm)


PLAIN = "plain"
TARGETS = {
    "xnnpack": Target(
        formats=("tflite",),
        depthwise="split",
        layer_norm="convolutions",
        activations="int8",
        seven_bit_weights=False,
        note="CPUs of phones and boards: depthwise kernels of at most 25 taps, no layer norm",
    ),
    "x86": Target(
        formats=("onnx",),
        depthwise="whole",
        layer_norm="layer",
        activations="uint8",
        seven_bit_weights=True,
        note="ONNX Runtime on PCs: u8 × s8 kernels, which overflow 16 bits without VNNI when weights use all 8",
    ),
    "arm": Target(
        formats=("onnx",),
        depthwise="whole",
        layer_norm="layer",
        activations="int8",
        seven_bit_weights=False,
        note="ONNX Runtime on ARM: s8 × s8 dot products",
    ),
    "qnn": Target(
        formats=("onnx",),
        depthwise="whole",
        layer_norm="layer",
        activations="uint8",
        seven_bit_weights=False,
        note="Snapdragon's NPU: layer norm, GELU and 7 × 7 depthwise are single operations there",
    ),
    PLAIN: Target(
        formats=("tflite", "onnx"),
        depthwise="whole",
        layer_norm="layer",
        activations="int8",
        seven_bit_weights=False,
        note="no device: the training graph as the converters take it with their defaults, to compare with",
    ),
}
DEFAULT_TARGET = {"tflite": "xnnpack", "onnx": "x86"}


def choose_target(name: str | None, file_format: str) -> tuple[str, Target]:
    """The target of that name, or the format's default.

    Raises:
        UsageError: the target does not run files of that format.
    """
    chosen = name or DEFAULT_TARGET[file_format]
    target = TARGETS[chosen]
    if file_format not in target.formats:
        possible = ", ".join(other for other, row in TARGETS.items() if file_format in row.formats)
        raise UsageError(f"target {chosen} does not run {file_format} files; use one of {possible}")
    return chosen, target
