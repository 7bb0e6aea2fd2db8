"""Snapdragon processors with the NPU Hexagon, and the chip that a compiled model file is for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from preprocess.errors import DataError

# The chip in a compiled file, from the compiler's settings, which it stores as text, once for every graph.
_CHIP = re.compile(rb"soc_type=(\w+);arch=(\d+);")


@dataclass(frozen=True)
class Snapdragon:
    """A processor.

    Attributes:
        name: as it is sold.
        hexagon: version of the NPU, such as `v75`.
        soc_model: Qualcomm's number, which its libraries require.
    """

    name: str
    hexagon: str
    soc_model: int

    @property
    def arch(self) -> int:
        """The version of the NPU as a number."""
        return int(self.hexagon.removeprefix("v"))


# As in the tables of LiteRT's Qualcomm vendor code and of ExecuTorch.
SNAPDRAGONS = {
    "SM8250": Snapdragon("865", "v66", 21),
    "SM8350": Snapdragon("888", "v68", 30),
    "SM8450": Snapdragon("8 Gen 1", "v69", 36),
    "SM8475": Snapdragon("8+ Gen 1", "v69", 42),
    "SM8550": Snapdragon("8 Gen 2", "v73", 43),
    "SM7475": Snapdragon("7+ Gen 2", "v69", 54),
    "SM8635": Snapdragon("8s Gen 3", "v73", 68),
    "SM8650": Snapdragon("8 Gen 3", "v75", 57),
    "SM8735": Snapdragon("8s Gen 4", "v79", 85),
    "SM8750": Snapdragon("8 Elite", "v79", 69),
    "SM8850": Snapdragon("8 Elite Gen 5", "v81", 87),
    "SC8380XP": Snapdragon("X Elite", "v73", 60),
}
# Chips of phones on sale or in wide use, for which both ONNX Runtime and LiteRT compile.
CURRENT = ("SM8450", "SM8475", "SM8550", "SM8650", "SM8750", "SM8850")
# Phones without ro.soc.* state only the platform; these platforms have one processor each.
PLATFORMS = {"kona": "SM8250", "kalama": "SM8550", "pineapple": "SM8650", "sun": "SM8750"}


def soc_name(properties: Mapping[str, str]) -> str | None:
    """The processor by Android's properties, such as `SM8650`; None if they do not state it."""
    model = properties.get("ro.soc.model", "")
    if model:
        # Variants carry a suffix: SM8650-AC is a faster SM8650.
        base = model.split("-")[0]
        return base if base in SNAPDRAGONS else model
    return PLATFORMS.get(properties.get("ro.board.platform", ""))


def compiled_for(content: bytes) -> tuple[str, int]:
    """The chip of a context binary, alone or inside a model file: `SM8650`, and the version of Hexagon, 75.

    Raises:
        DataError: it names none, or several.
    """
    chips = {(soc.decode(), int(arch)) for soc, arch in _CHIP.findall(content)}
    if len(chips) != 1:
        named = " and ".join(f"{soc}, v{arch}" for soc, arch in sorted(chips)) or "no chip"
        raise DataError(f"the compiled file names {named}; it should name one, compile it again")
    return chips.pop()


def check_chip(content: bytes, soc: str) -> int:
    """The version of Hexagon whose instructions a context binary uses; newer versions run them too.

    The emulator loads a binary for another chip without complaint, so the file's statement is the only check.

    Raises:
        DataError: it is for another chip than `soc`, or has instructions that the chip lacks.
    """
    stated, arch = compiled_for(content)
    if stated != soc:
        raise DataError(f"the compiled file is for {stated}, v{arch}, not for {soc}; compile it again")
    newest = SNAPDRAGONS[soc].arch
    if arch > newest:
        raise DataError(f"the compiled file is for Hexagon v{arch}, but {soc} has v{newest}; choose another --soc")
    return arch
