"""Result files of the benchmarks that compare artefacts on recordings."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from console.files import atomic_file
from preprocess.errors import UsageError

PACKAGES = ("numpy", "ai-edge-litert", "onnxruntime")


def refuse_png(out: Path) -> None:
    """Raises UsageError where a plot would take the place of the result file."""
    if out.suffix.lower() == ".png":
        raise UsageError(f"--out is {out}; name a JSON file, the plots go beside it")


def write_result(document: dict[str, Any], path: Path) -> None:
    """Writes the document as JSON, whole or not at all. Non-finite numbers are refused."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def data_words(options: argparse.Namespace) -> str:
    """The options that chose the recordings, without the paths of this machine."""
    words = ["--data DIR"] if options.data else []
    words += [f"--protocol {options.protocol}"] if options.protocol else []
    words += ["--on-error skip"] if options.on_error == "skip" else []
    return " ".join([*words, f"--recordings {options.recordings} --seed {options.seed}"])


def interval_text(entry: dict[str, Any]) -> str:
    """Accuracy with its 95 % interval, as `runtime.metrics.Score` prints it."""
    low, high = entry["interval95"]
    return f"{100 * entry['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def claim_folder(folder: Path, mine: dict[str, object]) -> None:
    """Refuses a folder that holds results of other options.

    Raises:
        UsageError: it does.
    """
    path = folder / "options.json"
    if not path.exists():
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(mine), encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != mine:
        raise UsageError(f"{folder} holds results of other options; choose another --folder")
