"""`har_run`, the project's runner on devices: from raw recordings to answers, with the time of both halves.

Its standard output consists of JSON lines; docs/har_run.md describes them.
"""

from __future__ import annotations

import json
from typing import Any

from console.strict_json import decode
from preprocess.errors import DataError

from ..device.connection import Outcome, quote
from ..device.workspace import DeviceFile
from .binaries import DISPATCH, litert_version, require_libraries
from .tool import Request, Tool, ToolResult, aggregate, require_success, require_times

SCHEMA = 1
ARTIFACT = "artifact"
EVENTS = ("start", "prediction", "result", "error")


class HarRun(Tool):
    """See `Tool`."""

    name = "har_run"
    is_ours = True
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
            raise DataError(f"har_run failed: {_field(events[-1], 'message', str)}")
        require_success(self.name, outcome)
        if [event["event"] for event in events[:1] + events[-1:]] != ["start", "result"]:
            raise DataError(f"har_run gave no result, its output is cut off: {quote(outcome.stdout)}")
        start, result = events[0], events[-1]
        sha256 = _field(start, "model_sha256", str)
        if sha256 != request.manifest.sha256:
            raise DataError(f"har_run read another model ({sha256:.16}…); run again")
        samples, preprocessing = (
            _field(_field(result, part, dict[str, Any]), "samples_ms", tuple[float, ...])
            for part in ("inference", "preprocessing")
        )
        if preprocessing:
            require_times(preprocessing)
        accelerator = _field(result, "accelerator", str)
        delegated, total = (_field(result, name, int | None) for name in ("delegated_ops", "total_ops"))
        requested = request.accelerator
        allowed = (requested,) if requested == "cpu" else (requested, f"{requested}+cpu")
        if accelerator not in allowed or (requested != "cpu" and not delegated):
            raise DataError(
                f"{requested} was requested, but the model ran on {accelerator} with {delegated} operations delegated"
            )
        before, peak = (_field(result, f"vm_hwm_{name}", int) for name in ("start_bytes", "bytes"))
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
            runtime=f"{self.name}/{_field(start, 'runtime', str)}",
            runtime_version=litert_version(_field(start, "runtime_version", str)),
            logits={
                _field(event, "recording", str): _field(event, "logits", tuple[float, ...]) for event in events[1:-1]
            },
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


def _field(event: dict[str, Any], name: str, kind: Any) -> Any:
    """A field of an event as `kind`. Raises DataError if it is missing or of another type."""
    if name not in event:
        raise DataError(f"har_run gave no {name} in {quote(json.dumps(event))}")
    return decode(kind, event[name], f"har_run's {name}")
