"""Where a tool can run: one small interface for a phone over adb, a board over ssh, and this machine.

The design follows Arm's devlib: a target runs a command with separate streams and an exit code, and moves files.
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

from preprocess.errors import DataError, UsageError

from .errors import CommandTimeout, DeviceLost, quote

FOLDER = "pocket-har"


@dataclass(frozen=True)
class Outcome:
    """Of a command: both streams as text (what is no UTF-8 is replaced) and the exit code."""

    stdout: str
    stderr: str
    exit_code: int


class Target(Protocol):
    """A device.

    Attributes:
        address: as the user wrote it.
        root: absolute folder on the device below which everything of ours lies.
    """

    address: str
    root: str

    def run(self, script: str, *, timeout_s: float) -> Outcome:
        """Runs a script of the POSIX shell. A command that fails is an outcome, not an error.

        Raises:
            DeviceLost: the device went away, or the outcome did not arrive whole.
            CommandTimeout: it did not end in time.
        """

    def push(self, source: Path, remote: str, *, timeout_s: float) -> None:
        """Copies a file to an absolute path whose folder exists.

        Raises:
            DeviceLost, CommandTimeout: as `run`.
            DataError: the device does not take it, as when it is full.
        """

    def pull(self, remote: str, local: Path, *, timeout_s: float) -> None:
        """Copies a file from the device; raises as `push`. After an error `local` may hold a part of it."""

    def reconnect(self) -> bool:
        """Whether the device answers, after one try to reach it anew. Never raises for a device that does not."""

    def close(self) -> None:
        """Removes what only this object needed."""


def parse_target(text: str) -> Target:
    """The target of an address.

    Args:
        text: `adb://SERIAL` (`adb://` where one device is connected), `ssh://USER@HOST[:PORT]` or `local://`.

    Raises:
        UsageError: another address.
        MissingComponentError: the program or the device is not there.
    """
    from .adb import AdbTarget
    from .ssh import SshTarget

    scheme, separator, rest = text.partition("://")
    if separator and scheme == "adb":
        return AdbTarget.find(rest)
    if separator and scheme == "ssh" and rest and not rest.startswith("-"):
        return SshTarget(rest)
    if text == "local://":
        return LocalTarget()
    raise UsageError(f"--target is {text!r}; write adb://SERIAL, ssh://USER@HOST or local://")


class LocalTarget:
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


def run_client(words: Sequence[str], *, timeout_s: float, what: str) -> Outcome:
    """Runs a program of this machine in a session of its own, which ends with it.

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
    """A script that says at the end of its standard output how it ended, and the mark it says it with.

    adb exits with 0 when the connection breaks, and ssh with 255 as the command may, too: only the mark tells.
    """
    mark = f"--{uuid.uuid4().hex}"
    return f"sh -c {shlex.quote(script)}; code=$?; echo; echo {mark} $code", mark


def unmarked(outcome: Outcome, mark: str, address: str) -> Outcome:
    """The outcome of the script inside `marked`.

    Raises:
        DeviceLost: the end is missing.
    """
    stdout, found, code = outcome.stdout.rpartition(f"\n{mark} ")
    if not found or not re.fullmatch(r"\d+\n", code):
        said = f": {quote(outcome.stderr)}" if outcome.stderr.strip() else ""
        raise DeviceLost(
            f"{address} went away while a command ran and its output is cut off{said}; connect it and run again"
        )
    return Outcome(stdout, outcome.stderr, int(code))


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace").replace("\r\n", "\n")
