"""The benchmark of the C++ preprocessing: runs, agrees with NumPy, and says where its numbers come from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kit.native import build

from benchmarks.studies.native import native_table

ROOT = Path(__file__).resolve().parents[2]
CASES = [
    (name, dtype, code)
    for dtype in ("float32", "int8")
    for name in ("heatmaps", "log-Mel")
    for code in ("NumPy", "C++")
]
CASES += [
    (f"update of a stream, {people}", "int8", code) for people in ("1 body", "2 bodies") for code in ("NumPy", "C++")
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.studies.native", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_writes_what_it_shows(tmp_path: Path) -> None:
    library = build("default", ("har_shared",)) / "libpocket_har.so"
    out = tmp_path / "native.json"
    words = ["--library", str(library), "--preset", "nano", "--runs", "10", "--out", str(out)]
    result = run(*words, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(result.stdout) == document
    assert sorted((r["input"], r["type"], r["code"]) for r in document["results"]) == sorted(CASES)
    assert all(len(own["samples_ms"]) == 10 for own in document["results"])
    assert document["kernels"] in ("avx2", "baseline")
    assert 0 < document["largest_difference"]["log-Mel, float32"] < 1e-3
    assert document["largest_difference"]["heatmaps, int8"] <= 1
    assert document["provenance"]["command"] == "python -m benchmarks.native --preset nano --runs 10 --seed 0"
    assert str(library.parent) not in out.read_text(encoding="utf-8")
    lines = native_table(document).splitlines()
    assert [re.split("  +", line)[:2] for line in lines[2:]] == [list(own[:2]) for own in CASES[::2]]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--runs", "3"], 2, "error: --runs is 3; a median needs at least 10"),
        (["--library", "nowhere.so"], 3, "error: nowhere.so does not exist; run `cmake -S android_bench/native -B "),
        (["--library", "README.md"], 4, "error: README.md is no libpocket_har.so of this machine: "),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.returncode == code
    assert result.stderr.startswith(message)
