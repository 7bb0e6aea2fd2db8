"""Watching a device: readings while a tool runs, and waiting until it is cool."""

from __future__ import annotations

import threading
import time

from benchmarks.measure.device_records import Reading
from preprocess.errors import PocketHarError

from .probe import State, read_state
from .target import Target

COOL_WITHIN_C = 2.0  # of the temperature before the first process
COOL_TIMEOUT_S = 180.0
_COOL_INTERVAL_S = 2.0


class Watch:
    """Takes readings in a thread while the block runs. What it misses leaves a reason in `failure`."""

    def __init__(self, target: Target, source: str | None, *, start_s: float, interval_s: float) -> None:
        self.readings: list[Reading] = []
        self.failure: str | None = None
        self._target, self._source, self._start_s, self._interval_s = target, source, start_s, interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _take(self) -> None:
        # The first reading is not of the loading alone.
        while not self._stop.wait(self._interval_s / 2 if not self.readings else self._interval_s):
            try:
                state = read_state(self._target, self._source)
            except PocketHarError as error:
                # Where the device is gone, the tool's own call tells.
                self.failure = str(error)
                return
            self.readings.append(reading(state, self._start_s))


def reading(state: State, start_s: float) -> Reading:
    """For the record; `start_s` by the monotonic clock of this machine."""
    return Reading(round(state.host_s - start_s, 3), state.celsius, state.frequencies_khz)


def cool_down(target: Target, source: str | None, limit_c: float) -> State:
    """Waits until the watched sensor is at `limit_c` or below and Android does not throttle, or COOL_TIMEOUT_S are up.

    Returns the last state. Raises as `read_state`.
    """
    end = time.monotonic() + COOL_TIMEOUT_S
    while True:
        state = read_state(target, source)
        if is_cool(state, limit_c) or time.monotonic() >= end:
            return state
        time.sleep(_COOL_INTERVAL_S)


def is_cool(state: State, limit_c: float) -> bool:
    """Whether a run may start. A device without sensors is never known to be warm."""
    return (state.celsius is None or state.celsius <= limit_c) and not state.thermal_status
