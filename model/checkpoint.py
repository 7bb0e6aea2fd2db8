"""A checkpoint: one `.npz` file that holds the configuration as JSON and every weight by name."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from console.files import atomic_file
from preprocess.errors import DataError

from .config import ModelConfig

_CONFIG = "config.json"
_HISTORY = "history.json"
DEMO_CHECKPOINT = Path(__file__).parent / "demo" / "nano.npz"


@dataclass(frozen=True)
class Checkpoint:
    """Configuration, weights by name (float32) and how they came about (JSON)."""

    config: ModelConfig
    weights: dict[str, np.ndarray[Any, np.dtype[np.float32]]]
    history: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the file whole or not at all."""
    arrays: dict[str, Any] = dict(checkpoint.weights)
    arrays[_CONFIG] = _encode(checkpoint.config.to_json())
    arrays[_HISTORY] = _encode(json.dumps(checkpoint.history, ensure_ascii=False))
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; nothing in it is executed.

    Raises:
        DataError: the file is missing, damaged, or no checkpoint.
    """
    if not path.is_file():
        raise DataError(f"checkpoint {path} does not exist; train one with `python -m model train`")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise DataError(f"checkpoint {path} is damaged or no checkpoint: {error}") from error
    if _CONFIG not in arrays or _HISTORY not in arrays:
        raise DataError(f"checkpoint {path} holds no configuration; it was not written by `python -m model train`")
    config = ModelConfig.from_dict(_decode(arrays.pop(_CONFIG)))
    history = _decode(arrays.pop(_HISTORY))
    return Checkpoint(config, arrays, history)


def _encode(text: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _decode(array: np.ndarray[Any, Any]) -> Any:
    return json.loads(array.tobytes().decode())
