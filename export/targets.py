"""What each target gets: one row for every place where runtimes disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from preprocess.errors import UsageError

if TYPE_CHECKING:
    from model.config import DeployForm


@dataclass(frozen=True)
class Target:
    """A kind of device; what is not said leaves the network as it is.

    Attributes:
        formats: file formats that make sense on it.
        note: why.
        deployed: our deploy form; else the training graph as the converters take it, and nothing below counts.
        depthwise, layer_norm: how the deploy form is written, see `model.config.DeployForm`.
        activations: eight-bit type of ONNX activations; TFLite has int8 alone.
        seven_bit_weights: ONNX weights use 7 of their 8 bits.
        norm_weights: eight-bit type of layer norm's scale in ONNX.
        one_type_per_node: activations of an ONNX node are all of 8 or all of 16 bits, and are converted in between.
    """

    formats: tuple[str, ...]
    note: str
    deployed: bool = True
    depthwise: Literal["split", "whole"] = "whole"
    layer_norm: Literal["convolutions", "layer"] = "layer"
    activations: Literal["int8", "uint8"] = "int8"
    seven_bit_weights: bool = False
    norm_weights: Literal["int8", "uint8"] = "int8"
    one_type_per_node: bool = False

    @property
    def form(self) -> DeployForm:
        from model.config import DeployForm

        return DeployForm(self.depthwise, self.layer_norm)


TARGETS = {
    "xnnpack": Target(
        formats=("tflite",),
        note="CPUs of phones and boards: depthwise kernels of at most 25 taps, no layer norm",
        depthwise="split",
        layer_norm="convolutions",
    ),
    "x86": Target(
        formats=("onnx",),
        note="ONNX Runtime on PCs: u8 × s8 kernels, which overflow 16 bits without VNNI when weights use all 8",
        activations="uint8",
        seven_bit_weights=True,
    ),
    "arm": Target(formats=("onnx",), note="ONNX Runtime on ARM: s8 × s8 dot products"),
    "qnn": Target(
        formats=("onnx",),
        note="Snapdragon's NPU: layer norm, GELU and 7 × 7 depthwise are single operations there; it takes no "
        "layer norm with an int8 scale, and no node of both 8 and 16 bits",
        activations="uint8",
        norm_weights="uint8",
        one_type_per_node=True,
    ),
    "plain": Target(
        formats=("tflite", "onnx"),
        note="no device: the training graph as the converters take it with their defaults, to compare with",
        deployed=False,
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
