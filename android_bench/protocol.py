"""How often and how long a tool runs: quick for every day, official as MLPerf Mobile asks, sustained for the heat."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Processes of a tool and inferences in each.

    Attributes:
        name: `quick`, `official` or `sustained`.
        processes: of the tool; a sustained run starts as many as fit into `duration_s`, without a break.
        warmup_runs: inferences of each process that do not count.
        fewest_runs, fewest_s: minimum of counted inferences, and of their time, in each process; both are reached.
        most_s: maximum of a process.
        needs_p90: whether the figure is the 90th percentile, which not every tool reports.
        duration_s: of a sustained run; 0 for the others.
        reading_interval_s: between readings of temperature and frequencies.
    """

    name: str
    processes: int
    warmup_runs: int
    fewest_runs: int
    fewest_s: float
    most_s: float
    needs_p90: bool
    duration_s: float
    reading_interval_s: float

    @property
    def process_timeout_s(self) -> float:
        """Limit for a process, with time for warm-up, loading and slow phones."""
        return 2 * self.most_s + 120


QUICK = Schedule("quick", 5, 5, 20, 1.0, 30.0, False, 0.0, 2.0)
# MLPerf Mobile (Janapa Reddi et al. 2022, section 5): 1,024 samples and 60 s at least, 90th percentile.
OFFICIAL = Schedule("official", 1, 5, 1024, 60.0, 1200.0, True, 0.0, 5.0)


def duration(text: str) -> str:
    """Argument type: a time for `sustained`, two minutes (less makes no curve) to a day."""
    if not 120 <= _seconds(text) <= 24 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time from 2m to 24h, such as 30m")
    return text


def sustained(text: str) -> Schedule:
    """A run of `30m`, `150s` or `1h` in processes of a minute."""
    seconds = _seconds(text)
    return Schedule("sustained", seconds // 60, 5, 1, 60.0, 90.0, False, float(seconds), 10.0)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)([smh])", text)
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0
