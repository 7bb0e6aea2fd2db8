"""Records: a written record is read back unchanged, and an incomplete or unknown document is refused."""

from __future__ import annotations

import json
import math
from dataclasses import is_dataclass, replace
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.measure.records import (
    Device,
    DeviceRun,
    Environment,
    Machine,
    Measurement,
    Memory,
    Record,
    Subject,
    Timing,
    read_record,
    write_record,
)
from preprocess.errors import DataError


def values_of(kind: Any) -> st.SearchStrategy:
    """Any value of an annotated type; a record has the version that is written."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{name: values_of(hint) for name, hint in hints.items() if name != "schema_version"})
    arguments = get_args(kind)
    if get_origin(kind) is UnionType:
        return st.none() | values_of(arguments[0])
    if get_origin(kind) is tuple:
        return st.lists(values_of(arguments[0]), min_size=int(arguments[0] is float), max_size=2).map(tuple)
    if get_origin(kind) is dict:
        return st.dictionaries(TEXT, values_of(arguments[1]), max_size=2)
    return {str: TEXT, int: st.integers(0, 2**40), float: st.floats(1e-6, 1e7), bool: st.booleans()}[kind]


TEXT = st.text(max_size=8)
RECORD = Record(
    Environment(
        Machine("some CPU", 2, "aarch64", "Linux 6.1", 8_000_000_000, ("asimddp",)), {"numpy": "1"}, "now", None, "x"
    ),
    seed=1,
    rounds=2,
    measurements=(
        Measurement(
            Subject("a", "0f", "tflite", "float32", "nano", "fused", 10, "litert", "2.1", 1),
            Timing((4.0, 5.5)),
            Timing((1.25, 3.0)),
            Memory(11_000_000, None, 15_000_000),
            {"inputs": "2 recordings"},
            DeviceRun("t", "./t", "quick", "process", "gpu", 3, 4, "f0", "skin", (), (), ("too few samples",)),
        ),
    ),
    device=Device("a phone", "SM8650", "v75", 57, "14", ("0f: 1804 MHz",), ("walt",), 80, 27.5, False, 0),
)


@settings(max_examples=30)
@given(values_of(Record))
def test_a_record_is_read_as_it_was_written(record):
    assert Record.from_dict(record.to_dict()) == record
    assert json.loads(record.to_json()) == record.to_dict()


def test_whole_numbers_are_read_as_times_and_the_file_round_trips(tmp_path):
    document = RECORD.to_dict()
    document["measurements"][0]["inference"]["samples_ms"] = [1, 3]
    assert Record.from_dict(document).measurements[0].inference == Timing((1.0, 3.0))
    write_record(RECORD, tmp_path / "new" / "a.json")
    assert read_record(tmp_path / "new" / "a.json") == RECORD


def test_identity_and_label_of_a_subject_and_validity_of_a_run():
    subject = RECORD.measurements[0].subject
    assert subject.key == ("a", "fused", "float32", "litert", 1, "cpu")
    assert subject.label == "a (litert, threads: 1)"
    assert Subject(**{**vars(subject), "accelerator": "gpu"}).label == "a (litert on gpu, threads: 1)"
    run = RECORD.measurements[0].device_run
    assert (run.valid, replace(run, reasons_against=()).valid) == (False, True)


def parent_of(document, path):
    for key in path[:-1]:
        document = document[key]
    return document


SAMPLES = ("measurements", 0, "inference", "samples_ms")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (SAMPLES, [1.0, math.nan], "samples_ms.1 is nan; .* a finite number"),
        (SAMPLES, [], "a timing has no samples"),
        (SAMPLES, [0.0], "not positive and finite"),
        (("schema_version",), 3, "schema_version of the record is 3; this release reads 2"),
        (("schema_version",), True, "schema_version of the record is True"),
        (("environment", "machine"), {"cpu": "some CPU"}, "missing field 'architecture'"),
        (("measurements", 0, "device_run", "extra"), 1, "unknown field 'extra'"),
    ],
)
def test_values_that_cannot_be_are_refused(path, value, message):
    with pytest.raises(DataError, match="schema_version of the record is None"):
        Record.from_dict([])
    document = RECORD.to_dict()
    parent_of(document, path)[path[-1]] = value
    with pytest.raises(DataError, match=message):
        Record.from_dict(document)


def test_nan_is_never_written():
    with pytest.raises(DataError, match="not positive and finite"):
        Timing((1.0, math.nan))
    odd = Record(RECORD.environment, math.nan, 2, ())  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"record\.seed is nan"):
        odd.to_json()


def test_a_missing_or_wrong_file_is_named(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match=r"a\.json does not exist; make it with"):
        read_record(path)
    path.write_text(RECORD.to_json().replace("1.25", "NaN"), encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.json\.measurements\.0\.inference\.samples_ms\.0 is nan"):
        read_record(path)
