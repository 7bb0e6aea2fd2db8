"""Stand-ins for artifacts and runners: a folder with a manifest, and a model of plain arithmetic."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from kit.tiny import tiny_spec

from preprocess.spec import PreprocessSpec
from recordings.actions import action_code, action_name
from recordings.synthetic.motions import SYNTHETIC_ACTIONS
from runtime.manifest import MANIFEST_NAME, Label, Manifest, file_sha256

SYNTHETIC_LABELS = tuple(Label(action_code("ntu", n), action_name("ntu", n)) for n in SYNTHETIC_ACTIONS)


def make_manifest(
    *, labels: tuple[Label, ...] = SYNTHETIC_LABELS, spec: PreprocessSpec | None = None, **changes: Any
) -> Manifest:
    """A manifest in which everything but `changes` is empty or a default."""
    fields = {
        "name": "test",
        "format": "tflite",
        "model_file": "model.tflite",
        "sha256": "0" * 64,
        "size_bytes": 1,
        "preset": "tiny",
        "recipe": "float32",
        "target": "xnnpack",
        "preprocess": (spec or tiny_spec()).to_dict(),
        "labels": labels,
        **dict.fromkeys(("inputs", "outputs", "golden"), ()),
        **{key: {} for key in ("cost", "verification", "checkpoint", "versions")},
        **dict.fromkeys(("calibration", "search", "measurement")),
        "command": "",
    }
    return Manifest(**{**fields, **changes})


def describe(model: Path, **changes: Any) -> Path:
    """Writes a manifest beside a model file; returns the folder, whose name is the default name of the artifact."""
    file = {"model_file": model.name, "sha256": file_sha256(model), "size_bytes": model.stat().st_size}
    manifest = make_manifest(**{"name": model.parent.name, "format": model.suffix[1:], **file, **changes})
    (model.parent / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return model.parent


def fake_artifact(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """The folder of an artifact whose model file contains only a seed, for `FakeRunner`."""
    folder.mkdir(parents=True)
    model = folder / "model.tflite"
    model.write_text(str(seed), encoding="utf-8")
    return describe(model, **changes)


class FakeRunner:
    """Replaces `runtime.runners.open_model`: logits are a random linear function of both inputs."""

    def __init__(self, path: Path, runtime: str, *, threads: int = 1, soc: str | None = None) -> None:
        self.inputs = [SimpleNamespace(name="skeleton"), SimpleNamespace(name="audio")]
        rng = np.random.default_rng(int(path.read_text()))
        self._skeleton = rng.normal(size=(tiny_spec().skeleton.channels, 16))
        self._audio = rng.normal(size=(tiny_spec().audio.n_mels, 16))

    def __call__(self, tensors: dict[str, np.ndarray]) -> np.ndarray:
        (skeleton,), (audio,) = tensors["skeleton"], tensors["audio"]
        sum_of_maps, loudness = skeleton.sum(axis=(0, 1)), audio[..., 0].mean(axis=1)
        return (sum_of_maps @ self._skeleton + loudness @ self._audio).astype(np.float32)
