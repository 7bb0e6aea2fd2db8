"""The study of the preprocessing: implementations agree, wrong ones are not timed, and C++ takes part where it is."""

from __future__ import annotations

import json
from unittest import mock

import numpy as np
import pytest
from kit.native import build

from benchmarks.__main__ import main
from benchmarks.studies import preprocessing

PYTHON = {
    "heatmaps, float32": ["NumPy", "NumPy loop"],
    "log-Mel, float32": ["NumPy", "librosa", "librosa, filters kept"],
}
STREAMS = ["update of a stream, 1 body, int8", "update of a stream, 2 bodies, int8"]
NATIVE = {
    **{name: [*codes, "C++"] for name, codes in PYTHON.items()},
    **{name: ["NumPy", "C++"] for name in ("heatmaps, int8", "log-Mel, int8", *STREAMS)},
}


def measured(tmp_path, *words):
    out = tmp_path / "p.json"
    assert main(["preprocessing", "--preset", "nano", "--runs", "10", "--out", str(out), *words]) == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    codes = {}
    for result in document["results"]:
        codes.setdefault(f"{result['input']}, {result['type']}", []).append(result["code"])
        assert len(result["samples_ms"]) == 10
        assert min(result["samples_ms"]) <= result["median_ms"] <= max(result["samples_ms"])
    assert set(document["largest_difference"]) == set(codes)
    assert document["largest_difference"]["heatmaps, float32"] < 1e-4
    assert document["largest_difference"]["log-Mel, float32"] < 1e-3
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
    return document, codes


def test_numpy_and_its_peers_are_timed_on_one_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(preprocessing, "DEFAULT_LIBRARY", tmp_path / "none.so")
    document, codes = measured(tmp_path)
    assert codes == PYTHON
    assert document["kernels"] is None


@pytest.mark.slow
def test_the_library_is_timed_too(tmp_path):
    library = build("default", ("har_shared",)) / "libpocket_har.so"
    document, codes = measured(tmp_path, "--library", str(library))
    assert codes == NATIVE
    assert document["kernels"] in ("avx2", "baseline")
    assert document["largest_difference"]["heatmaps, int8"] <= 1
    assert "C++ with" in preprocessing.preprocessing_table(document)


def test_a_library_that_does_not_exist_is_missing(capsys):
    assert main(["preprocessing", "--library", "nowhere.so"]) == 3
    assert "cmake -S android_bench/native" in capsys.readouterr().err


def test_a_wrong_implementation_is_seen_before_the_clock_starts(tmp_path, monkeypatch, capsys):
    wrong = mock.MagicMock()
    wrong.return_value.__enter__.return_value.ask = {"differences": {("heatmaps", "float32"): 0.1}}.__getitem__
    monkeypatch.setattr(preprocessing, "DEFAULT_LIBRARY", tmp_path / "none.so")
    monkeypatch.setattr(preprocessing, "Server", wrong)
    assert main(["preprocessing", "--preset", "nano", "--out", str(tmp_path / "p.json")]) == 1
    assert "heatmaps in float32 differs from NumPy by 0.1" in capsys.readouterr().err
    assert not (tmp_path / "p.json").exists()


def test_differences_and_blocks():
    group = {"NumPy": lambda: (np.zeros(3),), "loop": lambda: (np.array([0, -2, 1]),)}
    assert preprocessing.largest_difference(group) == 2
    calls = []
    turns = {name: lambda name=name: calls.append(name) for name in "ab"}
    samples = preprocessing.time_in_blocks(turns, 10)
    assert "".join(calls) == "aaaaabbbbb" * 2
    assert {name: len(times) for name, times in samples.items()} == {"a": 10, "b": 10}
