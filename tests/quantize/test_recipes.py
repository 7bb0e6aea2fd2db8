"""Precision recipes: a name and its content are the same thing, and an unknown name is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import UsageError
from quantize.recipes import STATIC_WI8_AI8, Recipe, parse_recipe

# Of every plain recipe: its formats, and the word in names of artifacts.
PLAIN = {
    "float32": ({"tflite", "onnx"}, "float32"),
    "weight_only_wf16_afp32": ({"tflite"}, "wf16"),
    "weight_only_wi8_afp32": ({"onnx"}, "wi8"),
    "dynamic_wi8_afp32": ({"tflite", "onnx"}, "dynamic"),
    "static_wi8_ai8": ({"tflite", "onnx"}, "int8"),
    "static_wi8_ai16": ({"onnx"}, "w8a16"),
}
patterns = st.lists(st.text("abz_/*?.-019", min_size=1, max_size=20), min_size=1, max_size=4).map(tuple)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_name_decodes_to_itself_and_names_its_formats(name):
    recipe = parse_recipe(name)
    assert (recipe.name, recipe.exceptions, recipe.short) == (name, (), PLAIN[name][1])
    assert recipe.static == name.startswith("static")
    assert recipe.integer_only == (name == "static_wi8_ai8")
    assert not recipe.is_exception("logits")
    for file_format in ("tflite", "onnx"):
        if file_format in PLAIN[name][0]:
            recipe.check_format(file_format)
            continue
        offered = {known for known, (formats, _) in PLAIN.items() if file_format in formats}
        with pytest.raises(UsageError, match=f"^recipe {name} does not exist for {file_format}; use") as refused:
            recipe.check_format(file_format)
        assert set(str(refused.value).split("use one of ")[1].split(", ")) == offered


@given(patterns, st.sampled_from(("fp32", "ai16")))
def test_names_of_mixed_recipes_decode_to_their_content(exceptions, wide):
    recipe = Recipe("static_wi8_ai8", wide, exceptions)
    assert recipe.name == f"static_wi8_ai8+{wide}({','.join(exceptions)})"
    assert parse_recipe(recipe.name) == recipe
    assert (recipe.static, recipe.integer_only, recipe.short) == (True, False, "int8-mixed")
    assert STATIC_WI8_AI8.with_exceptions(exceptions) == Recipe("static_wi8_ai8", "fp32", exceptions)
    assert recipe.with_exceptions(()).name == "static_wi8_ai8"


@given(patterns, st.text("abz_/.-019", max_size=20))
def test_wildcards_stand_for_anything(exceptions, tensor):
    """Against regular expressions over the full name."""
    matched = any(
        re.fullmatch("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), tensor)
        for pattern in exceptions
    )
    assert STATIC_WI8_AI8.with_exceptions(exceptions).is_exception(tensor) == matched


@pytest.mark.parametrize(
    "name",
    [
        "",
        "FLOAT32",
        "float32\n",
        "static_wi8_ai8+",
        "static_wi8_ai8+fp32()",
        "static_wi8_ai8+fp32(a b)",
        "static_wi8_ai8+fp32(logits) ",
        "static_wi8_ai8+fp16(logits)",
        "static_wi8_ai8+fp32(a)+ai16(b)",
        "dynamic_wi8_afp32+fp32(logits)",
        "static_wi8_ai8+fp32(logits,)",
    ],
)
def test_an_unknown_name_is_refused(name):
    with pytest.raises(UsageError) as refused:
        parse_recipe(name)
    message = str(refused.value)
    assert message.startswith(f"recipe {name!r} is unknown; use one of ")
    assert all(known in message for known in PLAIN)


def test_sixteen_bits_are_mixed_in_onnx_only():
    recipe = parse_recipe("static_wi8_ai8+ai16(fusion/*)")
    recipe.check_format("onnx")
    with pytest.raises(UsageError, match=r"^recipe static_wi8_ai8\+ai16\(fusion/\*\): TFLite .*; use \+fp32\(…\)$"):
        recipe.check_format("tflite")
    for file_format in ("onnx", "tflite"):
        parse_recipe("static_wi8_ai8+fp32(fusion/*)").check_format(file_format)
