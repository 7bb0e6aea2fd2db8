"""Fixtures of the tests with a device."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from kit.android_fixtures import SHORT, adb_server, artifact, connect, fake_log, fake_tool  # noqa: F401

from android_bench.__main__ import main


@pytest.fixture
def measure(artifact, tmp_path, capsys, monkeypatch):  # noqa: F811
    """Runs a fake benchmark_model, which prints `log`, on devices; gives the exit code and both streams."""
    monkeypatch.setattr("android_bench.run.QUICK", SHORT)

    def run(*words: str, on: Sequence[str], log: str | None = None, **script: str) -> tuple[int, str, str]:
        tool = fake_tool(tmp_path / "benchmark_model", fake_log() if log is None else log, **script)
        fixed = ["--artifact", str(artifact), "--tool", "benchmark_model", "--tool-path", str(tool)]
        code = main(["run", "--target", *on, *fixed, *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
