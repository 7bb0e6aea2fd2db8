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

from console.files import atomic_folder
from console.program import show, show_json
from console.table import format_table
from preprocess.errors import DataError
from recordings.actions import class_indices
from recordings.calibration import calibration_set
from recordings.catalogue import scan
from recordings.synthetic.cached import CALIBRATION_SEED, cached_recordings
from runtime.manifest import MANIFEST_NAME, file_sha256, read_artifact
from runtime.metrics import agreement, score
from runtime.runners import open_model

from ..commands import call
from ..measure.latency import PACKAGES, doubts
from ..measure.provenance import environment
from ..measure.records import Record
from ..measure.result_files import claim_folder, data_words, interval_text, write_result
from ..measure.runner import artifact_contenders, measure_all
from ..measure.statistics import ratio_of_medians, summarize
from .artifacts import answer_as_asked, open_artifacts
from .conditions import CLEAN

SCHEMA_VERSION = 1
# Name, what `python -m export` is told, and who made it; of each format, the first is ours in float.
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


def peers_command(options: argparse.Namespace) -> None:
    """Handler: makes the artefacts, compares them, writes the JSON file, shows the table.

    Raises:
        UsageError, DataError, MissingComponentError: as `open_artifacts` and `answer_as_asked`.
    """
    folders, failed = _make(options)
    artifacts = open_artifacts([f"{name}={folder}" for name, folder in folders.items()])
    held_out, answers = answer_as_asked(options, artifacts, [CLEAN], label="peers")
    contenders = artifact_contenders(
        list(folders.items()),
        [(own.runtime,) for own in artifacts],
        [1],
        data=None,
        recordings=0,
        seed=options.seed,
    )
    measurements = measure_all(contenders, rounds=options.rounds, seed=options.seed)
    command = f"python -m benchmarks peers --calibration {options.calibration} {data_words(options)}"
    packages = (*PACKAGES, "tensorflow", "tf2onnx", "ai-edge-quantizer")
    record = Record(
        environment(command, packages=packages), options.seed, options.rounds, measurements, doubts(measurements)
    )
    rows = []
    for own, logits, measured in zip(artifacts, answers.logits[:, 0], measurements, strict=True):
        base = next(i for i, other in enumerate(artifacts) if other.manifest.format == own.manifest.format)
        ratio = ratio_of_medians(measured.inference.samples_ms, measurements[base].inference.samples_ms, paired=True)
        assert measured.memory is not None
        rows.append(
            {
                **own.to_dict(),
                "format": own.manifest.format,
                **score(logits, answers.labels).to_dict(),
                "agreement": agreement(answers.logits[base, 0], logits),
                "latency_ms": summarize(measured.inference.samples_ms).median_ms,
                "time_to_float": ratio.value,
                "time_to_float_interval95": [ratio.low, ratio.high],
                "peak_bytes": measured.memory.peak_bytes,
            }
        )
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "peers",
        "data": held_out.origin,
        "recordings": len(answers.labels),
        "rows": rows,
        "failed": failed,
        "record": record.to_dict(),
    }
    write_result(document, options.out)
    if options.json:
        show_json(document)
    else:
        show(peers_text(document))


def _make(options: argparse.Namespace) -> tuple[dict[str, Path], dict[str, str]]:
    """Name → folder of every artefact that could be made here, and name → reason of what could not."""
    checkpoint = file_sha256(options.checkpoint) if options.checkpoint else "demo"
    claim_folder(options.folder, {"checkpoint": checkpoint, "calibration": options.calibration})
    folders: dict[str, Path] = {}
    for name, words in EXPORTS:
        folder = options.folder / name.replace(" ", "-")
        if not (folder / MANIFEST_NAME).exists():
            start = ["--checkpoint", str(options.checkpoint)] if options.checkpoint else []
            start += ["--calibration", str(options.calibration), "--recordings", "32"]
            call("export", *words, *start, "--out", str(folder), "--force", fails=True)
        folders[name] = folder
    if importlib.util.find_spec("ai_edge_quantizer") is None:
        return folders, {AI_EDGE: 'not installed; run `pip install -e ".[peers]"`'}
    folder = options.folder / AI_EDGE.replace(" ", "-")
    if not (folder / MANIFEST_NAME).exists():
        try:
            quantize_with_ai_edge(folders["our float32 TFLite"], folder, count=options.calibration)
        except DataError as error:
            return folders, {AI_EDGE: str(error)}
    return {**folders, AI_EDGE: folder}, {}


def quantize_with_ai_edge(source: Path, out: Path, *, count: int) -> None:
    """Writes an artefact: the float TFLite artefact `source` through ai-edge-quantizer's recipe static_wi8_ai8.

    Args:
        source: folder of the float artefact.
        out: folder to write.
        count: synthetic recordings to calibrate with, those that our own export takes.

    Raises:
        DataError: LiteRT cannot load what it wrote.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # its bars fill a log with thousands of updates
    from ai_edge_quantizer import quantizer, recipe

    manifest, model = read_artifact(source)
    refs = scan(cached_recordings(count, seed=CALIBRATION_SEED, workers=2)).refs
    labels = class_indices(refs, manifest.codes).tolist()
    samples = calibration_set(refs, labels, manifest.spec, count=count, seed=0)
    names = [tensor.name for tensor in manifest.inputs]
    feeds = [{name: samples.batch(i, 1)[name] for name in names} for i in range(len(samples.names))]
    with atomic_folder(out, force=True) as folder, contextlib.redirect_stdout(io.StringIO()):
        tool = quantizer.Quantizer(str(model), recipe.static_wi8_ai8())
        tool.quantize(tool.calibrate({"serving_default": feeds})).export_model(str(folder / model.name))
        written = folder / model.name
        (folder / "golden").mkdir()
        for own in manifest.golden:
            (folder / own).write_bytes((source / own).read_bytes())
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


def peers_rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    header = ["model file", "accuracy [95 %]", "agreement", "file", "peak RAM", "latency", "against our float32"]
    rows = [
        [
            own["name"],
            interval_text(own),
            f"{100 * own['agreement']:.1f} %",
            f"{own['size_bytes'] / 1e6:.2f} MB",
            f"{own['peak_bytes'] / 1e6:.0f} MB",
            f"{own['latency_ms']:.2f} ms",
            f"{1 / own['time_to_float']:.2f}× as fast",
        ]
        for own in document["rows"]
    ]
    return header, rows


def peers_text(document: dict[str, Any]) -> str:
    """The table as text."""
    title = f"The same network by other tools, on {document['recordings']} recordings ({document['data']})"
    lines = [format_table(*peers_rows(document), title=title)]
    return "\n".join([*lines, *(f"{name}: {reason}" for name, reason in document["failed"].items())])
