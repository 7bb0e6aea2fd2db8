"""JSON documents as frozen dataclasses, read strictly.

A field that is missing, unknown, of another type or not finite is an error: no document is used half-understood.
"""

from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from preprocess.errors import DataError

_KINDS = {str: "text", int: "a whole number", bool: "true or false"}


def read_json(path: Path, what: str) -> Any:
    """The JSON document in a file.

    Raises:
        DataError: there is no such file, or it is not JSON; the message names `what` and the file.
    """
    try:
        return parse_json(path.read_bytes(), f"{what} {path}")
    except FileNotFoundError:
        raise DataError(f"{what} {path} does not exist") from None


def parse_json(text: str | bytes, where: str) -> Any:
    """The JSON document in a text.

    Raises:
        DataError: it is not JSON in UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not a JSON document: {error}") from error


def decode(kind: Any, value: Any, where: str, *, complete: bool = False) -> Any:
    """`value`, as JSON gives it, as an object of the annotated type `kind`.

    Handles dataclasses (fields with a default may be missing), `tuple[X, ...]`, `dict[str, X]`, `X | None`, `float`,
    `int`, `str`, `bool` and `Any`.

    Args:
        kind, value: the type, and the result of `json.loads`.
        where: the place in the document, for messages.
        complete: fields with a default must be there too.

    Raises:
        DataError: a field is missing, unknown, of another type or not finite.
    """
    if kind is Any:
        refuse_non_finite(value, where)
        return value
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        inner = next(item for item in typing.get_args(kind) if item is not types.NoneType)
        return None if value is None else decode(inner, value, where, complete=complete)
    if is_dataclass(kind):
        return _decode_dataclass(kind, value, where, complete)
    if origin is typing.Literal:
        _require(value in typing.get_args(kind), value, where, f"one of {', '.join(map(str, typing.get_args(kind)))}")
        return value
    if origin is tuple:
        _require(isinstance(value, list), value, where, "a list")
        return tuple(
            decode(typing.get_args(kind)[0], item, f"{where}.{i}", complete=complete) for i, item in enumerate(value)
        )
    if origin is dict:
        _require(isinstance(value, dict), value, where, "an object")
        inner = typing.get_args(kind)[1]
        return {name: decode(inner, item, f"{where}.{name}", complete=complete) for name, item in value.items()}
    if kind is float:
        # JSON may write 3.0 as 3. True is an integer for Python.
        _require(isinstance(value, int | float) and not isinstance(value, bool), value, where, "a number")
        _require(math.isfinite(value), value, where, "a finite number")
        return float(value)
    _require(type(value) is kind, value, where, _KINDS[kind])
    return value


def refuse_non_finite(value: Any, where: str) -> None:
    """Raises DataError when a number anywhere in `value` is not finite."""
    if isinstance(value, float):
        _require(math.isfinite(value), value, where, "a finite number")
    elif isinstance(value, dict):
        for name, item in value.items():
            refuse_non_finite(item, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            refuse_non_finite(item, f"{where}.{index}")


def _decode_dataclass(kind: Any, value: Any, where: str, complete: bool) -> Any:
    _require(isinstance(value, dict), value, where, "an object")
    known = {item.name for item in fields(kind)}
    with_default = {item.name for item in fields(kind) if (item.default, item.default_factory) != (MISSING, MISSING)}
    needed = known if complete else known - with_default
    for problem, odd in (("missing", needed - value.keys()), ("unknown", value.keys() - known)):
        if odd:
            raise DataError(f"{where} has the {problem} field {min(odd)!r}; make it again with this release")
    hints = typing.get_type_hints(kind)
    return kind(
        **{name: decode(hints[name], value[name], f"{where}.{name}", complete=complete) for name in sorted(value)}
    )


def _require(condition: bool, value: Any, where: str, expected: str) -> None:
    if not condition:
        raise DataError(f"{where} is {value!r:.60}; it must be {expected}")
