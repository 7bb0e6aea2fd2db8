"""Strict reading of JSON documents as dataclasses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.strict_json import decode, read_json
from preprocess.errors import DataError


@dataclass(frozen=True)
class Inner:
    name: str
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Outer:
    count: int
    on: bool
    kind: Literal["a", "b"]
    inner: Inner | None
    parts: dict[str, Inner]
    free: Any = None
    notes: dict[str, str] = field(default_factory=dict)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
INNERS = st.builds(Inner, st.text(), st.lists(NUMBERS, max_size=3).map(tuple))
OUTERS = st.builds(
    Outer,
    st.integers(),
    st.booleans(),
    st.sampled_from("ab"),
    st.none() | INNERS,
    st.dictionaries(st.text(), INNERS, max_size=2),
)
DOCUMENT = {"count": 1, "on": True, "kind": "a", "inner": None, "parts": {"x": {"name": "n", "values": [1, 2.5]}}}


@given(OUTERS)
def test_what_was_written_is_read_back(outer):
    assert decode(Outer, json.loads(json.dumps(asdict(outer))), "document") == outer


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"count": 1.0}, r"document\.count is 1\.0; it must be a whole number"),
        ({"count": True}, r"document\.count"),
        ({"on": 1}, r"document\.on is 1; it must be true or false"),
        ({"kind": "c"}, r"document\.kind .* one of a, b"),
        ({"inner": []}, r"document\.inner .* an object"),
        ({"parts": {"x": {"name": 3}}}, r"document\.parts\.x\.name is 3; it must be text"),
        ({"parts": {"x": {"name": "n", "values": ["1"]}}}, r"values\.0 is '1'; it must be a number"),
        ({"parts": {"x": {"name": "n", "values": [float("nan")]}}}, r"values\.0 is nan; it must be a finite number"),
        ({"free": {"deep": [float("inf")]}}, r"document\.free\.deep\.0 is inf"),
        ({"extra": 1}, r"document has the unknown field 'extra'"),
        ({"parts": {"x": {}}}, r"document\.parts\.x has the missing field 'name'"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_a_default_may_be_missing(change, place):
    assert decode(Outer, DOCUMENT, "document").notes == {}
    with pytest.raises(DataError, match=place):
        decode(Outer, {**DOCUMENT, **change}, "document")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{}", b"[" * 100_000, b"", b"PK\x03\x04"])
def test_a_file_that_is_not_json_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match=r"record .*x\.json does not exist"):
        read_json(path, "record")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"record .*x\.json is not a JSON document"):
        read_json(path, "record")
