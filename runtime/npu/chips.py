"""Snapdragon processors and the version of Hexagon, their NPU, in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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


def snapdragon(soc: str | None) -> Snapdragon | None:
    """The row of the table; None for a processor that is not in it."""
    return SNAPDRAGONS.get(soc or "")
