"""What can go wrong with a device, as errors of one line."""

from __future__ import annotations

from preprocess.errors import DataError, MissingComponentError


class DeviceLost(MissingComponentError):
    """The device does not answer any more: unplugged, switched off, or out of the network."""


class CommandTimeout(DataError):
    """A command on the device did not end in its time."""


class ToolFailed(DataError):
    """A tool ended with an error, or its output is not understood; the message quotes it."""


def quote(text: str, limit: int = 160) -> str:
    """The end of an output, where errors stand, on one line."""
    line = " | ".join(part.strip() for part in text.splitlines() if part.strip())
    return repr(line if len(line) <= limit else f"… {line[-limit:]}")
