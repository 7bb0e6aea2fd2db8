"""An artifact in a runtime: every command opens, runs and compares this type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from preprocess.errors import DataError, UsageError

from .manifest import Manifest, read_artifact
from .runners import RUNTIMES_OF_FORMAT, Runner, distribution_of, open_model


@dataclass(frozen=True)
class Artifact:
    """A folder that `python -m export` wrote, and the runtime that runs its model file.

    Attributes:
        name: in tables; that of the manifest unless another is chosen.
        manifest: of the folder.
        path: of the model file.
        runtime: `litert`, `tflite-runtime`, `onnxruntime`, or `qnn-htp` for the emulator of an NPU.
        soc: the chip whose NPU is emulated, with `qnn-htp`.
    """

    name: str
    manifest: Manifest
    path: Path
    runtime: str
    soc: str | None = None

    @classmethod
    def open(cls, folder: Path, *, name: str | None = None, runtime: str | None = None) -> Artifact:
        """Reads a folder and checks the hash of its model file; without `runtime`, the first of the format runs it.

        Raises:
            UsageError: the runtime cannot run the file, or the file is compiled for an NPU.
            DataError: the folder is not an artifact.
        """
        manifest, path = read_artifact(folder)
        if manifest.npu:
            raise UsageError(
                f"{folder} is compiled for {manifest.npu['soc']} and runs on no CPU; name the artifact it was made from"
            )
        runtimes = RUNTIMES_OF_FORMAT[manifest.format]
        if runtime is not None and runtime not in runtimes:
            raise UsageError(f"{runtime!r} cannot run {folder}, a {manifest.format} file; use {' or '.join(runtimes)}")
        return cls(name or manifest.name, manifest, path, runtime or runtimes[0])

    def __str__(self) -> str:
        return f"{self.name} in {self.runtime}"

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def version(self) -> str:
        """Version of the runtime."""
        return metadata.version(distribution_of(self.runtime))

    def load(self, *, threads: int = 1) -> Runner:
        """The model, ready to run. Raises as `runtime.runners.open_model`."""
        return open_model(self.path, self.runtime, threads=threads, soc=self.soc)

    def to_dict(self) -> dict[str, Any]:
        """The fields of a result file."""
        return {
            "name": self.name,
            "recipe": self.manifest.recipe,
            "runtime": f"{self.runtime} {self.version}",
            "size_bytes": self.manifest.size_bytes,
            "sha256": self.manifest.sha256,
        }


def open_artifacts(words: Sequence[str]) -> list[Artifact]:
    """Artifacts from `DIR` or `NAME=DIR`, all of the same classes and inputs.

    Raises:
        UsageError: two have the same name, or a name or a folder is empty.
        DataError: a folder is not an artifact, or two have different classes or inputs.
    """
    artifacts = [Artifact.open(folder, name=name) for name, folder in map(named_path, words)]
    names = [artifact.name for artifact in artifacts]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{names.count(name)} artifacts are called {name!r}; write NAME=DIR")
    for artifact in artifacts[1:]:
        require_same_question(artifacts[0], artifact)
    return artifacts


def named_path(word: str) -> tuple[str | None, Path]:
    """The parts of NAME=PATH. A path alone, or one that contains a `=` and exists, has no name.

    Raises:
        UsageError: name or path is empty.
    """
    name, sign, path = word.partition("=")
    if not sign or Path(word).exists():
        return None, Path(word)
    if not name or not path:
        raise UsageError(f"{word!r} has no name or no path; write PATH or NAME=PATH")
    return name, Path(path)


def require_same_question(a: Artifact, b: Artifact) -> None:
    """Raises DataError unless both artifacts take the same inputs and choose among the same classes."""
    if a.manifest.labels != b.manifest.labels:
        ours, theirs = a.manifest.labels, b.manifest.labels
        only = [label.code for label in (*ours, *theirs) if (label in ours) != (label in theirs)]
        what = f"classes: {', '.join(dict.fromkeys(only)) + ' differ' if only else 'their order differs'}"
    elif not a.manifest.spec.is_close(b.manifest.spec):
        fields = _differences(a.manifest.spec.to_dict(), b.manifest.spec.to_dict())
        what = f"inputs: {', '.join(fields)} differ"
    else:
        return
    raise DataError(f"{a.name} and {b.name} have different {what}; export both from the same checkpoint")


def _differences(a: Any, b: Any, name: str = "") -> list[str]:
    """Dotted names of the fields that differ between two JSON objects."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [] if a == b else [name]
    keys = dict.fromkeys((*a, *b))
    return [item for key in keys for item in _differences(a.get(key), b.get(key), f"{name}.{key}".lstrip("."))]
