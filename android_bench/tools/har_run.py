"""`har_run`, the project's runner on devices: from raw recordings to answers, with the time of both halves.

Its standard output consists of JSON lines; docs/har_run.md describes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from preprocess.errors import DataError

from ..device.connection import Outcome, quote
from ..device.workspace import DeviceFile
from .binaries import DISPATCH, litert_version, require_libraries
from .tool import Request, ToolResult, aggregate, require_success, require_times

SCHEMA = 1
ARTIFACT = "artifact"
EVENTS = ("start", "prediction", "result", "error")


class HarRun:
    """See `Tool`."""

    name = "har_run"
    formats: tuple[str, ...] = ("tflite",)
    accelerators: tuple[str, ...] = ("cpu", "gpu", "npu")
    is_ours = True
    reports_samples = True
    counts_runs_only = False
    result_file: str | None = None
    remedy = "build it for the device as docs/phone.md says, or use --tool benchmark_model"

    def files(self, request: Request) -> list[DeviceFile]:
        folder = request.folder
        golden = sorted((folder / "golden").glob("*.npz"))
        paths = [folder / "manifest.json", folder / request.manifest.model_file, *golden]
        return [DeviceFile(path, f"{ARTIFACT}/{path.relative_to(folder)}") for path in paths]

    def command(self, request: Request, *, runs: int) -> list[str]:
        schedule = request.schedule
        if request.manifest.npu:
            require_libraries(request.manifest.npu["soc"], request.libraries, more=(DISPATCH,))
        options = {
            "artifact": ARTIFACT,
            "accelerator": request.accelerator,
            "threads": request.threads,
            "warmup-runs": schedule.warmup_runs,
            "min-runs": runs,
            "min-seconds": f"{schedule.fewest_s:g}",
            "max-seconds": f"{schedule.most_s:g}",
        }
        return [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def parse(self, outcome: Outcome, request: Request, *, result_file: str = "") -> ToolResult:
        try:
            events = parse_events(outcome.stdout)
        except DataError:
            require_success(self.name, outcome)
            raise
        if any(event["event"] == "error" for event in events):
            raise DataError(f"har_run failed: {text_of(events[-1], 'message')}")
        require_success(self.name, outcome)
        if [event["event"] for event in events[:1] + events[-1:]] != ["start", "result"]:
            raise DataError(f"har_run gave no result, its output is cut off: {quote(outcome.stdout)}")
        start, result = events[0], events[-1]
        if text_of(start, "model_sha256") != request.manifest.sha256:
            raise DataError(f"har_run read another model ({text_of(start, 'model_sha256'):.16}…); run again")
        samples, preprocessing = (_samples(result, part) for part in ("inference", "preprocessing"))
        if preprocessing:
            require_times(preprocessing)
        accelerator = text_of(result, "accelerator")
        delegated, total = (_whole(result, name, optional=True) for name in ("delegated_ops", "total_ops"))
        _require_accelerator(accelerator, request.accelerator, delegated)
        before, peak = (_whole(result, f"vm_hwm_{name}") for name in ("start_bytes", "bytes"))
        assert before is not None
        assert peak is not None
        if not 0 < before <= peak:
            raise DataError(
                f"har_run says vm_hwm_bytes {peak} and vm_hwm_start_bytes {before}; the first is the larger"
            )
        return ToolResult(
            inference=aggregate(samples),
            inference_ms=samples,
            preprocessing_ms=preprocessing,
            accelerator=accelerator,
            delegated_ops=delegated,
            total_ops=total,
            memory_bytes=peak - before,
            memory_of="beyond the runtime loaded and no model",
            runtime=f"{self.name}/{text_of(start, 'runtime')}",
            runtime_version=litert_version(text_of(start, "runtime_version")),
            logits={text_of(event, "recording"): _numbers(event, "logits") for event in events[1:-1]},
        )


def parse_events(stdout: str) -> list[dict[str, Any]]:
    """The JSON lines: `start` of this schema first, then `prediction`s, then `result` or `error`, if not cut off.

    Raises:
        DataError: a line is none of these, or out of order.
    """
    events: list[dict[str, Any]] = []
    for line in stdout.splitlines():
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            event = None
        if not isinstance(event, dict) or event.get("event") not in EVENTS:
            raise DataError(f"har_run printed a line that is not an event: {quote(line)}")
        if events and (event["event"] == "start" or events[-1]["event"] in ("result", "error")):
            raise DataError(f"har_run printed {event['event']!r} after {events[-1]['event']!r}: {quote(line)}")
        events.append(event)
    if events and events[0]["event"] not in ("start", "error"):
        raise DataError(f"har_run printed {events[0]['event']!r} without a start; its output is cut off")
    if events and events[0]["event"] == "start" and events[0].get("schema") != SCHEMA:
        raise DataError(f"har_run speaks schema {events[0].get('schema')!r}, this release {SCHEMA}; build it anew")
    return events


def _require_accelerator(accelerator: str, requested: str, delegated: int | None) -> None:
    allowed = (requested,) if requested == "cpu" else (requested, f"{requested}+cpu")
    if accelerator not in allowed or (requested != "cpu" and not delegated):
        raise DataError(
            f"{requested} was requested, but the model ran on {accelerator} with {delegated} operations delegated"
        )


def text_of(event: dict[str, Any], name: str) -> str:
    """A text field. Raises DataError if it is not text."""
    value = event.get(name)
    if not isinstance(value, str):
        raise _wrong(event, name, value, "text")
    return value


def _samples(event: dict[str, Any], part: str) -> tuple[float, ...]:
    inner = event.get(part)
    if not isinstance(inner, dict):
        raise _wrong(event, part, inner, "an object with samples_ms")
    return _numbers({"event": f"{event['event']}.{part}", **inner}, "samples_ms")


def _numbers(event: dict[str, Any], name: str) -> tuple[float, ...]:
    values = event.get(name)
    if not isinstance(values, list) or not all(map(_is_number, values)):
        raise _wrong(event, name, values, "a list of finite numbers")
    return tuple(map(float, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(event: dict[str, Any], name: str, *, optional: bool = False) -> int | None:
    value = event.get(name)
    if value is None and optional and name in event:
        return None
    if type(value) is not int or value < 0:
        raise _wrong(event, name, value, f"a whole number{' or null' if optional else ''}")
    return value


def _wrong(event: dict[str, Any], name: str, value: Any, expected: str) -> DataError:
    return DataError(f"har_run says {event['event']}.{name} is {value!r:.60}; it must be {expected}")


def agreeing(logits: Sequence[float], golden: Sequence[float]) -> bool:
    """Whether the device chooses the same class as the file did when it was exported."""
    return len(logits) == len(golden) and logits.index(max(logits)) == golden.index(max(golden))
