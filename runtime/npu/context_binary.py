"""What a compiled model file states about itself: its pieces for the NPU, and the chip they were compiled for.

The emulator loads a binary for another chip without complaint, so this statement is the only check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from preprocess.errors import DataError

from .chips import Snapdragon

# From the compiler's settings, which it stores as text, once for every graph.
_CHIP = re.compile(rb"soc_type=(\w+);arch=(\d+);")


@dataclass(frozen=True)
class CompiledFor:
    """The chip of a context binary.

    Attributes:
        soc: such as `SM8650`.
        arch: version of Hexagon whose instructions it uses; newer versions run them too.
    """

    soc: str
    arch: int

    def __str__(self) -> str:
        return f"{self.soc}, v{self.arch}"


def compiled_for(content: bytes) -> CompiledFor:
    """The chip of a context binary, alone or inside a model file.

    Raises:
        DataError: it names none, or several.
    """
    chips = {CompiledFor(soc.decode(), int(arch)) for soc, arch in _CHIP.findall(content)}
    if len(chips) != 1:
        named = " and ".join(sorted(map(str, chips))) or "no chip"
        raise DataError(f"the compiled file names {named}; it should name one, compile it again")
    return chips.pop()


def check_chip(content: bytes, soc: str, chip: Snapdragon) -> CompiledFor:
    """The chip of a context binary, which must be `soc`.

    Raises:
        DataError: it is for another chip, or has instructions that `chip` lacks.
    """
    stated = compiled_for(content)
    if stated.soc != soc:
        raise DataError(f"the compiled file is for {stated}, not for {soc}; compile it again")
    if stated.arch > chip.arch:
        raise DataError(
            f"the compiled file is for Hexagon v{stated.arch}, but {soc} has v{chip.arch}; choose another --soc"
        )
    return stated


def partitions_of(path: Path) -> list[str]:
    """Names of the nodes of a compiled ONNX file that are pieces for the NPU."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return [node.name for node in nodes if node.op_type == "EPContext"]
