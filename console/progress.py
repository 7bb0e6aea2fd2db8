"""A progress bar with an estimate of the time left; a plain line every 15 s where standard error is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_Item = TypeVar("_Item")
_LOG_EVERY_S = 15.0
_DRAW_EVERY_S = 0.1


class Progress:
    """Counts work done and shows it on standard error.

    Use as a context manager; call `advance` for every unit of work. `note` is shown behind the bar.
    """

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._note = ""
        self._start = time.monotonic()
        self._last = self._start
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._terminal:
            self._draw()
            sys.stderr.write("\n")

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Counts `amount` units as done."""
        self._done += amount
        if note is not None:
            self._note = note
        now = time.monotonic()
        if now - self._last >= (_DRAW_EVERY_S if self._terminal else _LOG_EVERY_S):
            self._last = now
            self._draw()

    def _draw(self) -> None:
        elapsed = time.monotonic() - self._start
        left = elapsed / self._done * (self._total - self._done) if self._done else 0.0
        fraction = self._done / self._total if self._total else 1.0
        text = f"{self._label} {self._done}/{self._total} {format_duration(elapsed)}"
        if self._done < self._total:
            text += f", {format_duration(left)} left"
        if self._note:
            text += f"  {self._note}"
        if self._terminal:
            filled = round(20 * fraction)
            sys.stderr.write(f"\r\033[K[{'#' * filled}{'.' * (20 - filled)}] {text}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def track(items: Iterable[_Item], label: str, total: int) -> Iterator[_Item]:
    """Yields `items` and shows how many of `total` have been consumed."""
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()


def format_duration(seconds: float) -> str:
    """`7 s`, `3:05 min` or `2:10 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
