"""The preprocessing benchmark: runs, agrees with its peers, and says where its numbers come from."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure.provenance import provenance

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.studies.preprocessing", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_benchmark_writes_what_it_shows(tmp_path: Path) -> None:
    out = tmp_path / "new" / "preprocessing.json"
    result = run("--preset", "nano", "--runs", "10", "--out", str(out), "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(result.stdout) == document
    assert [(r["input"], r["code"]) for r in document["results"]] == [
        ("heatmaps", "pocket-har"),
        ("heatmaps", "NumPy loop"),
        ("log-Mel", "pocket-har"),
        ("log-Mel", "librosa"),
        ("log-Mel", "librosa, filters kept"),
    ]
    for entry in document["results"]:
        assert len(entry["samples_ms"]) == 10
        assert min(entry["samples_ms"]) <= entry["median_ms"] <= max(entry["samples_ms"])
    assert document["threads"] == 1
    assert document["largest_difference"]["heatmaps"] < 1e-4
    assert document["largest_difference"]["log-Mel"] < 1e-3
    assert document["provenance"]["command"] == "python -m benchmarks.preprocessing --preset nano --runs 10 --seed 0"
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--runs", "3"], 2, "error: --runs is 3; a median needs at least 10"),
        (["--preset", "pico"], 4, "error: preset 'pico' does not exist; use one of paper, nano"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], code: int, message: str) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stderr.strip()) == (code, message)


def test_provenance_names_versions_and_machine_but_nobody() -> None:
    record = provenance("python -m something", packages=("numpy", "no-such-package"))
    assert set(record) == {"command", "date", "commit", "machine", "versions"}
    assert record["versions"]["numpy"]
    assert record["versions"]["no-such-package"] is None
    assert record["machine"]["cores"] >= 1
    text = json.dumps(record)
    for secret in (str(ROOT), str(Path.home()), f'"{socket.gethostname()}"', f'"{getpass.getuser()}"'):
        assert secret not in text
