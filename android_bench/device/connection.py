"""A connection to a device: one interface for a phone over adb (`adb.py`), a board over ssh, and this machine.

The design follows Arm's devlib: a connection runs a command with separate streams and an exit code, and moves files.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from preprocess.errors import DataError, MissingComponentError, UsageError

FOLDER = "pocket-har"
_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5")
_PROBE_TIMEOUT_S = 20.0


class DeviceLost(MissingComponentError):
    """The device stopped answering: unplugged, switched off, or out of the network."""


class CommandTimeout(DataError):
    """A command on the device did not end in time."""


@dataclass(frozen=True)
class Outcome:
    """Result of a command: both streams as text (invalid UTF-8 is replaced) and the exit code."""

    stdout: str
    stderr: str
    exit_code: int


class Connection(Protocol):
    """A connected device.

    Attributes:
        address: as the user wrote it.
        root: absolute folder on the device; all our files lie below it.
    """

    address: str
    root: str

    def run(self, script: str, *, timeout_s: float) -> Outcome:
        """Runs a POSIX shell script. A command that fails is an outcome, not an error.

        Raises:
            DeviceLost: the device went away, or the outcome arrived incomplete.
            CommandTimeout: the script did not end in time.
        """

    def push(self, source: Path, remote: str, *, timeout_s: float) -> None:
        """Copies a file to an absolute path whose folder exists.

        Raises:
            DeviceLost, CommandTimeout: as `run`.
            DataError: the device refuses the file, for example because its storage is full.
        """

    def pull(self, remote: str, local: Path, *, timeout_s: float) -> None:
        """Copies a file from the device; raises as `push`. After an error `local` may hold a part of it."""

    def reconnect(self) -> bool:
        """Whether the device answers, after one attempt to reconnect. Never raises for an absent device."""

    def close(self) -> None:
        """Removes the temporary files of this object."""
        return


class LocalConnection(Connection):
    """This machine, in a private folder."""

    def __init__(self) -> None:
        self.address = "local://"
        self._folder = tempfile.mkdtemp(prefix="pocket-har-")
        self.root = f"{self._folder}/{FOLDER}"

    def run(self, script: str, *, timeout_s: float) -> Outcome:
        return run_client(["sh", "-c", script], timeout_s=timeout_s, what="local command")

    def push(self, source: Path, remote: str, *, timeout_s: float) -> None:
        self._copy(source, Path(remote))

    def pull(self, remote: str, local: Path, *, timeout_s: float) -> None:
        self._copy(Path(remote), local)

    def reconnect(self) -> bool:
        return True

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _copy(self, source: Path, destination: Path) -> None:
        try:
            shutil.copyfile(source, destination)
        except OSError as error:
            raise DataError(f"{source} could not be copied to {destination}: {error.strerror}") from error


class SshConnection(Connection):
    """A board by `USER@HOST` or `USER@HOST:PORT`. A key must be set up: `ssh` and `scp` ask for no password."""

    def __init__(self, destination: str) -> None:
        for program in ("ssh", "scp"):
            if shutil.which(program) is None:
                raise MissingComponentError(f"{program} is not installed; run `apt install openssh-client`")
        self.address = f"ssh://{destination}"
        self.root = f"/tmp/{FOLDER}"
        self._host, colon, self._port = destination.partition(":")
        if colon and not self._port.isdigit():
            raise UsageError(f"--target is {self.address!r}; write ssh://USER@HOST or ssh://USER@HOST:PORT")

    def run(self, script: str, *, timeout_s: float) -> Outcome:
        text, mark = marked(script)
        # The login shell may be any shell; the marks are written for sh.
        words = ["ssh", *_SSH_OPTIONS, *(["-p", self._port] if self._port else []), self._host]
        outcome = run_client(
            [*words, f"sh -c {shlex.quote(text)}"], timeout_s=timeout_s, what=f"command on {self.address}"
        )
        if mark not in outcome.stdout and outcome.exit_code == 255:
            raise self._gone(outcome)
        return unmarked(outcome, mark, self.address)

    def push(self, source: Path, remote: str, *, timeout_s: float) -> None:
        problem = f"{source.name} could not be copied to the board"
        self._copy(str(source), f"{self._host}:{remote}", problem, timeout_s)

    def pull(self, remote: str, local: Path, *, timeout_s: float) -> None:
        problem = f"{remote} could not be copied from the board"
        self._copy(f"{self._host}:{remote}", str(local), problem, timeout_s)

    def reconnect(self) -> bool:
        try:
            return self.run("true", timeout_s=_PROBE_TIMEOUT_S).exit_code == 0
        except (DeviceLost, CommandTimeout):
            return False

    def _copy(self, source: str, destination: str, problem: str, timeout_s: float) -> None:
        port = ["-P", self._port] if self._port else []
        words = ["scp", "-q", *_SSH_OPTIONS, *port, source, destination]
        outcome = run_client(words, timeout_s=timeout_s, what=f"scp with {self.address}")
        if outcome.exit_code:
            if "No space left" not in outcome.stderr and not self.reconnect():
                raise self._gone(outcome)
            raise copy_error(problem, outcome.stderr)

    def _gone(self, outcome: Outcome) -> DeviceLost:
        return DeviceLost(
            f"{self.address} cannot be reached: {quote(outcome.stderr)}; try `ssh {self._host} true`, which must "
            "not ask for a password (`ssh-copy-id` sets up a key)"
        )


def run_client(words: Sequence[str], *, timeout_s: float, what: str) -> Outcome:
    """Runs a program of this machine in a new session, which ends with it.

    Raises:
        CommandTimeout: it did not end in time; it and its children are killed then, as at an interrupt.
    """
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise CommandTimeout(f"{what} did not end within {timeout_s:g} s; look at the device and try again") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Outcome(_text(stdout), _text(stderr), process.returncode)


def marked(script: str) -> tuple[str, str]:
    """The script followed by a line with a random mark and the exit code, and the mark.

    adb exits with 0 when the connection breaks, and ssh with 255, as the command may: only the mark proves that the
    output is complete.
    """
    mark = f"--{uuid.uuid4().hex}"
    return f"sh -c {shlex.quote(script)}; code=$?; echo; echo {mark} $code", mark


def unmarked(outcome: Outcome, mark: str, address: str) -> Outcome:
    """The outcome of the script inside `marked`.

    Raises:
        DeviceLost: the mark is missing.
    """
    stdout, separator, code = outcome.stdout.rpartition(f"\n{mark} ")
    if not separator or not re.fullmatch(r"\d+\n", code):
        reason = f": {quote(outcome.stderr)}" if outcome.stderr.strip() else ""
        raise DeviceLost(
            f"{address} went away while a command ran and its output is cut off{reason}; connect it and run again"
        )
    return Outcome(stdout, outcome.stderr, int(code))


def copy_error(problem: str, message: str) -> DataError:
    """The error of a copy that the device refused."""
    if "No space left" in message:
        return DataError(f"{problem}: its storage is full; free some space on it and run again")
    return DataError(f"{problem}: {quote(message)}")


def quote(text: str, limit: int = 160) -> str:
    """The end of an output, where errors stand, on one line."""
    line = " | ".join(part.strip() for part in text.splitlines() if part.strip())
    return repr(line if len(line) <= limit else f"… {line[-limit:]}")


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace").replace("\r\n", "\n")
