"""Names of tensors in model files, and the blocks of the network that they belong to."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"(visual|audio)/(stem|stage\d+/(?:block\d+|downsample))")


def plain_name(tensor: str) -> str:
    """The tensor's name without the converters' additions: `recogniser/fusion/key/Conv2D;…` → `fusion/key/Conv2D`."""
    return tensor.split(";")[0].removesuffix(":0").removeprefix("recogniser/")


def block_of(tensor: str) -> str:
    """The block that an activation or a weight belongs to: `audio/stage0/block1`, `fusion/attention`, `visual/head`."""
    if match := _BLOCK.match(tensor):
        return match.group()
    if tensor in ("skeleton", "audio"):
        return f"{'visual' if tensor == 'skeleton' else 'audio'}/stem"
    stream, _, rest = tensor.partition("/")
    if stream in ("visual", "audio"):
        return f"{stream}/head"
    in_head = tensor == "logits" or rest.startswith(("norm", "pool", "classifier"))
    return "fusion/head" if in_head else "fusion/attention"
