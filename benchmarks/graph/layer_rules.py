"""The cost of one operation of a model file in any format: the rules that both readers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

_PARTS = ("visual", "audio", "fusion")
_OUTPUT = "logits"

# The parts of a split depthwise convolution that were built without a bias. TFLite requires one, so the converter adds
# zeros.
_UNBIASED = ("/depthwise/odd", "/depthwise/edges")
# Layer norm in 1 × 1 convolutions to one channel, whose kernels are the constant 1/C.
_MEANS = ("/mean", "/variance")


@dataclass(frozen=True)
class GraphLayer:
    """One operation of a model file at the batch size of the file.

    Attributes:
        name: of its output tensor, without the converters' additions.
        op: type in the terms of the format.
        parameters: elements of its weights; constants that several layers share count in each.
        macs: multiply-accumulates, without those that published numbers leave out: the means of a layer norm written
            as convolutions, and a scale per channel written as a depthwise convolution of one tap.
        activation_bytes: size of its outputs.
    """

    name: str
    op: str
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Operation:
    """An operation before it is counted, without its weights."""

    name: str
    op: str
    out_shape: tuple[int, ...]
    activation_bytes: int

    def layer(self, *, parameters: int = 0, macs: int = 0) -> GraphLayer:
        return GraphLayer(self.name, self.op, parameters, macs, self.activation_bytes)

    def weighted(
        self, kernel: Sequence[int], channels: int, *, bias: int = 0, zero_bias: bool = False, depthwise: bool = False
    ) -> GraphLayer:
        """A convolution or a dense layer.

        Args:
            kernel: its shape; every element is multiplied once for each output position.
            channels: of the output.
            bias: elements of the bias.
            zero_bias: all elements of the bias are zero.
            depthwise: every input channel has its own kernel.
        """
        if depthwise and prod(kernel) == channels:
            return self.layer(parameters=channels + bias)
        if channels == 1 and self.name.endswith(_MEANS):
            return self.layer()
        if zero_bias and self.name.endswith(_UNBIASED):
            bias = 0
        return self.layer(parameters=prod(kernel) + bias, macs=prod(kernel) * prod(self.out_shape) // channels)

    def product(self, depth: int) -> GraphLayer:
        """A product of two activations, with `depth` multiplications for each output."""
        return self.layer(macs=depth * prod(self.out_shape))

    def elementwise(self, constants: Sequence[tuple[int, ...]]) -> GraphLayer:
        """A sum, difference, product or quotient; constants along one axis are trained, scalars are not."""
        return self.layer(parameters=sum(prod(shape) for shape in constants if self._along_one_axis(shape)))

    def _along_one_axis(self, shape: tuple[int, ...]) -> bool:
        return prod(shape) > 1 and prod(shape) == max(shape) and max(shape) in self.out_shape


def is_layer_name(name: str) -> bool:
    """Whether a plain name belongs to a layer of the recogniser, not to a tensor of a converter."""
    part, _, rest = name.partition("/")
    return name == _OUTPUT or (part in _PARTS and bool(rest))
