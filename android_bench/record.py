"""A measurement on a device: processes from a cool start, what speaks against the result, and its record."""

from __future__ import annotations

import math
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.measure.provenance import environment
from benchmarks.measure.records import DeviceRun, Measurement, Memory, Reading, Record, Subject, Timing, ToolRun
from console.program import log
from console.progress import format_duration
from preprocess.errors import DataError
from runtime.manifest import Manifest
from runtime.metrics import snr_db

from .device.connection import Connection, LocalConnection
from .device.facts import Facts, fastest_cores, read_facts
from .device.watch import COOL_WITHIN_C, State, cool_down, read_state, watching
from .device.workspace import DeviceFile, Workspace, workspace
from .tools.binaries import find_binary, require_chip
from .tools.tool import Request, Tool, ToolResult

CLOCK_WITHIN_S = 3.0  # `date` counts whole seconds, and adb takes its time
_LOW_BATTERY_PERCENT = 20  # phones save power below this level


def measure_on(
    device: Connection, tool: Tool, request: Request, *, tool_path: Path | None, keep: bool, command: str
) -> Record:
    """Measures, and leaves the device as it was.

    Args:
        device, tool, request: with `request.profile` another process times every operation.
        tool_path: see `find_binary`.
        keep: leaves the files on the device.
        command: for repeating the record.

    Raises:
        DeviceLost, CommandTimeout, DataError: as the functions of `Connection`, `workspace` and `Tool`.
        MissingComponentError: the tool or one of its libraries is missing.
        UsageError: the file is compiled for another chip.
    """
    facts = read_facts(device)
    require_chip(request.manifest, facts.device.soc)
    program, libraries = find_binary(
        tool,
        tool_path,
        architecture=facts.machine.architecture,
        android=facts.device.android is not None,
        here=isinstance(device, LocalConnection),
    )
    request = replace(request, libraries=tuple(library.name for library in libraries))
    tool.command(request, runs=1)  # raises for a missing library before anything is copied
    beside = [DeviceFile(library, library.name) for library in libraries]
    files = [DeviceFile(program, tool.name, program=True), *beside, *tool.files(request)]
    with workspace(device, files, keep=keep) as place:
        series = Series(place, tool, request, facts)
        series.run()
    return series.record(command)


class Series:
    """The processes of a measurement; `results` and `runs` go together."""

    def __init__(self, place: Workspace, tool: Tool, request: Request, facts: Facts) -> None:
        self._place, self._tool, self._request, self._facts = place, tool, request, facts
        self._mask = fastest_cores(facts.cores, request.threads) if facts.can_pin else None
        self._command = ""
        self._results: list[ToolResult] = []
        self._runs: list[ToolRun] = []
        self._readings: list[Reading] = []
        self._against: list[str] = []
        self._warnings: list[str] = []
        self._sensor: str | None = None
        self._profile = ""

    def run(self) -> None:
        """Runs the tool as often as the schedule says, and with `profile` once more.

        Raises:
            DeviceLost, CommandTimeout: as `Connection.run`.
            DataError: a process failed, or its output is not understood.
        """
        schedule, device, source = self._request.schedule, self._place.device, self._facts.thermal_source
        first = cool_down(device, source, math.inf)
        self._sensor = first.sensor
        self._check_start(first, math.inf)
        if first.sensor is None:
            self._warnings.append("the device reports no temperature: whether it was cool is not known")
        percent = self._facts.device.battery_percent
        if percent is not None and percent < _LOW_BATTERY_PERCENT:
            self._warnings.append(f"the battery was at {percent} %, where phones save power; charge it and run again")
        limit_c = math.inf if first.celsius is None else first.celsius + COOL_WITHIN_C
        request = replace(self._request, profile=False)
        runs = self._choose_runs(request)
        start_s = time.monotonic()
        for number in range(schedule.processes):
            if schedule.duration_s and number and time.monotonic() - start_s >= schedule.duration_s:
                break
            if number and not schedule.duration_s:
                self._check_start(cool_down(device, source, limit_c), limit_c)
            self._one(runs, request, start_s)
        if self._request.profile:
            self._profile = self._process(runs, self._request)[0].profile
        self._check_results()

    def _choose_runs(self, request: Request) -> int:
        """Inferences in each process; for a tool that accepts no time, estimated from a short process."""
        schedule = request.schedule
        if not self._tool.counts_runs_only:
            return schedule.fewest_runs
        typical_ms = self._process(20, request)[0].typical_ms
        return max(schedule.fewest_runs, math.ceil(1.1 * 1e3 * schedule.fewest_s / typical_ms))

    def _process(self, runs: int, request: Request) -> tuple[ToolResult, tuple[str, str, int]]:
        """One process: its result, and its standard output, standard error and exit code."""
        words = [f"./{self._tool.name}", *self._tool.command(request, runs=runs)]
        if not request.profile:
            self._command = " ".join(words)
        words = ["taskset", self._mask, *words] if self._mask else words
        folder, file = self._place.folder, self._tool.result_file
        # A program loads libraries beside it; the NPU's part has a separate search path.
        environment = {"LD_LIBRARY_PATH": folder, "ADSP_LIBRARY_PATH": folder} if request.libraries else {}
        if file:
            words = ["sh", "-c", 'rm -f "$1" && shift && exec "$@"', "sh", file, *words]
        outcome = self._place.run_tool(words, environment, timeout_s=request.schedule.process_timeout_s)
        written = self._place.read(file) if file and not outcome.exit_code else ""
        result = self._tool.parse(outcome, request, result_file=written)
        stdout = outcome.stdout + (f"\n{file}:\n{written}" if written else "")
        return result, (stdout, outcome.stderr, outcome.exit_code)

    def _one(self, runs: int, request: Request, series_start_s: float) -> None:
        device, source = self._place.device, self._facts.thermal_source
        before = read_state(device, source)
        start_s = time.monotonic()
        interval_s = request.schedule.reading_interval_s
        with watching(device, source, start_s=series_start_s, interval_s=interval_s) as (readings, failures):
            result, (stdout, stderr, code) = self._process(runs, request)
            end_s = time.monotonic()
        after = read_state(device, source)
        self._check_clock(before, after, result, end_s - start_s)
        self._warnings += [f"process {len(self._runs) + 1}: readings stopped: {why}" for why in failures]
        span = round(start_s - series_start_s, 3), round(end_s - series_start_s, 3)
        self._results.append(result)
        self._readings += readings
        self._runs.append(ToolRun(*span, result.inference, before.celsius, after.celsius, stdout, stderr, code))
        warm = f", {after.celsius:.1f} °C" if after.celsius is not None else ""
        log(f"{device.address}: {format_duration(span[1])}, {result.typical_ms:.2f} ms{warm}")

    def _check_start(self, state: State, limit_c: float) -> None:
        if not state.is_cool(limit_c):
            if state.thermal_status:
                why = f"Android throttled (thermal status {state.thermal_status})"
            else:
                why = f"its {state.sensor} was at {state.celsius} °C, more than {limit_c:.1f} °C"
            self._against.append(f"process {len(self._runs) + 1} started warm: {why}")

    def _check_clock(self, before: State, after: State, result: ToolResult, elapsed_s: float) -> None:
        """Compares the device's clock, which the tool's times are by, with this machine's."""
        device_s, host_s = after.clock_s - before.clock_s, after.host_s - before.host_s
        number = len(self._runs) + 1
        if abs(device_s - host_s) > CLOCK_WITHIN_S:
            self._against.append(
                f"the device's clock went {device_s:.0f} s during process {number}, which took {host_s:.0f} s"
            )
        if result.measured_s > 1.02 * elapsed_s + 0.1:
            count = result.inference.count
            raise DataError(
                f"{self._tool.name} reported {count} inferences of {1e3 * result.measured_s / count:g} ms in a process "
                f"of {elapsed_s:.1f} s; the device's clock jumped, run again"
            )

    def _check_results(self) -> None:
        """Checks the schedule's demands on all results together."""
        schedule = self._request.schedule
        effective = sorted({result.accelerator for result in self._results})
        if len(effective) > 1:
            raise DataError(f"the processes ran on different accelerators: {', '.join(effective)}; run again")
        if schedule.needs_p90 and not self._tool.reports_samples:
            self._against.append(f"{self._tool.name} does not report the 90th percentile, which an official figure is")
        for number, result in enumerate(self._results, 1):
            count, wanted = result.inference.count, schedule.fewest_runs
            if count < wanted:
                self._against.append(f"process {number} has {count} inferences instead of {wanted}")
            if result.measured_s + sum(result.preprocessing_ms) / 1e3 < 0.95 * schedule.fewest_s:
                self._against.append(
                    f"process {number} measured {result.measured_s:.1f} s instead of {schedule.fewest_s:g} s"
                )

    def record(self, command: str) -> Record:
        """The record of all processes."""
        first, request = self._results[0], self._request
        sample, samples_ms = samples_of(self._results)
        preprocessing = tuple(time_ms for result in self._results for time_ms in result.preprocessing_ms)
        peaks = [result.memory_bytes for result in self._results if result.memory_bytes is not None]
        conditions = {
            "inputs": "golden recordings" if preprocessing else "random tensors",
            "warm-up runs": str(request.schedule.warmup_runs),
            "memory": first.memory_of,
            "power": "not measured",
            **self._check_answers(),
            **({"profile": self._profile} if self._profile else {}),
        }
        device_run = DeviceRun(
            tool=self._tool.name,
            tool_command=self._command,
            protocol=request.schedule.name,
            sample=sample,
            requested_accelerator=request.accelerator,
            delegated_ops=first.delegated_ops,
            total_ops=first.total_ops,
            core_mask=self._mask,
            sensor=self._sensor,
            runs=tuple(self._runs),
            readings=tuple(self._readings),
            reasons_against=tuple(self._against),
        )
        subject = Subject.of(
            request.manifest, first.runtime, first.runtime_version, request.threads, accelerator=first.accelerator
        )
        measurement = Measurement(
            subject,
            Timing(preprocessing) if preprocessing else None,
            Timing(samples_ms),
            Memory(max(peaks)) if peaks else None,
            conditions,
            device_run,
        )
        origin = replace(environment(command, packages=("numpy",)), machine=self._facts.machine)
        inferences = sum(result.inference.count for result in self._results)
        return Record(origin, 0, inferences, (measurement,), tuple(self._warnings), self._facts.device)

    def _check_answers(self) -> dict[str, str]:
        """Compares the device's answers with the golden ones; a difference speaks against the measurement."""
        answers = {name: logits for result in self._results for name, logits in result.logits.items()}
        if not answers:
            return {}
        golden = golden_logits(self._request.folder, self._request.manifest)
        if set(answers) != set(golden):
            self._against.append(f"the device answered on {len(answers)} recordings, the artifact has {len(golden)}")
        common = sorted(answers.keys() & golden.keys())
        alike = [name for name in common if len(answers[name]) == len(golden[name])]
        same_class = {name for name in alike if np.argmax(answers[name]) == np.argmax(golden[name])}
        if wrong := [name for name in common if name not in same_class]:
            self._against.append(f"the device gives another class than the artifact on {', '.join(wrong)}")
        snrs = [
            snr_db(np.array(golden[name]), np.array(answers[name])) for name in alike if answers[name] != golden[name]
        ]
        lowest = f", logits' SNR {min(snrs):.1f} dB or more" if snrs else ""
        return {"answers": f"{len(answers) - len(wrong)} of {len(golden)} classes as on export{lowest}"}


def samples_of(results: Sequence[ToolResult]) -> tuple[str, tuple[float, ...]]:
    """The meaning of a sample, and the samples in ms: every inference, or one typical time for every process."""
    if all(result.inference_ms for result in results):
        return "inference", tuple(time_ms for result in results for time_ms in result.inference_ms)
    medians = [result.inference.median_ms for result in results]
    means = [result.inference.mean_ms for result in results]
    return "process", tuple(time_ms for time_ms in (medians if all(medians) else means) if time_ms is not None)


def golden_logits(folder: Path, manifest: Manifest) -> Mapping[str, tuple[float, ...]]:
    """Logits of the golden recordings by name; recordings without logits are left out.

    Raises:
        DataError: a file is damaged.
    """
    logits = {}
    for name in manifest.golden:
        try:
            with np.load(folder / name, allow_pickle=False) as arrays:
                if "logits" in arrays:
                    logits[Path(name).stem] = tuple(map(float, arrays["logits"].ravel()))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{folder / name} is missing or damaged: {error}; export the artifact again") from error
    return logits
