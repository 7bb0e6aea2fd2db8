"""Boards over ssh, with the programs `ssh` and `scp`. A key must be set up: no password is asked for."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from preprocess.errors import DataError, MissingComponentError, UsageError

from .connection import FOLDER, CommandTimeout, DeviceLost, Outcome, marked, quote, run_client, unmarked

_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5")
_PROBE_TIMEOUT_S = 20.0


class SshConnection:
    """A board by `USER@HOST` or `USER@HOST:PORT`."""

    def __init__(self, destination: str) -> None:
        for program in ("ssh", "scp"):
            if shutil.which(program) is None:
                raise MissingComponentError(f"{program} is not installed; run `apt install openssh-client`")
        self.address = f"ssh://{destination}"
        host, colon, port = destination.partition(":")
        if colon and not port.isdigit():
            raise UsageError(f"--target is {self.address!r}; write ssh://USER@HOST or ssh://USER@HOST:PORT")
        self._host, self._port = host, port
        self.root = f"/tmp/{FOLDER}"

    def run(self, script: str, *, timeout_s: float) -> Outcome:
        text, mark = marked(script)
        # The login shell may be any shell; the marks are written for sh.
        words = [
            "ssh",
            *_OPTIONS,
            *(["-p", self._port] if self._port else []),
            self._host,
            f"sh -c {shlex.quote(text)}",
        ]
        outcome = run_client(words, timeout_s=timeout_s, what=f"command on {self.address}")
        if mark not in outcome.stdout and outcome.exit_code == 255:
            raise self._gone(outcome)
        return unmarked(outcome, mark, self.address)

    def push(self, source: Path, remote: str, *, timeout_s: float) -> None:
        self._copy(
            [str(source), f"{self._host}:{remote}"], f"{source.name} could not be copied to the board", timeout_s
        )

    def pull(self, remote: str, local: Path, *, timeout_s: float) -> None:
        self._copy([f"{self._host}:{remote}", str(local)], f"{remote} could not be copied from the board", timeout_s)

    def reconnect(self) -> bool:
        try:
            return self.run("true", timeout_s=_PROBE_TIMEOUT_S).exit_code == 0
        except (DeviceLost, CommandTimeout):
            return False

    def close(self) -> None:
        """No temporary files."""

    def _copy(self, ends: Sequence[str], problem: str, timeout_s: float) -> None:
        words = ["scp", "-q", *_OPTIONS, *(["-P", self._port] if self._port else []), *ends]
        outcome = run_client(words, timeout_s=timeout_s, what=f"scp with {self.address}")
        if outcome.exit_code:
            if "No space left" in outcome.stderr:
                raise DataError(f"{problem}: its storage is full; free some space on it and run again")
            if not self.reconnect():
                raise self._gone(outcome)
            raise DataError(f"{problem}: {quote(outcome.stderr)}")

    def _gone(self, outcome: Outcome) -> DeviceLost:
        return DeviceLost(
            f"{self.address} cannot be reached: {quote(outcome.stderr)}; try `ssh {self._host} true`, which must "
            "not ask for a password (`ssh-copy-id` sets up a key)"
        )
