"""What a compiled model file says of itself: the pieces for the NPU, and the chip that each was compiled for.

A binary for another chip loads in the emulator all the same, so nothing but its own words tells.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from preprocess.errors import DataError

from .chips import Snapdragon

# In the compiler's own settings, which it stores as text, once for every graph.
_CHIP = re.compile(rb"soc_type=(\w+);arch=(\d+);")


@dataclass(frozen=True)
class CompiledFor:
    """The chip of a context binary.

    Attributes:
        soc: such as `SM8650`.
        arch: version of Hexagon whose instructions it has; a newer Hexagon runs them, too.
    """

    soc: str
    arch: int

    def __str__(self) -> str:
        return f"{self.soc}, v{self.arch}"


def compiled_for(content: bytes) -> CompiledFor:
    """The chip of a context binary, alone or inside of a model file.

    Raises:
        DataError: it names none, or several.
    """
    found = {CompiledFor(soc.decode(), int(arch)) for soc, arch in _CHIP.findall(content)}
    if len(found) != 1:
        named = " and ".join(sorted(map(str, found))) or "no chip"
        raise DataError(f"the compiled file names {named}; it should name one, compile it again")
    return found.pop()


def check_chip(content: bytes, soc: str, chip: Snapdragon) -> CompiledFor:
    """The chip of a context binary, which must be the one that is wanted.

    Raises:
        DataError: it is for another, or has instructions that the wanted one lacks.
    """
    found = compiled_for(content)
    if found.soc != soc:
        raise DataError(f"the compiled file is for {found}, not for {soc}; compile it again")
    if found.arch > chip.arch:
        raise DataError(
            f"the compiled file is for Hexagon v{found.arch}, but {soc} has v{chip.arch}; choose another --soc"
        )
    return found


def partitions_of(path: Path) -> list[str]:
    """Names of the nodes of a compiled ONNX file that are a piece for the NPU."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return [node.name for node in nodes if node.op_type == "EPContext"]
