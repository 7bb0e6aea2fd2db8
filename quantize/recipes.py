"""Precision recipes: the number formats of a deployed model. A recipe's name decodes to its content.

    float32                                   float weights, float activations
    weight_only_wf16_afp32                    weights stored in 16-bit float (TFLite)
    weight_only_wi8_afp32                     weights stored in int8 (ONNX)
    dynamic_wi8_afp32                         int8 weights, activation ranges computed for every input
    static_wi8_ai8                            int8 weights and activations with fixed ranges; integers only
    static_wi8_ai8+fp32(fusion/*,logits)      the same, but these tensors compute in float
    static_wi8_ai8+ai16(*/norm)               the same, but these tensors have 16 bits (ONNX)
    static_wi8_ai16                           int8 weights, 16-bit activations with fixed ranges (ONNX)

Tensors have the names of the deploy form, which `python -m quantize analyze` lists; `*` stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from preprocess.errors import UsageError

Wide = Literal["fp32", "ai16"]
# Formats of files that can hold each recipe, and the word for it in names of artifacts.
_RECIPES = {
    "float32": (("tflite", "onnx"), "float32"),
    "weight_only_wf16_afp32": (("tflite",), "wf16"),
    "weight_only_wi8_afp32": (("onnx",), "wi8"),
    "dynamic_wi8_afp32": (("tflite", "onnx"), "dynamic"),
    "static_wi8_ai8": (("tflite", "onnx"), "int8"),
    "static_wi8_ai16": (("onnx",), "w8a16"),
}
_MIXED = re.compile(r"(static_wi8_ai8)\+(fp32|ai16)\(([\w/*?,.-]+)\)")


@dataclass(frozen=True)
class Recipe:
    """A precision recipe.

    Attributes:
        base: the part of the name before `+`.
        wide: precision of the exceptions.
        exceptions: of a static recipe, patterns of the names of tensors that are not int8.
    """

    base: str
    wide: Wide = "fp32"
    exceptions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.base}+{self.wide}({','.join(self.exceptions)})" if self.exceptions else self.base

    @property
    def short(self) -> str:
        """The word for it in names of artifacts."""
        return _RECIPES[self.base][1] + ("-mixed" if self.exceptions else "")

    @property
    def static(self) -> bool:
        """True if activations have fixed ranges, so that calibration is needed."""
        return self.base in ("static_wi8_ai8", "static_wi8_ai16")

    @property
    def integer_only(self) -> bool:
        """True if no float tensor may remain in a TFLite graph."""
        return self.base == "static_wi8_ai8" and not self.exceptions

    def with_exceptions(self, names: tuple[str, ...]) -> Recipe:
        return replace(self, exceptions=names)

    def is_exception(self, tensor: str) -> bool:
        return any(fnmatchcase(tensor, pattern) for pattern in self.exceptions)

    def check_tensors(self, tensors: Iterable[str]) -> None:
        """Raise UsageError if an exception matches none of the tensors."""
        known = tuple(tensors)
        for pattern in self.exceptions:
            if not any(fnmatchcase(tensor, pattern) for tensor in known):
                raise UsageError(
                    f"recipe {self.name}: no tensor is called {pattern!r}; `quantize analyze --json` lists them"
                )

    def check_format(self, file_format: str) -> None:
        """Raise UsageError if files of that format cannot hold the recipe."""
        if file_format not in _RECIPES[self.base][0]:
            possible = ", ".join(name for name, (formats, _) in _RECIPES.items() if file_format in formats)
            raise UsageError(f"recipe {self.name} does not exist for {file_format}; use one of {possible}")
        if self.exceptions and self.wide == "ai16" and file_format == "tflite":
            raise UsageError(f"recipe {self.name}: TFLite mixes int8 with float, not with 16 bits; use +fp32(…)")


def parse_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: no recipe has this name.
    """
    if name in _RECIPES:
        return Recipe(name)
    mixed = _MIXED.fullmatch(name)
    if mixed and all(patterns := mixed.group(3).split(",")):
        return Recipe(mixed.group(1), "ai16" if mixed.group(2) == "ai16" else "fp32", tuple(patterns))
    raise UsageError(
        f"recipe {name!r} is unknown; use one of {', '.join(_RECIPES)}, or static_wi8_ai8+fp32(TENSOR,…) "
        "(static_wi8_ai8+ai16(TENSOR,…) for ONNX)"
    )


FLOAT32 = Recipe("float32")
STATIC_WI8_AI8 = Recipe("static_wi8_ai8")
