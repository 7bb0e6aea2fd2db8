"""Files compiled for the NPU of one Snapdragon: which device may run them, and what must lie beside the tool."""

from __future__ import annotations

from collections.abc import Sequence

from preprocess.errors import MissingComponentError, UsageError
from runtime.manifest import Manifest
from runtime.npu.chips import snapdragon

DISPATCH = "libLiteRtDispatch_Qualcomm.so"


def require_npu(manifest: Manifest, accelerator: str) -> None:
    """Raises UsageError where a compiled file is to run elsewhere than on the NPU."""
    if manifest.npu and accelerator != "npu":
        raise UsageError(
            f"{manifest.name} is compiled for {manifest.npu['soc']}'s NPU; use --accelerator npu, not {accelerator}"
        )


def require_chip(manifest: Manifest, soc: str | None) -> None:
    """Raises UsageError where the device tells of another chip than the file is compiled for."""
    if manifest.npu and soc is not None and soc != manifest.npu["soc"]:
        raise UsageError(
            f"{manifest.name} is compiled for {manifest.npu['soc']}, but the device has {soc}; use the artefact of "
            f"`python -m export npu --soc {soc}`"
        )


def require_libraries(soc: str, present: Sequence[str], *, more: Sequence[str] = ()) -> None:
    """Raises MissingComponentError where a library that loads a compiled file does not lie beside the tool.

    Args:
        soc: that the file is compiled for.
        present: names of the libraries beside the tool.
        more: that the tool needs besides.
    """
    chip = snapdragon(soc)
    own = [f"libQnnHtp{chip.hexagon.upper()}{kind}.so" for kind in ("Stub", "Skel")] if chip else []
    missing = [name for name in (*more, "libQnnHtp.so", "libQnnSystem.so", *own) if name not in present]
    if missing:
        raise MissingComponentError(
            f"a file compiled for {soc} needs {', '.join(missing)} beside the tool; take the libQnn* files for Android "
            "from Qualcomm's AI Runtime SDK, of the release that compiled it or a newer one, and name their folder "
            "with --tool-path"
        )
