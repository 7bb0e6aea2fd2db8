"""Phones over adb. The installed client does the transport; every call names the device and has a timeout."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from preprocess.errors import MissingComponentError, UsageError

from .connection import (
    FOLDER,
    CommandTimeout,
    Connection,
    DeviceLost,
    Outcome,
    copy_error,
    marked,
    quote,
    run_client,
    unmarked,
)

_SERVER_TIMEOUT_S = 20.0  # starting the adb server takes a few seconds
_ALLOW = (
    "unlock the phone, tick `Always allow from this computer` and tap `Allow`; where it does not ask, revoke USB "
    "debugging authorisations in the developer options and plug it in again"
)
_REMEDIES = {
    "unauthorized": _ALLOW,
    "authorizing": _ALLOW,
    "offline": "unplug it and plug it in again, or run `adb reconnect offline`",
    "no permissions": "install the udev rules (`apt install android-sdk-platform-tools-common`), unplug it and plug it "
    "in again",
    **dict.fromkeys(("recovery", "sideload", "bootloader"), "start Android on it"),
}
_LOST = re.compile(
    r"device '?[^']*'? ?not found|no devices/emulators found|device offline|device unauthorized|device still "
    r"(authorizing|connecting)|protocol fault|connection reset|closed$|failed to (read|write)|couldn't read from device"
    r"|Connection refused|Broken pipe|no response",
    re.MULTILINE | re.IGNORECASE,
)


def remedy(state: str) -> str | None:
    """Advice for a device in a state that adb lists; None for `device`, which can be used."""
    return None if state == "device" else _REMEDIES.get(state, "unplug it and plug it in again")


def parse_devices(text: str) -> dict[str, str]:
    """States by serial number, from `adb devices -l`. Messages of a starting server are skipped."""
    lines = text.partition("List of devices attached")[2].splitlines()
    matches = [re.match(r"(\S+)\s+(no permissions|[a-z]+)\b", line) for line in lines if not line.startswith("*")]
    return {match[1]: match[2] for match in matches if match}


def list_devices() -> dict[str, str]:
    """States of the devices that adb knows, by serial number.

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


class AdbConnection(Connection):
    """A phone by its serial number."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.address = f"adb://{serial}"
        self.root = f"/data/local/tmp/{FOLDER}"

    @classmethod
    def find(cls, serial: str) -> AdbConnection:
        """The phone, once adb lists it as usable; without a serial number the only one.

        Raises:
            MissingComponentError: adb or the device is missing, or the device cannot be used.
            UsageError: several devices and no serial number.
        """
        states = list_devices()
        known = ", ".join(states) or "none"
        if not serial and len(states) > 1:
            raise UsageError(f"--target is 'adb://', but several devices are connected: {known}; add the serial")
        serial = serial or next(iter(states), "")
        if serial not in states:
            what = f"device {serial!r} is not connected" if serial else "no device is connected"
            raise MissingComponentError(
                f"{what} (adb lists {known}); plug it in with USB debugging on, see docs/phone.md, and look with "
                "`python -m android_bench devices`"
            )
        if advice := remedy(states[serial]):
            raise MissingComponentError(f"{serial} is {states[serial]}: {advice}")
        return cls(serial)

    def run(self, script: str, *, timeout_s: float) -> Outcome:
        text, mark = marked(script)
        return unmarked(self._call(["shell", text], timeout_s=timeout_s), mark, self.address)

    def push(self, source: Path, remote: str, *, timeout_s: float) -> None:
        self._move(["push", str(source), remote], f"{source.name} could not be copied to the device", timeout_s)

    def pull(self, remote: str, local: Path, *, timeout_s: float) -> None:
        self._move(["pull", remote, str(local)], f"{remote} could not be copied from the device", timeout_s)

    def reconnect(self) -> bool:
        try:
            if re.fullmatch(r"[\w.\-]+:\d+", self.serial):
                _adb(["connect", self.serial], timeout_s=_SERVER_TIMEOUT_S)
            return list_devices().get(self.serial) == "device"
        except (MissingComponentError, CommandTimeout):
            return False

    def _move(self, words: Sequence[str], problem: str, timeout_s: float) -> None:
        outcome = self._call(words, timeout_s=timeout_s)
        if outcome.exit_code:
            message = outcome.stderr + outcome.stdout
            # Messages of a broken connection vary, so the list of devices decides.
            lost = _LOST.search(outcome.stderr) or list_devices().get(self.serial) != "device"
            if lost and "No space left" not in message:
                raise self._gone(message)
            raise copy_error(problem, message)

    def _call(self, words: Sequence[str], *, timeout_s: float) -> Outcome:
        outcome = _adb(["-s", self.serial, *words], timeout_s=timeout_s)
        if outcome.exit_code and words[0] == "shell" and _LOST.search(outcome.stderr):
            raise self._gone(outcome.stderr)
        return outcome

    def _gone(self, message: str) -> DeviceLost:
        return DeviceLost(f"{self.address} went away: {quote(message)}; connect it and run again")
