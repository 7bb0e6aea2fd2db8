"""`python -m benchmarks peers`: the same trained network by others' tools, on the same recordings, in the same run.

TFLite: TFLiteConverter with its defaults on the training graph; ai-edge-quantizer on our float file. ONNX: tf2onnx and
ONNX Runtime's static quantization with their defaults. All are calibrated with the same recordings.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from console.child import run_command
from console.files import atomic_folder
from console.options import forward
from console.table import format_table
from preprocess.errors import DataError
from recordings.sources import DataSource
from runtime.artifact import Artifact, open_artifacts
from runtime.manifest import MANIFEST_NAME, file_sha256
from runtime.runners import open_model

from ..measure.latency import PACKAGES
from ..measure.statistics import ratio_of_medians, summarize
from .conditions import CLEAN, ask_under_conditions
from .paper_tables import CALIBRATION, DEMO, RECORDINGS
from .study import Study, claim_folder, score_of, timed

# Name and words of `python -m export`; of each format, the first is ours in float.
EXPORTS = (
    ("our float32 TFLite", ["tflite"]),
    ("our INT8 TFLite", ["tflite", "--int8"]),
    ("TFLiteConverter float32", ["tflite", "--target", "plain"]),
    ("TFLiteConverter INT8", ["tflite", "--int8", "--target", "plain"]),
    ("our float32 ONNX", ["onnx"]),
    ("our INT8 ONNX", ["onnx", "--int8"]),
    ("ONNX Runtime INT8", ["onnx", "--int8", "--target", "plain"]),
)
AI_EDGE = "ai-edge-quantizer INT8"
_VERIFIED = 32  # recordings of each export's verification; the study itself compares on more


def measure_peers(options: argparse.Namespace) -> dict[str, Any]:
    """Makes the artifacts, compares their answers and their times.

    Raises:
        UsageError, DataError, MissingComponentError: as `open_artifacts`, `ask_under_conditions` and `timed`.
    """
    folders, failed = _make(options)
    artifacts = open_artifacts([f"{name}={folder}" for name, folder in folders.items()])
    answers, data = ask_under_conditions(options, artifacts, [CLEAN], title="peers")
    record = timed(artifacts, options, packages=(*PACKAGES, "tensorflow", "tf2onnx", "ai-edge-quantizer"))
    rows = []
    for artifact, measurement in zip(artifacts, record.measurements, strict=True):
        base = next(i for i, other in enumerate(artifacts) if other.manifest.format == artifact.manifest.format)
        base_ms = record.measurements[base].inference.samples_ms
        ratio = ratio_of_medians(measurement.inference.samples_ms, base_ms, paired=True)
        assert measurement.memory is not None
        rows.append(
            {
                **artifact.to_dict(),
                "format": artifact.manifest.format,
                **answers.score((artifact.name, CLEAN)).to_dict(),
                "agreement": answers.agreement((artifacts[base].name, CLEAN), (artifact.name, CLEAN)),
                "latency_ms": summarize(measurement.inference.samples_ms).median_ms,
                "time_to_float": ratio.value,
                "time_to_float_interval95": [ratio.low, ratio.high],
                "peak_bytes": measurement.memory.peak_bytes,
            }
        )
    return {**data, "rows": rows, "failed": failed, "record": record.to_dict()}


def _make(options: argparse.Namespace) -> tuple[dict[str, Path], dict[str, str]]:
    """Name → folder of every artifact that could be made here, and name → reason of the others."""
    words = [*forward(options, *CALIBRATION[1:], *RECORDINGS), "--calibration", str(options.calibration)]
    checkpoint = file_sha256(options.checkpoint or DEMO)
    claim_folder(options.folder, {"options": words, "checkpoint": checkpoint})
    words += [*forward(options, "checkpoint", "workers"), "--recordings", str(_VERIFIED)]
    folders: dict[str, Path] = {}
    for name, kind in EXPORTS:
        folder = options.folder / name.replace(" ", "-")
        if not (folder / MANIFEST_NAME).exists():
            run_command("export", *kind, *words, "--out", str(folder), "--force", may_answer_no=True)
        folders[name] = folder
    if importlib.util.find_spec("ai_edge_quantizer") is None:
        return folders, {AI_EDGE: 'not installed; run `pip install -e ".[peers]"`'}
    folder = options.folder / AI_EDGE.replace(" ", "-")
    if not (folder / MANIFEST_NAME).exists():
        try:
            quantize_with_ai_edge(Artifact.open(folders["our float32 TFLite"]), folder, options)
        except DataError as error:
            return folders, {AI_EDGE: str(error)}
    return {**folders, AI_EDGE: folder}, {}


def quantize_with_ai_edge(source: Artifact, out: Path, options: argparse.Namespace) -> None:
    """Writes an artifact: a float TFLite one through ai-edge-quantizer's recipe static_wi8_ai8.

    Args:
        source: the float artifact.
        out: folder to write.
        options: --calibration and the options of recordings; our own exports calibrate with the same recordings.

    Raises:
        DataError: LiteRT cannot load the quantized file.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # its bars fill a log with thousands of updates
    from ai_edge_quantizer import quantizer, recipe

    manifest = source.manifest
    samples, _ = DataSource.of(options).draw(manifest, calibration=options.calibration, held_out=_VERIFIED)
    assert samples is not None
    names = [tensor.name for tensor in manifest.inputs]
    feeds = [{name: samples.batch(i, 1)[name] for name in names} for i in range(len(samples.names))]
    with atomic_folder(out, force=True) as folder, contextlib.redirect_stdout(io.StringIO()):
        tool = quantizer.Quantizer(str(source.path), recipe.static_wi8_ai8())
        written = folder / source.path.name
        tool.quantize(tool.calibrate({"serving_default": feeds})).export_model(str(written))
        (folder / "golden").mkdir()
        for name in manifest.golden:
            (folder / name).write_bytes((source.folder / name).read_bytes())
        runner = open_model(written, "litert")
        described = replace(
            manifest,
            name=f"{manifest.preset}-int8-ai-edge-quantizer",
            recipe="static_wi8_ai8",
            target="ai-edge-quantizer",
            sha256=file_sha256(written),
            size_bytes=written.stat().st_size,
            inputs=runner.inputs,
            outputs=runner.outputs,
            calibration=samples.provenance(),
            verification={"verified": False, "failures": ["made by another tool"]},
            measurement=None,
            command="ai_edge_quantizer.recipe.static_wi8_ai8",
        )
        (folder / MANIFEST_NAME).write_text(described.to_json(), encoding="utf-8")


def peers_text(document: dict[str, Any]) -> str:
    """A row for every file, and the tools that failed."""
    header = ["model file", "accuracy [95 %]", "agreement", "file", "peak RAM", "latency", "speed"]
    rows = [
        [
            row["name"],
            str(score_of(row)),
            f"{100 * row['agreement']:.1f} %",
            f"{row['size_bytes'] / 1e6:.2f} MB",
            f"{row['peak_bytes'] / 1e6:.0f} MB",
            f"{row['latency_ms']:.2f} ms",
            f"{1 / row['time_to_float']:.2f}×",
        ]
        for row in document["rows"]
    ]
    title = f"On {document['recordings']} recordings ({document['data']}); speed against our float32 of the format"
    failed = [f"{name}: {reason}" for name, reason in document["failed"].items()]
    return "\n".join([format_table(header, rows, title=title), *failed])


PEERS = Study("peers", measure_peers, peers_text)
