"""How often and how long a tool runs: quick for every day, official as MLPerf Mobile asks, sustained for the heat."""

from __future__ import annotations

import re
from dataclasses import dataclass

from preprocess.errors import UsageError


@dataclass(frozen=True)
class Protocol:
    """A way to measure.

    Attributes:
        name: `quick`, `official` or `sustained`.
        processes: of the tool; in a sustained run as many as fit into `duration_s`, without a break.
        warmup_runs: inferences of each process that do not count.
        fewest_runs, fewest_s: inferences that count, and their time, of each process; both are reached.
        most_s: after which a process stops in any case.
        needs_p90: whether the figure is the 90th percentile, which not every tool tells.
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
        """After which a process hangs: warm-up, loading and slow phones are allowed for."""
        return 2 * self.most_s + 120


QUICK = Protocol("quick", 5, 5, 20, 1.0, 30.0, False, 0.0, 2.0)
# MLPerf Mobile (Janapa Reddi et al. 2022, section 5): 1,024 samples and 60 s at least, 90th percentile.
OFFICIAL = Protocol("official", 1, 5, 1024, 60.0, 1200.0, True, 0.0, 5.0)


def sustained(text: str) -> Protocol:
    """A run of `30m`, `90s` or `1h` in processes of a minute.

    Raises:
        UsageError: no such time, or less than two minutes, which make no curve.
    """
    found = re.fullmatch(r"(\d+)([smh])", text)
    seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if not 120 <= seconds <= 24 * 3600:
        raise UsageError(f"--sustained is {text!r}; write a time from 2m to 24h, such as 30m")
    return Protocol("sustained", seconds // 60, 5, 1, 60.0, 90.0, False, float(seconds), 10.0)
