"""A recording, on disk and in memory, whatever its format, and the recogniser's inputs made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from preprocess.errors import DataError
from preprocess.heatmaps import skeleton_to_heatmaps
from preprocess.layouts import SkeletonLayout
from preprocess.logmel import fit_length, log_mel, stack_deltas
from preprocess.spec import FloatArray, PreprocessSpec

from .augment import (
    AudioAugmentation,
    SkeletonAugmentation,
    augment_skeleton,
    augment_waveform,
    spec_augment,
)

Arrays: TypeAlias = dict[str, FloatArray]
Input: TypeAlias = Literal["skeleton", "audio"]

INPUTS: tuple[Input, ...] = ("skeleton", "audio")


class MissingSkeletonError(DataError):
    """The file is well formed and no frame of it has a body: the sensor lost the person. Leave the recording out."""


@dataclass(frozen=True, slots=True)
class RecordingRef:
    """A recording on disk: the meaning of its name and the paths of its two files. Holds no data.

    Attributes:
        name: the stem that both files share, e.g. `S001C001P001R001A001`.
        format: `ntu` or `msr`.
        skeleton_path: the skeleton text file.
        audio_path: the WAV file, or None when the recording has no sound.
        action: the data set's 1-based action number.
        subject: the data set's 1-based number of the person.
        camera: 1-based camera number (NTU), or None.
        setup: 1-based setup number (NTU), or None.
        replication: 1-based repetition (NTU's R, MSR's E).
    """

    name: str
    format: str
    skeleton_path: Path
    audio_path: Path | None
    action: int
    subject: int
    camera: int | None
    setup: int | None
    replication: int


@dataclass(frozen=True)
class Recording:
    """A recording in memory; `recordings.reading.read_recording` reads one.

    Attributes:
        name: the stem of its files.
        joints: float32 [T, P, J, 3], metres, camera space, y up. Absent bodies and joints are zero.
        confidence: float32 [T, P, J] in [0, 1]; zero where a body is absent.
        waveform: float32 [N], mono, at `sample_rate_hz`; empty when the recording has no sound.
        sample_rate_hz: rate of the waveform.
        layout: of the joints.
    """

    name: str
    joints: FloatArray
    confidence: FloatArray
    waveform: FloatArray
    sample_rate_hz: int
    layout: SkeletonLayout

    def tensors(self, spec: PreprocessSpec, inputs: Sequence[Input] = INPUTS) -> Arrays:
        """The recogniser's inputs as for evaluation: those of `preprocess_recording`, with a batch axis in front."""
        return {name: array[None] for name, array in preprocess_recording(self, spec, inputs=inputs).items()}


def preprocess_recording(
    recording: Recording,
    spec: PreprocessSpec,
    *,
    inputs: Sequence[Input] = INPUTS,
    rng: np.random.Generator | None = None,
    skeleton_augmentation: SkeletonAugmentation | None = None,
    audio_augmentation: AudioAugmentation | None = None,
) -> Arrays:
    """The recogniser's inputs for a recording.

    An input without augmentation is computed as for evaluation. With it, the augmentation and, for the skeleton, the
    frames drawn inside their segments come from `rng`. Skeleton and audio draw from separate streams, so that either
    is the same with and without the other.

    Args:
        recording: at `spec.audio.sample_rate_hz`.
        spec: sizes and constants.
        inputs: which of `skeleton` and `audio` to compute.
        rng: needed with an augmentation.
        skeleton_augmentation, audio_augmentation: variations for training, or None.

    Returns:
        float32 `skeleton` [S, S, channels] in [0, 1] and `audio` [bands, frames, 3], as far as in `inputs`.

    Raises:
        DataError: the recording lacks an input, has another sample rate or cannot be preprocessed; the message starts
            with its name.
    """
    skeleton_rng, audio_rng = rng.spawn(2) if rng is not None else (None, None)
    arrays: Arrays = {}
    try:
        if "skeleton" in inputs:
            arrays["skeleton"] = _heatmaps(recording, spec, skeleton_augmentation, skeleton_rng)
        if "audio" in inputs:
            arrays["audio"] = _log_mel_stack(recording, spec, audio_augmentation, audio_rng)
    except DataError as error:
        raise DataError(f"{recording.name}: {error}") from error
    return arrays


def _heatmaps(
    recording: Recording,
    spec: PreprocessSpec,
    augmentation: SkeletonAugmentation | None,
    rng: np.random.Generator | None,
) -> FloatArray:
    joints, confidence, layout = recording.joints, recording.confidence, recording.layout
    if augmentation is None:
        return skeleton_to_heatmaps(joints, confidence, spec.skeleton, layout=layout).tensor
    assert rng is not None, "augmentation needs rng"
    joints, confidence = augment_skeleton(
        joints, confidence, layout, augmentation, rng, min_frames=spec.skeleton.sampled_frames
    )
    return skeleton_to_heatmaps(joints, confidence, spec.skeleton, layout=layout, rng=rng).tensor


def _log_mel_stack(
    recording: Recording, spec: PreprocessSpec, augmentation: AudioAugmentation | None, rng: np.random.Generator | None
) -> FloatArray:
    waveform, audio = recording.waveform, spec.audio
    if recording.sample_rate_hz != audio.sample_rate_hz:
        raise DataError(f"the sound has {recording.sample_rate_hz} Hz; read it at {audio.sample_rate_hz} Hz")
    if not waveform.size:
        raise DataError("the recording has no sound; add its WAV file or leave the recording out")
    if augmentation is None:
        return stack_deltas(log_mel(fit_length(waveform, audio), audio), audio)
    assert rng is not None, "augmentation needs rng"
    varied = augment_waveform(waveform, audio.sample_rate_hz, augmentation, rng, needed_samples=audio.samples)
    return stack_deltas(spec_augment(log_mel(fit_length(varied, audio), audio), augmentation, rng), audio)
