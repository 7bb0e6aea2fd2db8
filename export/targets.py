"""The targets of an export: one row for every place where runtimes disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from preprocess.errors import UsageError

if TYPE_CHECKING:
    from model.config import DeployForm


@dataclass(frozen=True)
class ExportTarget:
    """A kind of device; the defaults leave the network as it is.

    Attributes:
        name: as in `--target`.
        formats: file formats that it runs.
        deployed: export our deploy form; else the training graph, and the fields below have no effect.
        depthwise, layer_norm: how the deploy form is written, see `model.config.DeployForm`.
        activations: eight-bit type of ONNX activations; TFLite has int8 alone.
        seven_bit_weights: ONNX weights use 7 of their 8 bits.
        norm_weights: eight-bit type of layer norm's scale in ONNX.
        one_type_per_node: all activations of an ONNX node have 8 bits or all have 16, with conversions in between.
    """

    name: str
    formats: tuple[str, ...]
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


_ROWS = (
    # CPUs of phones and boards: depthwise kernels of at most 25 taps, no layer norm.
    ExportTarget("xnnpack", ("tflite",), depthwise="split", layer_norm="convolutions"),
    # ONNX Runtime on PCs: u8 × s8 kernels, which overflow 16 bits without VNNI when weights use all 8.
    ExportTarget("x86", ("onnx",), activations="uint8", seven_bit_weights=True),
    # ONNX Runtime on ARM: s8 × s8 dot products.
    ExportTarget("arm", ("onnx",)),
    # Snapdragon's NPU: layer norm, GELU and 7 × 7 depthwise are single operations there; it accepts no layer norm with
    # an int8 scale, and no node of both 8 and 16 bits.
    ExportTarget("qnn", ("onnx",), activations="uint8", norm_weights="uint8", one_type_per_node=True),
    # No device: the training graph through the converters' defaults, for comparison.
    ExportTarget("plain", ("tflite", "onnx"), deployed=False),
)
TARGETS = {target.name: target for target in _ROWS}
DEFAULT_TARGET = {"tflite": "xnnpack", "onnx": "x86"}


def choose_target(name: str | None, file_format: str) -> ExportTarget:
    """The target of that name, or the format's default.

    Raises:
        UsageError: the target does not run files of that format.
    """
    target = TARGETS[name or DEFAULT_TARGET[file_format]]
    if file_format not in target.formats:
        possible = ", ".join(other.name for other in _ROWS if file_format in other.formats)
        raise UsageError(f"target {target.name} does not run {file_format} files; use one of {possible}")
    return target
