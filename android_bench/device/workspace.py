"""Our own folder on a device: what is in it already stays, what changed is copied, and at the end it goes away."""

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

from .errors import CommandTimeout, DeviceLost, quote
from .target import Outcome, Target

PID = "tool.pid"
_KEPT = ".keep"
_COMMAND_TIMEOUT_S = 30.0
_SLOWEST_BYTES_PER_S = 200_000  # of a copy, before it is given up
RECONNECT_S = 20.0  # how long a device that went away is waited for, to clean up

# Ends the tool of the folder it is in, if it runs. A process that merely has its old number runs elsewhere.
_END_TOOL = (
    f'p=$(cat {PID} 2>/dev/null); [ -n "$p" ] && [ "$(readlink /proc/$p/cwd)" = "$(pwd -P)" ] && kill -9 $p; true'
)


@dataclass(frozen=True)
class DeviceFile:
    """A file to copy: where it is here, its name below our folder, and whether it is a program."""

    local: Path
    name: str
    program: bool = False


class Workspace:
    """A folder on a device with the files of a run."""

    def __init__(self, target: Target, folder: str) -> None:
        self.target = target
        self.folder = folder

    def run_tool(self, words: Sequence[str], environment: Mapping[str, str], *, timeout_s: float) -> Outcome:
        """Runs a program of the folder, in it. Raises as `Target.run`; after an error the program is ended."""
        settings = "".join(f"export {name}={shlex.quote(value)} && " for name, value in environment.items())
        script = f"cd {shlex.quote(self.folder)} && echo $$ > {PID} && {settings}exec {shlex.join(words)}"
        try:
            return self.target.run(script, timeout_s=timeout_s)
        except CommandTimeout:
            self.target.run(f"cd {shlex.quote(self.folder)} && {_END_TOOL}", timeout_s=_COMMAND_TIMEOUT_S)
            raise CommandTimeout(
                f"the tool did not end within {timeout_s:g} s on {self.target.address} and was ended; try another one"
            ) from None

    def read(self, name: str) -> str:
        """Text of a file that a tool wrote. Raises as `Target.pull`."""
        with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
            local = Path(folder, "file")
            self.target.pull(f"{self.folder}/{name}", local, timeout_s=_COMMAND_TIMEOUT_S)
            return local.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def workspace(target: Target, files: Sequence[DeviceFile], *, keep: bool = False) -> Iterator[Workspace]:
    """The folder with the files in it; removed at the end, also after an error or an interrupt.

    Its name is the hash of its contents. A folder that was kept becomes this one; those that an earlier run could not
    remove are removed before.

    Args:
        target: the device.
        files: to be there; names are unique.
        keep: leaves the folder to the next run, which copies only what changed.

    Raises:
        DeviceLost, CommandTimeout, DataError: as the functions of `Target`.
        UsageError: another run of this user works on the device.
    """
    hashes = {own.name: file_sha256(own.local) for own in files}
    whole = hashlib.sha256("".join(f"{name}\n{hashes[name]}\n" for name in sorted(hashes)).encode()).hexdigest()
    folder = f"{target.root}/{whole[:16]}"
    with _only_run_on(target.address):
        try:
            _tidy(target, whole[:16])
            _copy(target, folder, files, hashes)
            yield Workspace(target, folder)
        finally:
            _leave(target, folder, keep=keep)


@contextlib.contextmanager
def _only_run_on(address: str) -> Iterator[None]:
    """Two runs on a device would slow each other down."""
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


def _tidy(target: Target, ours: str) -> None:
    """Leaves no folder but ours, which a kept one becomes."""
    script = (
        f"cd {shlex.quote(target.root)} 2>/dev/null || exit 0; for f in */; do f=${{f%/}}; "
        f'[ -d "$f" ] && [ "$f" != {ours} ] || continue; if [ -e "$f/{_KEPT}" ]; then '
        f'[ -e {ours} ] || {{ mv "$f" {ours}; continue; }}; else echo "$f"; fi; '
        f'(cd "$f" && {_END_TOOL}) && rm -rf "$f"; done; true'
    )
    removed = target.run(script, timeout_s=_COMMAND_TIMEOUT_S).stdout.split()
    if removed:
        log(f"{target.address}: removed what an interrupted run had left ({len(removed)} folders)")


def _copy(target: Target, folder: str, files: Sequence[DeviceFile], hashes: Mapping[str, str]) -> None:
    """Copies what is not there in the same form, removes what is not to be there; every file appears whole."""
    place = shlex.quote(folder)
    subfolders = sorted({f"{folder}/{Path(own.name).parent}" for own in files})
    script = (
        f"mkdir -p {shlex.join(subfolders)} && cd {place} && rm -f {_KEPT} && "
        "{ find . -type f -exec sha256sum {} + 2>/dev/null; true; }"
    )
    outcome = target.run(script, timeout_s=_COMMAND_TIMEOUT_S)
    if outcome.exit_code:
        raise DataError(f"{target.address} gives no folder {folder}: {quote(outcome.stderr)}; free some space on it")
    lines = [line.split(None, 1) for line in outcome.stdout.splitlines() if line.strip()]
    there = {name.removeprefix("./"): digest for digest, name in lines}
    if others := sorted(there.keys() - hashes.keys()):
        target.run(f"cd {place} && rm -f -- {shlex.join(others)}", timeout_s=_COMMAND_TIMEOUT_S)
    for own in files:
        if there.get(own.name) != hashes[own.name]:
            size = own.local.stat().st_size
            log(f"{target.address}: copying {own.name} ({size / 1e6:.2f} MB)")
            remote = f"{folder}/{own.name}"
            target.push(own.local, f"{remote}.part", timeout_s=_COMMAND_TIMEOUT_S + size / _SLOWEST_BYTES_PER_S)
            end = f"chmod {'755' if own.program else '644'} {shlex.quote(remote)}.part && mv {shlex.quote(remote)}.part"
            outcome = target.run(f"{end} {shlex.quote(remote)}", timeout_s=_COMMAND_TIMEOUT_S)
            if outcome.exit_code:
                raise DataError(f"{own.name} could not be put in place on {target.address}: {quote(outcome.stderr)}")


def _leave(target: Target, folder: str, *, keep: bool) -> None:
    """Ends the tool and removes the folder; a device that went away is waited for a little."""
    place = shlex.quote(folder)
    last = f"touch {_KEPT}; rm -f {PID}" if keep else f"cd / && rm -rf {place} && rmdir {shlex.quote(target.root)}"
    script = f"cd {place} 2>/dev/null || exit 0; {_END_TOOL}; {last} 2>/dev/null; true"
    end = time.monotonic() + RECONNECT_S
    while True:
        try:
            target.run(script, timeout_s=_COMMAND_TIMEOUT_S)
            return
        except (DeviceLost, CommandTimeout):
            while not target.reconnect():
                if time.monotonic() >= end:
                    warn(f"{folder} is still on {target.address}, which does not answer; the next run removes it")
                    return
                time.sleep(0.5)
        if time.monotonic() >= end:
            warn(f"{folder} is still on {target.address}, which does not answer; the next run removes it")
            return
