"""What one operation of a model file costs, whatever the format: the rules that both readers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

PARTS = ("visual", "audio", "fusion")
_OUTPUT = "logits"

# The parts of a split depthwise convolution that were built without a bias. TFLite has none without, so the converter
# adds zeros.
_UNBIASED = ("/depthwise/odd", "/depthwise/edges")
# Layer norm in 1 × 1 convolutions to one channel, whose kernels are the constant 1/C.
_MEANS = ("/mean", "/variance")


@dataclass(frozen=True)
class GraphLayer:
    """One operation of a model file at the batch size that the file has.

    Attributes:
        name: of its output tensor, without what converters put around it.
        op: type as the format calls it.
        parameters: elements of its weights; those of constants that several layers share count in each.
        macs: multiply-accumulates.
        helper_macs: multiply-accumulates that published numbers leave out: the means of a layer norm that is written in
            convolutions, and a scale per channel that is written as a depthwise convolution of one tap.
        activation_bytes: size of its outputs.
        part: `visual`, `audio`, `fusion`, or empty for other networks.
    """

    name: str
    op: str
    parameters: int
    macs: int
    helper_macs: int
    activation_bytes: int
    part: str


@dataclass(frozen=True)
class Operation:
    """An operation before it is counted: what a reader knows of it without its weights."""

    name: str
    op: str
    out_shape: tuple[int, ...]
    activation_bytes: int

    def layer(self, *, parameters: int = 0, macs: int = 0, helper_macs: int = 0) -> GraphLayer:
        return GraphLayer(self.name, self.op, parameters, macs, helper_macs, self.activation_bytes, part_of(self.name))

    def weighted(
        self, kernel: Sequence[int], channels: int, *, bias: int = 0, zero_bias: bool = False, depthwise: bool = False
    ) -> GraphLayer:
        """A convolution or a dense layer.

        Args:
            kernel: its shape; every element is multiplied once for each output position.
            channels: of the output.
            bias: elements of the bias.
            zero_bias: the bias holds zeros alone.
            depthwise: every input channel has its own kernel.
        """
        macs = prod(kernel) * prod(self.out_shape) // channels
        if depthwise and prod(kernel) == channels:
            return self.layer(parameters=channels + bias, helper_macs=macs)
        if channels == 1 and self.name.endswith(_MEANS):
            return self.layer(helper_macs=macs)
        if zero_bias and self.name.endswith(_UNBIASED):
            bias = 0
        return self.layer(parameters=prod(kernel) + bias, macs=macs)

    def product(self, depth: int) -> GraphLayer:
        """A product of two activations, with `depth` multiplications for each output."""
        return self.layer(macs=depth * prod(self.out_shape))

    def elementwise(self, constants: Sequence[tuple[int, ...]]) -> GraphLayer:
        """A sum, difference, product or quotient; constants along one axis are trained, scalars are not."""
        return self.layer(parameters=sum(prod(shape) for shape in constants if self._along_one_axis(shape)))

    def _along_one_axis(self, shape: tuple[int, ...]) -> bool:
        return prod(shape) > 1 and prod(shape) == max(shape) and max(shape) in self.out_shape


def plain_name(tensor: str) -> str:
    """The tensor's name without the converters' additions: `recogniser/fusion/key/Conv2D;…` → `fusion/key/Conv2D`."""
    return tensor.split(";")[0].removesuffix(":0").removeprefix("recogniser/")


def part_of(name: str) -> str:
    """The part of the recogniser that a layer of this name belongs to; empty for other networks."""
    first, _, rest = name.partition("/")
    if name == _OUTPUT:
        return "fusion"
    return first if rest and first in PARTS else ""
