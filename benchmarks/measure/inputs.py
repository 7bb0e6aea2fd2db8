"""Raw inputs as a sensor gives them: from an artefact's golden files, or from a folder of recordings."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from preprocess import LAYOUTS, PreprocessSpec, skeleton_to_heatmaps, waveform_to_logmel
from preprocess.errors import DataError
from runtime.manifest import Manifest

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RawInput:
    """One recording.

    Attributes:
        name: of the recording.
        joints: float32 [T, P, J, 3], metres.
        confidence: float32 [T, P, J] in [0, 1].
        waveform: float32 [N], mono, at `sample_rate_hz`.
        sample_rate_hz: rate of the waveform.
    """

    name: str
    joints: FloatArray
    confidence: FloatArray
    waveform: FloatArray
    sample_rate_hz: int


def golden_inputs(folder: Path, manifest: Manifest) -> tuple[RawInput, ...]:
    """The raw inputs in the golden files of an artefact.

    Raises:
        DataError: there are none, or one is damaged.
    """
    if not manifest.golden:
        raise DataError(f"{folder} has no golden recordings; name a folder of recordings with --data")
    return tuple(_golden(folder / name, manifest.spec.audio.sample_rate_hz) for name in manifest.golden)


def _golden(path: Path, sample_rate_hz: int) -> RawInput:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            joints, confidence, waveform = (arrays[name] for name in ("joints", "confidence", "waveform"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is missing or damaged: {error}; export the artefact again") from error
    return RawInput(path.stem, joints, confidence, waveform, sample_rate_hz)


def recorded_inputs(folder: Path, sample_rate_hz: int, *, limit: int, seed: int) -> tuple[RawInput, ...]:
    """At most `limit` recordings below a folder, drawn at random, read whole.

    Raises:
        DataError: the folder has no recordings, or one is not valid.
    """
    from recordings.catalogue import scan
    from recordings.reading import read_recording

    refs = scan(folder).refs
    chosen = np.random.default_rng(seed).permutation(len(refs))[:limit].tolist()
    read = (read_recording(refs[index], sample_rate_hz=sample_rate_hz) for index in chosen)
    return tuple(RawInput(r.ref.name, r.joints, r.confidence, r.waveform, r.sample_rate_hz) for r in read)


def tensors_of(raw: RawInput, spec: PreprocessSpec, names: tuple[str, ...]) -> dict[str, FloatArray]:
    """Those of `skeleton` [1, S, S, channels] and `audio` [1, bands, frames, 3] that `names` has, float32.

    Raises:
        DataError: the recording cannot be preprocessed.
    """
    tensors = {}
    if "skeleton" in names:
        # The number of joints tells the sensor.
        layout = next((own for own in LAYOUTS.values() if own.joint_count == raw.joints.shape[2]), None)
        tensors["skeleton"] = skeleton_to_heatmaps(raw.joints, raw.confidence, spec.skeleton, layout=layout).tensor[
            None
        ]
    if "audio" in names:
        tensors["audio"] = waveform_to_logmel(raw.waveform, spec.audio)[None]
    return tensors
