"""The manifest of an artefact: what the model file is, how to feed it, and what was measured. Standard library only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from preprocess.errors import DataError
from preprocess.spec import PreprocessSpec

MANIFEST_VERSION = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the model file.

    Attributes:
        name: `skeleton`, `audio` or `logits`.
        shape: with the batch axis.
        dtype: NumPy name.
        scale, zero_point: real = scale · (stored − zero_point); 0 and 0 for a float tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True)
class Manifest:
    """Everything about an artefact that a device, a benchmark or a reader needs.

    Attributes:
        name: name of the artefact.
        format: `tflite` or `onnx`.
        model_file: name of the model file in the folder.
        sha256, size_bytes: of the model file.
        preset, recipe: size of the model and precision recipe.
        stream: `fused`, or the single stream that the file is: `visual` or `audio`.
        backbones: names of the networks in it, by stream.
        target: kind of device that the graph was written for.
        preprocess: the specification as `PreprocessSpec.to_dict` gives it.
        labels: code and name of every class, in the order of the logits.
        inputs, outputs: tensors of the model file.
        calibration: hash, size, class balance and seed of the calibration set, and how ranges were found; None where
            no range is fixed.
        cost: `parameters` as trained, `deployed_parameters` left in the file, and `macs`, of the parts, and of the
            whole by the name of the stream.
        search: budget and recipes tried, where the recipe was searched for; else None.
        verification: what was compared and what came out.
        measurement: latency and memory on the machine that exported, or None.
        checkpoint: origin and hash of the weights.
        golden: files under `golden/`.
        versions: libraries involved.
        command: what made it.
        npu: of a compiled file: its chip, its compiler, and what runs on the NPU; else None.
    """

    name: str
    format: str
    model_file: str
    sha256: str
    size_bytes: int
    preset: str
    recipe: str
    target: str
    preprocess: dict[str, Any]
    labels: tuple[dict[str, str], ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    calibration: dict[str, Any] | None
    cost: dict[str, dict[str, int]]
    search: dict[str, Any] | None
    verification: dict[str, Any]
    measurement: dict[str, Any] | None
    checkpoint: dict[str, str]
    golden: tuple[str, ...]
    versions: dict[str, str]
    command: str
    stream: str = "fused"
    backbones: dict[str, str] = field(default_factory=dict)
    npu: dict[str, Any] | None = None

    @property
    def spec(self) -> PreprocessSpec:
        return PreprocessSpec.from_dict(self.preprocess)

    @property
    def codes(self) -> list[str]:
        """Codes of the classes, in the order of the logits."""
        return [label["code"] for label in self.labels]

    def to_json(self) -> str:
        """JSON text. Non-finite numbers are refused."""
        own = asdict(self)
        if self.npu is None:
            del own["npu"]  # readers of an earlier release know no such field
        return json.dumps({"version": MANIFEST_VERSION, **own}, indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Inverse of `to_json`.

        Raises:
            DataError: the text is no manifest that this release reads.
        """
        try:
            data = json.loads(text)
            version = data.pop("version")
        except (json.JSONDecodeError, AttributeError, KeyError) as error:
            raise DataError(f"manifest is damaged: {error!r}; export the artefact again") from error
        if version != MANIFEST_VERSION:
            raise DataError(f"manifest version is {version!r}; this release reads {MANIFEST_VERSION}")
        try:
            data["inputs"] = _tensors(data["inputs"])
            data["outputs"] = _tensors(data["outputs"])
            data["labels"], data["golden"] = tuple(data["labels"]), tuple(data["golden"])
            return cls(**data)
        except (KeyError, TypeError) as error:
            raise DataError(f"manifest has a missing or unknown field: {error}; export the artefact again") from error


def read_artifact(folder: Path) -> tuple[Manifest, Path]:
    """The manifest of an artefact and the path of its model file, whose hash is checked.

    Raises:
        DataError: the folder is no artefact, or the model file is not the one that was exported.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise DataError(f"{folder} holds no {MANIFEST_NAME}; name a folder that `python -m export` wrote")
    manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
    model = folder / manifest.model_file
    if not model.is_file() or file_sha256(model) != manifest.sha256:
        raise DataError(f"{model} is missing or was changed since the export; export the artefact again")
    return manifest, model


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensors(items: Any) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(**{**item, "shape": tuple(item["shape"])}) for item in items)
