"""Handlers of `python -m quantize`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from console.files import atomic_file
from console.program import show, show_json
from console.table import format_table
from model.checkpoint import DEMO_CHECKPOINT, load_checkpoint
from model.config import DeployForm
from preprocess.errors import UsageError
from recordings.sources import DataSource

from .analysis import Analysis, analyze, part_of
from .prepare import CalibrationOptions, prepare

_BLOCKS_SHOWN = 12


def analyze_command(options: argparse.Namespace) -> None:
    """Calibrates, analyzes, shows the blocks with the most noise."""
    for name in ("calibration", "recordings"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} is {getattr(options, name)}; use a positive number")
    checkpoint = load_checkpoint(options.checkpoint or DEMO_CHECKPOINT)
    source = DataSource.of(options)
    calibration, samples = source.two_sets(checkpoint.config, options.calibration, options.recordings)
    prepared = prepare(
        checkpoint.config,
        checkpoint.weights,
        DeployForm(options.form, "convolutions"),
        calibration,
        calibration_options(options),
    )
    analysis = analyze(prepared, samples)
    if options.out:
        _write(analysis, options.out)
    if options.json:
        show_json(analysis.to_dict())
    else:
        show(analysis_table(analysis))


def calibration_options(options: argparse.Namespace) -> CalibrationOptions:
    """From the command line."""
    return CalibrationOptions(
        method=options.calibrate_by, equalise=options.equalise, correct_biases=not options.keep_biases
    )


def analysis_table(analysis: Analysis) -> str:
    """The blocks that add most noise, then the parts of the network."""
    rows = [
        [own.name, own.part, f"{own.logits_snr_db:.1f} dB", f"{100 * own.share:.1f} %"]
        for own in analysis.blocks[:_BLOCKS_SHOWN]
    ]
    blocks = format_table(
        ["block quantized alone", "part", "logits' SNR", "share of the noise"],
        rows,
        title=f"INT8 against float on {analysis.recordings} recordings, logits' SNR {analysis.logits_snr_db:.1f} dB",
    )
    lowest = {}
    for own in sorted(analysis.tensors, key=lambda tensor: -tensor.snr_db):
        lowest[part_of(own.block)] = own
    parts = format_table(
        ["part", "share of the noise", "noisiest tensor, all quantized", "its SNR"],
        [
            [part, f"{100 * share:.1f} %", lowest[part].name, f"{lowest[part].snr_db:.1f} dB"]
            for part, share in analysis.by_part().items()
        ],
    )
    return f"{blocks}\n\n{parts}"


def _write(analysis: Analysis, folder: Path) -> None:
    from .drawing import draw_analysis

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "analysis.json") as temporary:
        temporary.write_text(json.dumps(analysis.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    draw_analysis(analysis, folder / "analysis.png")
