"""`pocket-har recognise`: the five most probable actions of each recording."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.program import show, show_json, warn
from console.table import format_table
from preprocess.errors import DataError

from .api import open, read

_SHOWN = 5


def recognise_command(options: argparse.Namespace) -> None:
    """Prints a table of each recording, or one JSON document."""
    model = open(options.artifact, threads=options.threads)
    document = []
    for path in options.recordings:
        recording = read(path, _sound_of(path, options.audio))
        if not recording.waveform.size:
            warn(f"{path} has no sound; the model gets silence")
        best = model.predict(recording)[:_SHOWN]
        document.append({"recording": str(path), "predictions": [prediction._asdict() for prediction in best]})
        if not options.json:
            rows = [[prediction.label, f"{100 * prediction.probability:.1f} %"] for prediction in best]
            show(format_table([path.name, "probability"], rows) + "\n")
    if options.json:
        show_json(document)


def _sound_of(skeleton: Path, audio: Path | None) -> Path | None:
    """The sound file of a recording; None to let `read` look for it."""
    if audio is None or not audio.is_dir():
        return audio
    path = audio / f"{skeleton.stem.removesuffix('_skeleton')}.wav"
    if not path.is_file():
        raise DataError(f"{path} does not exist; name the folder of the WAV files with --audio")
    return path
