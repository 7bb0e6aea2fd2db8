"""The processes of a measurement on a device: cool start, watch, run, parse, and what speaks against the result."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.measure.device_records import Reading, ToolRun
from console.program import log
from console.progress import format_duration

from .device.errors import ToolFailed
from .device.probe import Facts, State, read_state
from .device.watching import COOL_WITHIN_C, Watch, cool_down, is_cool
from .device.workspace import Workspace
from .tools.tool import Request, Tool, ToolResult

CLOCK_WITHIN_S = 3.0  # `date` counts whole seconds, and adb takes its time


@dataclass
class Series:
    """What came out of all processes; the lists of results and runs go together.

    Attributes:
        command: words that ran, without the mask.
        against: reasons why the measurement does not count.
        warnings: what a reader should know.
        profile: result of the extra process that timed the operations, or None.
    """

    command: list[str] = field(default_factory=list)
    results: list[ToolResult] = field(default_factory=list)
    runs: list[ToolRun] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    against: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sensor: str | None = None
    profile: ToolResult | None = None


class SeriesRunner:
    """Runs a tool as often as its protocol says."""

    def __init__(self, place: Workspace, tool: Tool, request: Request, facts: Facts, mask: str | None) -> None:
        self._place, self._tool, self._request, self._facts, self._mask = place, tool, request, facts, mask
        self._start_s = time.monotonic()
        self._series = Series()

    def run(self, *, profile: bool = False) -> Series:
        """All processes, and with `profile` another one that times every operation.

        Raises:
            DeviceLost, CommandTimeout: as `Target.run`.
            ToolFailed: a process failed, or its output is not understood.
        """
        protocol, found = self._request.protocol, self._series
        first = cool_down(self._place.target, self._facts.thermal_source, math.inf)
        found.sensor = first.sensor
        self._check_start(first, math.inf)
        if first.sensor is None:
            found.warnings.append("the device tells no temperature: whether it was cool is not known")
        limit_c = math.inf if first.celsius is None else first.celsius + COOL_WITHIN_C
        runs = self._runs()
        self._start_s = time.monotonic()
        for number in range(protocol.processes):
            if protocol.duration_s and number and time.monotonic() - self._start_s >= protocol.duration_s:
                break
            if number and not protocol.duration_s:
                self._check_start(cool_down(self._place.target, self._facts.thermal_source, limit_c), limit_c)
            self._one(runs, number)
        if profile:
            found.profile = self._process(runs, replace(self._request, profile=True))[0]
        self._check_whole()
        return found

    def _runs(self) -> int:
        """Inferences to ask each process for; where a tool knows no time, a short process tells how many fill it."""
        protocol = self._request.protocol
        if not self._tool.counts_runs_only:
            return protocol.fewest_runs
        result, _, _ = self._process(20, self._request)
        mean_ms = result.inference.mean_ms
        assert mean_ms is not None
        return max(protocol.fewest_runs, math.ceil(1.1 * 1e3 * protocol.fewest_s / mean_ms))

    def _process(self, runs: int, request: Request) -> tuple[ToolResult, list[str], tuple[str, str, int]]:
        words = [f"./{self._tool.name}", *self._tool.command(request, runs=runs)]
        pinned = ["taskset", self._mask, *words] if self._mask else words
        folder = self._place.folder
        # A program loads what lies beside it; Hexagon's part is looked for in a path of its own.
        environment = {"LD_LIBRARY_PATH": folder, "ADSP_LIBRARY_PATH": folder} if request.libraries else {}
        if self._tool.result_file:
            pinned = ["sh", "-c", 'rm -f "$1" && shift && exec "$@"', "sh", self._tool.result_file, *pinned]
        outcome = self._place.run_tool(pinned, environment, timeout_s=request.protocol.process_timeout_s)
        written = ""
        if self._tool.result_file and not outcome.exit_code:
            written = self._place.read(self._tool.result_file)
        result = self._tool.parse(outcome, request, result_file=written)
        stdout = outcome.stdout + (f"\n{self._tool.result_file}:\n{written}" if written else "")
        return result, words, (stdout, outcome.stderr, outcome.exit_code)

    def _one(self, runs: int, number: int) -> None:
        target, source, found = self._place.target, self._facts.thermal_source, self._series
        before = read_state(target, source)
        start_s = time.monotonic()
        interval_s = self._request.protocol.reading_interval_s
        with Watch(target, source, start_s=self._start_s, interval_s=interval_s) as watch:
            result, words, output = self._process(runs, self._request)
            end_s = time.monotonic()
        after = read_state(target, source)
        self._check_clock(before, after, result, end_s - start_s)
        if watch.failure:
            found.warnings.append(f"process {number + 1}: readings stopped: {watch.failure}")
        found.command = words
        found.results.append(result)
        found.readings += watch.readings
        found.runs.append(
            ToolRun(
                round(start_s - self._start_s, 3),
                round(end_s - self._start_s, 3),
                result.inference,
                before.celsius,
                after.celsius,
                *output,
            )
        )
        typical = typical_ms(result)
        warm = f", {after.celsius:.1f} °C" if after.celsius is not None else ""
        log(f"{target.address}: {format_duration(end_s - self._start_s)}, {typical:.2f} ms{warm}")

    def _check_start(self, state: State, limit_c: float) -> None:
        if not is_cool(state, limit_c):
            if state.thermal_status:
                why = f"Android throttled (thermal status {state.thermal_status})"
            else:
                why = f"its {state.sensor} was at {state.celsius} °C, more than {limit_c:.1f} °C"
            self._series.against.append(f"process {len(self._series.runs) + 1} started warm: {why}")

    def _check_clock(self, before: State, after: State, result: ToolResult, elapsed_s: float) -> None:
        """The tool's times are by the device's clock; ours is another."""
        device_s, host_s = after.clock_s - before.clock_s, after.host_s - before.host_s
        number = len(self._series.runs) + 1
        if abs(device_s - host_s) > CLOCK_WITHIN_S:
            self._series.against.append(
                f"the device's clock went {device_s:.0f} s during process {number}, which took {host_s:.0f} s"
            )
        mean_ms = result.inference.mean_ms or typical_ms(result)
        told_s = result.inference.count * mean_ms / 1e3
        if told_s > 1.02 * elapsed_s + 0.1:
            raise ToolFailed(
                f"{self._tool.name} told {result.inference.count} inferences of {mean_ms:g} ms in a process of "
                f"{elapsed_s:.1f} s; the device's clock jumped, run again"
            )

    def _check_whole(self) -> None:
        """What the protocol asks of the results together."""
        found, protocol = self._series, self._request.protocol
        effective = sorted({own.accelerator for own in found.results})
        if len(effective) > 1:
            raise ToolFailed(f"the processes ran on different accelerators: {', '.join(effective)}; run again")
        if protocol.needs_p90 and not self._tool.tells_samples:
            found.against.append(f"{self._tool.name} does not tell the 90th percentile, which an official figure is")
        for number, result in enumerate(found.results, 1):
            told = result.inference
            if told.count < protocol.fewest_runs:
                found.against.append(f"process {number} has {told.count} inferences instead of {protocol.fewest_runs}")
            spent_s = told.count * (told.mean_ms or typical_ms(result)) / 1e3
            if spent_s + sum(result.preprocessing_ms) / 1e3 < 0.95 * protocol.fewest_s:
                found.against.append(f"process {number} measured {spent_s:.1f} s instead of {protocol.fewest_s:g} s")


def typical_ms(result: ToolResult) -> float:
    """The median of a process where its tool tells it, else the mean."""
    found = result.inference.median_ms or result.inference.mean_ms
    assert found is not None
    return found


def samples_of(results: Sequence[ToolResult]) -> tuple[str, tuple[float, ...]]:
    """What a sample is, and the samples in ms: every inference, or one typical time for every process."""
    if all(own.inference_ms for own in results):
        return "inference", tuple(sample for own in results for sample in own.inference_ms)
    medians = [own.inference.median_ms for own in results]
    means = [own.inference.mean_ms for own in results]
    chosen = medians if all(medians) else means
    return "process", tuple(own for own in chosen if own is not None)
