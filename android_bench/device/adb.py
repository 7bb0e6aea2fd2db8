"""Phones over adb. The real client does the transport; every call names the device and has a timeout."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocess.errors import DataError, MissingComponentError, UsageError

from .errors import CommandTimeout, DeviceLost, quote
from .target import FOLDER, Outcome, marked, run_client, unmarked

ROOT = f"/data/local/tmp/{FOLDER}"
_SERVER_TIMEOUT_S = 20.0  # starting the adb server takes a few seconds
_ALLOW = (
    "unlock the phone, tick `Always allow from this computer` and tap `Allow`; where it does not ask, revoke USB "
    "debugging authorisations in the developer options and plug it in again"
)
REMEDIES = {
    "unauthorized": _ALLOW,
    "authorizing": _ALLOW,
    "offline": "unplug it and plug it in again, or run `adb reconnect offline`",
    "no permissions": "install the udev rules (`apt install android-sdk-platform-tools-common`), unplug it and plug it "
    "in again",
    "recovery": "start Android on it",
    "sideload": "start Android on it",
    "bootloader": "start Android on it",
}
_LOST = re.compile(
    r"device '?[^']*'? ?not found|no devices/emulators found|device offline|device unauthorized|device still "
    r"(authorizing|connecting)|protocol fault|connection reset|closed$|failed to (read|write)|couldn't read from device"
    r"|Connection refused|Broken pipe|no response",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Listed:
    """A line of `adb devices -l`: serial, state (`device` when it can be used) and what it says beyond."""

    serial: str
    state: str
    details: dict[str, str]

    @property
    def remedy(self) -> str | None:
        """What to do about a device that cannot be used; None for one that can."""
        if self.state == "device":
            return None
        return REMEDIES.get(self.state, "unplug it and plug it in again")


def parse_devices(text: str) -> tuple[Listed, ...]:
    """Of `adb devices -l`. Lines that are no device, such as those of a server that starts, are left out."""
    found = []
    for line in text.partition("List of devices attached")[2].splitlines():
        match = re.match(r"(\S+)\s+(no permissions|[a-z]+)\b(.*)", line)
        if match and not line.startswith("*"):
            details = dict(word.split(":", 1) for word in match[3].split() if ":" in word)
            found.append(Listed(match[1], match[2], details))
    return tuple(found)


def list_devices() -> tuple[Listed, ...]:
    """Devices that adb knows.

    Raises:
        MissingComponentError: adb is not installed, or its server does not start.
    """
    outcome = _adb(["devices", "-l"], timeout_s=_SERVER_TIMEOUT_S)
    if outcome.exit_code:
        raise MissingComponentError(f"`adb devices` failed: {quote(outcome.stderr)}; run `adb start-server` and look")
    return parse_devices(outcome.stdout)


def _adb(words: Sequence[str], *, timeout_s: float) -> Outcome:
    if shutil.which("adb") is None:
        raise MissingComponentError(
            "adb is not installed; run `apt install adb`, or get Google's platform tools from "
            "https://developer.android.com/tools/releases/platform-tools and put them on the PATH"
        )
    return run_client(["adb", *words], timeout_s=timeout_s, what=f"adb {words[2 if words[0] == '-s' else 0]}")


class AdbTarget:
    """A device by its serial."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.address = f"adb://{serial}"
        self.root = ROOT

    @classmethod
    def find(cls, serial: str) -> AdbTarget:
        """The device, after a look whether it can be used; without a serial the only one.

        Raises:
            MissingComponentError: adb or the device is not there, or it cannot be used.
            UsageError: several devices and no serial.
        """
        listed = list_devices()
        known = ", ".join(own.serial for own in listed) or "none"
        if not serial and len(listed) > 1:
            raise UsageError(f"--target is 'adb://', but several devices are connected: {known}; add the serial")
        chosen = next((own for own in listed if own.serial == serial or not serial), None)
        if chosen is None:
            what = f"device {serial!r} is not connected" if serial else "no device is connected"
            raise MissingComponentError(
                f"{what} (adb sees {known}); plug it in with USB debugging on, see docs/phone.md, and look with "
                "`python -m android_bench devices`"
            )
        if chosen.remedy:
            raise MissingComponentError(f"{chosen.serial} is {chosen.state}: {chosen.remedy}")
        return cls(chosen.serial)

    def run(self, script: str, *, timeout_s: float) -> Outcome:
        text, mark = marked(script)
        outcome = self._call(["shell", text], timeout_s=timeout_s)
        return unmarked(outcome, mark, self.address)

    def push(self, source: Path, remote: str, *, timeout_s: float) -> None:
        self._move(["push", str(source), remote], f"{source.name} could not be copied to the device", timeout_s)

    def pull(self, remote: str, local: Path, *, timeout_s: float) -> None:
        self._move(["pull", remote, str(local)], f"{remote} could not be copied from the device", timeout_s)

    def reconnect(self) -> bool:
        try:
            if re.fullmatch(r"[\w.\-]+:\d+", self.serial):
                _adb(["connect", self.serial], timeout_s=_SERVER_TIMEOUT_S)
            return any(own.serial == self.serial and own.state == "device" for own in list_devices())
        except (MissingComponentError, CommandTimeout):
            return False

    def close(self) -> None:
        """Nothing is held."""

    def _move(self, words: Sequence[str], problem: str, timeout_s: float) -> None:
        outcome = self._call(words, timeout_s=timeout_s)
        if outcome.exit_code:
            said = outcome.stderr + outcome.stdout
            if "No space left" in said:
                raise DataError(f"{problem}: its storage is full; free some space on it and run again")
            if self._lost(outcome):
                raise self._gone(said)
            raise DataError(f"{problem}: {quote(said)}")

    def _call(self, words: Sequence[str], *, timeout_s: float) -> Outcome:
        outcome = _adb(["-s", self.serial, *words], timeout_s=timeout_s)
        if outcome.exit_code and words[0] == "shell" and _LOST.search(outcome.stderr):
            raise self._gone(outcome.stderr)
        return outcome

    def _lost(self, outcome: Outcome) -> bool:
        """Whether a failed copy is the connection's fault. The device's list is asked, since messages vary."""
        if _LOST.search(outcome.stderr):
            return True
        return not any(own.serial == self.serial and own.state == "device" for own in list_devices())

    def _gone(self, said: str) -> DeviceLost:
        return DeviceLost(f"{self.address} went away: {quote(said)}; connect it and run again")
