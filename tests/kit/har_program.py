"""Running `har_run` in tests."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.native import build

from android_bench.tools.binaries import litert_of_this_machine


@dataclass(frozen=True)
class Run:
    """Events of a process, its exit code, and its standard error."""

    events: tuple[dict[str, Any], ...]
    code: int
    stderr: str

    @property
    def logits(self) -> dict[str, list[float]]:
        return {line["recording"]: line["logits"] for line in self.events if line["event"] == "prediction"}

    @property
    def result(self) -> dict[str, Any]:
        assert (self.code, self.events[-1]["event"]) == (0, "result"), self.events
        return self.events[-1]

    @property
    def error(self) -> str:
        """The message, where the error is the only line."""
        (line,) = self.events
        assert line["event"] == "error"
        return line["message"]


def har_run() -> Path:
    """The program, built once. Skips without a compiler."""
    return build("default", ("har_run",)) / "har_run"


def litert() -> Path:
    library = litert_of_this_machine(os.uname().machine, android=False)
    assert library is not None
    return library


def refuse_constant(name: str) -> None:
    """NaN and infinities, which Python's parser accepts, are no JSON by RFC 8259."""
    raise AssertionError(f"{name} is no JSON")


def run_har(artifact: Any, *words: str, program: Any = (), library: Any = "", environment: Any = None) -> Run:
    """Runs har_run with this machine's library, unless another is named; None passes no --library."""
    command = [*map(os.fspath, program or [har_run()]), "--artifact", os.fspath(artifact)]
    if library is not None:
        command += ["--library", os.fspath(library or litert())]
    command += ["--warmup-runs", "1", "--min-runs", "3", "--min-seconds", "0"]
    variables = {k: v for k, v in os.environ.items() if k not in ("HAR_LITERT_LIBRARY", "LD_LIBRARY_PATH")}
    result = subprocess.run(
        [*command, *words], capture_output=True, env=variables | (environment or {}), check=False, timeout=300
    )
    assert not result.stdout or result.stdout.endswith(b"\n")
    events = tuple(json.loads(line, parse_constant=refuse_constant) for line in result.stdout.decode().splitlines())
    return Run(events, result.returncode, result.stderr.decode(errors="replace"))
