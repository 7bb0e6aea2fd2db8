"""The manifest of an artifact: the model file, its inputs and outputs, and its measurements."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from console.strict_json import decode, read_json
from preprocess.errors import DataError
from preprocess.spec import PreprocessSpec

MANIFEST_VERSION = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Label:
    """A class of the recogniser: its code in file names, such as `A010`, and its name, such as `clapping`."""

    code: str
    name: str


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
    """Everything about an artifact that a device, a benchmark or a reader needs.

    Attributes:
        name: name of the artifact.
        format: `tflite` or `onnx`.
        model_file: name of the model file in the folder.
        sha256, size_bytes: of the model file.
        preset, recipe: size of the model and precision recipe.
        stream: `fused`, `visual` or `audio`.
        backbones: names of its networks, by stream.
        target: kind of device that the graph was written for.
        preprocess: the specification, from `PreprocessSpec.to_dict`.
        labels: code and name of every class, in the order of the logits.
        inputs, outputs: tensors of the model file.
        calibration: hash, size, class balance and seed of the calibration set, and the method; None where no range
            is fixed.
        cost: `parameters` as trained, `deployed_parameters` in the file, and `macs`: of each part, and of the model
            under the name of its stream.
        search: budget and recipes tried by `--max-drop`; else None.
        verification: comparison with the float model.
        measurement: latency and memory on the machine that exported, or None.
        checkpoint: origin and hash of the weights.
        golden: files under `golden/`.
        versions: of the libraries involved.
        command: the export command.
        npu: chip, compiler and placement of a compiled file; else None.
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
    labels: tuple[Label, ...]
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
        return [label.code for label in self.labels]

    def to_json(self) -> str:
        """JSON text. Non-finite numbers are refused."""
        fields = asdict(self)
        if self.npu is None:
            del fields["npu"]
        return json.dumps({"version": MANIFEST_VERSION, **fields}, indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_dict(cls, data: Any, where: str = "manifest") -> Manifest:
        """Inverse of `to_json`, from the parsed document.

        Raises:
            DataError: it is not a manifest that this release reads.
        """
        version = data.get("version") if isinstance(data, dict) else None
        if version != MANIFEST_VERSION or isinstance(version, bool):
            raise DataError(f"{where} has version {version!r}; this release reads {MANIFEST_VERSION}")
        fields = {name: value for name, value in data.items() if name != "version"}
        manifest: Manifest = decode(cls, fields, where)
        return manifest


def read_artifact(folder: Path) -> tuple[Manifest, Path]:
    """Reads the manifest of an artifact; returns it with the path of the model file, whose hash is checked.

    Raises:
        DataError: the folder is not an artifact, or the model file is not the exported one.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise DataError(f"{folder} has no {MANIFEST_NAME}; name a folder that `python -m export` wrote")
    manifest = Manifest.from_dict(read_json(path, "manifest"), f"manifest {path}")
    model = folder / manifest.model_file
    if not model.is_file() or file_sha256(model) != manifest.sha256:
        raise DataError(f"{model} is missing or has changed since the export; export the artifact again")
    return manifest, model


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
