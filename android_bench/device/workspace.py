"""The project's folder on a device: only changed files are copied, and the folder is removed at the end."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from console.program import log, warn
from preprocess.errors import DataError, UsageError
from runtime.manifest import file_sha256

from .connection import CommandTimeout, Connection, DeviceLost, Outcome, quote

PID = "tool.pid"
_KEPT = ".keep"
_COMMAND_TIMEOUT_S = 30.0
_SLOWEST_BYTES_PER_S = 200_000  # a slower copy is given up
RECONNECT_S = 20.0  # how long the clean-up waits for a device that went away

# Ends the running tool of the current folder. The folder of the process is checked, since numbers are reused.
_END_TOOL = (
    f'p=$(cat {PID} 2>/dev/null); [ -n "$p" ] && [ "$(readlink /proc/$p/cwd)" = "$(pwd -P)" ] && kill -9 $p; true'
)


@dataclass(frozen=True)
class DeviceFile:
    """A file to copy: its path here, its name below the folder on the device, and whether it is a program."""

    local: Path
    name: str
    program: bool = False


class Workspace:
    """A folder on a device with the files of a run."""

    def __init__(self, device: Connection, folder: str) -> None:
        self.device = device
        self.folder = folder

    def run_tool(self, words: Sequence[str], environment: Mapping[str, str], *, timeout_s: float) -> Outcome:
        """Runs a program in the folder. Raises as `Connection.run`; after an error the program is ended."""
        settings = "".join(f"export {name}={shlex.quote(value)} && " for name, value in environment.items())
        script = f"cd {shlex.quote(self.folder)} && echo $$ > {PID} && {settings}exec {shlex.join(words)}"
        try:
            return self.device.run(script, timeout_s=timeout_s)
        except CommandTimeout:
            self.device.run(f"cd {shlex.quote(self.folder)} && {_END_TOOL}", timeout_s=_COMMAND_TIMEOUT_S)
            raise CommandTimeout(
                f"the tool did not end within {timeout_s:g} s on {self.device.address} and was ended; try another one"
            ) from None

    def read(self, name: str) -> str:
        """Text of a file that a tool wrote. Raises as `Connection.pull`."""
        with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
            local = Path(folder, "file")
            self.device.pull(f"{self.folder}/{name}", local, timeout_s=_COMMAND_TIMEOUT_S)
            return local.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def workspace(device: Connection, files: Sequence[DeviceFile], *, keep: bool = False) -> Iterator[Workspace]:
    """The folder with the files in it; removed at the end, also after an error or an interrupt.

    Its name is the hash of its contents. A kept folder is renamed to it; folders that an earlier run failed to remove
    are removed first. `keep` leaves the folder for the next run, which copies only changed files.

    Raises:
        DeviceLost, CommandTimeout, DataError: as the functions of `Connection`.
        UsageError: another run of this user uses the device.
    """
    hashes = {file.name: file_sha256(file.local) for file in files}
    digest = hashlib.sha256("".join(f"{name}\n{hashes[name]}\n" for name in sorted(hashes)).encode()).hexdigest()
    folder = f"{device.root}/{digest[:16]}"
    with _only_run_on(device.address):
        try:
            _tidy(device, digest[:16])
            _copy(device, folder, files, hashes)
            yield Workspace(device, folder)
        finally:
            _leave(device, folder, keep=keep)


@contextlib.contextmanager
def _only_run_on(address: str) -> Iterator[None]:
    """Refuses a second run on the device: both would slow each other down."""
    if address == "local://":
        address = f"{address}{os.getpid()}"
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"pocket-har-{os.getuid()}-{name}.lock")
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{address} is being measured by another run; wait until that ends") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _tidy(device: Connection, ours: str) -> None:
    """Removes the other folders; a kept one is renamed to ours if there is none yet."""
    script = (
        f"cd {shlex.quote(device.root)} 2>/dev/null || exit 0; for f in */; do f=${{f%/}}; "
        f'[ -d "$f" ] && [ "$f" != {ours} ] || continue; if [ -e "$f/{_KEPT}" ]; then '
        f'[ -e {ours} ] || {{ mv "$f" {ours}; continue; }}; else echo "$f"; fi; '
        f'(cd "$f" && {_END_TOOL}) && rm -rf "$f"; done; true'
    )
    removed = device.run(script, timeout_s=_COMMAND_TIMEOUT_S).stdout.split()
    if removed:
        log(f"{device.address}: removed {len(removed)} folders of an interrupted run")


def _copy(device: Connection, folder: str, files: Sequence[DeviceFile], hashes: Mapping[str, str]) -> None:
    """Copies new and changed files, removes others; every file appears complete."""
    place = shlex.quote(folder)
    subfolders = sorted({f"{folder}/{Path(file.name).parent}" for file in files})
    script = (
        f"mkdir -p {shlex.join(subfolders)} && cd {place} && rm -f {_KEPT} && "
        "{ find . -type f -exec sha256sum {} + 2>/dev/null; true; }"
    )
    outcome = device.run(script, timeout_s=_COMMAND_TIMEOUT_S)
    if outcome.exit_code:
        raise DataError(
            f"{device.address} cannot create the folder {folder}: {quote(outcome.stderr)}; free some space on it"
        )
    lines = [line.split(None, 1) for line in outcome.stdout.splitlines() if line.strip()]
    present = {name.removeprefix("./"): digest for digest, name in lines}
    if others := sorted(present.keys() - hashes.keys()):
        device.run(f"cd {place} && rm -f -- {shlex.join(others)}", timeout_s=_COMMAND_TIMEOUT_S)
    for file in files:
        if present.get(file.name) != hashes[file.name]:
            size = file.local.stat().st_size
            log(f"{device.address}: copying {file.name} ({size / 1e6:.2f} MB)")
            remote = f"{folder}/{file.name}"
            device.push(file.local, f"{remote}.part", timeout_s=_COMMAND_TIMEOUT_S + size / _SLOWEST_BYTES_PER_S)
            final, mode = shlex.quote(remote), "755" if file.program else "644"
            script = f"chmod {mode} {final}.part && mv {final}.part {final}"
            outcome = device.run(script, timeout_s=_COMMAND_TIMEOUT_S)
            if outcome.exit_code:
                raise DataError(f"{file.name} could not be put in place on {device.address}: {quote(outcome.stderr)}")


def _leave(device: Connection, folder: str, *, keep: bool) -> None:
    """Ends the tool and removes the folder; waits RECONNECT_S for a device that went away."""
    place = shlex.quote(folder)
    last = f"touch {_KEPT}; rm -f {PID}" if keep else f"cd / && rm -rf {place} && rmdir {shlex.quote(device.root)}"
    script = f"cd {place} 2>/dev/null || exit 0; {_END_TOOL}; {last} 2>/dev/null; true"
    end = time.monotonic() + RECONNECT_S
    while True:
        try:
            device.run(script, timeout_s=_COMMAND_TIMEOUT_S)
            return
        except (DeviceLost, CommandTimeout):
            while not device.reconnect() and time.monotonic() < end:
                time.sleep(0.5)
        if time.monotonic() >= end:
            warn(f"{folder} is still on {device.address}, which does not answer; the next run removes it")
            return
