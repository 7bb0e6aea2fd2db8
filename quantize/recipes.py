"""Precision recipes: which numbers a deployed model computes with. The name decodes to the content."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A precision recipe.

    Attributes:
        name: `float32`, or `static_wi8_ai8` for static ranges, weights in int8 and activations in int8.
        short: the word used in names of artefacts and tables.
        integer_only: no float tensor may remain in a TFLite graph.
    """

    name: str
    short: str
    integer_only: bool


FLOAT32 = Recipe("float32", "float32", integer_only=False)
STATIC_WI8_AI8 = Recipe("static_wi8_ai8", "int8", integer_only=True)
