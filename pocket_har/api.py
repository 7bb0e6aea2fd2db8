"""The Python interface: open a model, read a recording, get the probabilities of the actions."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from preprocess import PreprocessSpec
from recordings.reading import read_recording
from recordings.recording import Recording
from runtime.artifact import Artifact

DEMO = Path(__file__).parent / "demo"
_SAMPLE_RATE_HZ = PreprocessSpec().audio.sample_rate_hz


class Prediction(NamedTuple):
    """An action and its probability in [0, 1]."""

    label: str
    probability: float


class ActionModel:
    """A model file, ready to run.

    Attributes:
        artifact: the folder it comes from, with its manifest.
        labels: names of the actions, in the order of the logits.
    """

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        self.artifact = artifact
        self.labels = tuple(label.name for label in artifact.manifest.labels)
        self._spec = artifact.manifest.spec
        self._runner = artifact.load(threads=threads)

    def predict(self, recording: Recording) -> list[Prediction]:
        """The probabilities of all actions, the most probable first; they add up to one.

        Args:
            recording: from `read`. Without sound, the model gets silence.

        Raises:
            DataError: the recording cannot be preprocessed, for example because it has no frames.
        """
        if not recording.waveform.size:
            recording = replace(recording, waveform=np.zeros(self._spec.audio.samples, np.float32))
        logits = self._runner(recording.tensors(self._spec)).astype(np.float64)
        powers = np.exp(logits - logits.max())
        probabilities = powers / powers.sum()
        order = np.argsort(-probabilities, kind="stable")
        return [Prediction(self.labels[i], float(probabilities[i])) for i in order]


def open(folder: str | PathLike[str] | None = None, *, runtime: str | None = None, threads: int = 1) -> ActionModel:
    """Opens the folder that `pocket-har export` wrote, or the demo that ships.

    Args:
        folder: the artifact; None for the demo: 16 actions of NTU RGB+D, trained on synthetic recordings.
        runtime: `litert`, `tflite-runtime` or `onnxruntime`; the default is the first that reads the file.
        threads: of the runtime.

    Raises:
        DataError: the folder is not an artifact, or its model file was changed.
        MissingComponentError: the runtime is not installed.
        UsageError: the runtime cannot run the file.
    """
    artifact = Artifact.open(DEMO if folder is None else Path(folder), runtime=runtime)
    return ActionModel(artifact, threads=threads)


def read(
    skeleton: str | PathLike[str],
    audio: str | PathLike[str] | None = None,
    *,
    sample_rate_hz: int = _SAMPLE_RATE_HZ,
) -> Recording:
    """Reads a recording from its files.

    Args:
        skeleton: `*.skeleton` (NTU RGB+D) or `*_skeleton.txt` (MSR Daily Activity 3D).
        audio: WAV file; None for the one of the same name beside the skeleton file, else in the folder `audio` next to
            the skeleton file's folder; without one, the waveform is empty.
        sample_rate_hz: rate that the sound is resampled to, 32000 for the models of this project.

    Raises:
        DataError: a file is missing or not valid; the message names it.
    """
    return read_recording(Path(skeleton), Path(audio) if audio is not None else None, sample_rate_hz=sample_rate_hz)
