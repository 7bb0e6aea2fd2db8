"""Read recordings: skeleton and sound from their two files, or both from an artifact's golden file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from preprocess.errors import DataError
from preprocess.layouts import LAYOUTS, MSR20, NTU25

from . import msr, ntu
from .recording import INPUTS, Input, Recording, RecordingRef
from .sound import read_waveform

# Of each format: the reader of its skeleton files, their joints, and the end of their names.
READERS = {
    "ntu": (ntu.read_skeleton, NTU25, ntu.SUFFIX),
    "msr": (msr.read_skeleton, MSR20, msr.SUFFIX),
}


def read_recording(
    source: RecordingRef | Path | str,
    audio: Path | str | None = None,
    *,
    sample_rate_hz: int,
    inputs: Sequence[Input] = INPUTS,
) -> Recording:
    """Read a recording into memory.

        recording = read_recording("S001C001P001R001A001.skeleton", sample_rate_hz=spec.audio.sample_rate_hz)
        tensors = recording.tensors(spec)

    Args:
        source: a skeleton file, or a recording that `recordings.catalogue.scan` lists. The end of the file's name is
            its format: `.skeleton` (NTU RGB+D) or `_skeleton.txt` (MSR Daily Activity 3D); the rest may be anything.
        audio: the WAV file; None: the one that the catalogue lists, or for a skeleton file the WAV file of the same
            name beside it, else in the folder `audio` next to its folder. Without one, the waveform is empty.
        sample_rate_hz: rate that the waveform gets.
        inputs: which of `skeleton` and `audio` to read; the arrays of the other are empty.

    Raises:
        MissingSkeletonError: no frame has a body.
        DataError: a file is missing or not valid, or its format is unknown; the message names it.
    """
    if isinstance(source, RecordingRef):
        name, format, path = source.name, source.format, source.skeleton_path
        audio = audio or source.audio_path
    else:
        path = Path(source)
        name, format = _name_and_format(path)
        if audio is None and "audio" in inputs:
            audio = _find_sound(path, name)
    read_skeleton, layout, _ = READERS[format]
    joints = np.zeros((0, 0, layout.joint_count, 3), np.float32)
    confidence, waveform = joints[..., 0], np.zeros(0, np.float32)
    if "skeleton" in inputs:
        joints, confidence = read_skeleton(path)
    if "audio" in inputs and audio is not None:
        waveform = read_waveform(Path(audio), sample_rate_hz=sample_rate_hz)
    return Recording(name, joints, confidence, waveform, sample_rate_hz, layout)


def _name_and_format(path: Path) -> tuple[str, str]:
    for format, (_, _, suffix) in READERS.items():
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix), format
    raise DataError(f"{path} is no skeleton file; their names end in {' or '.join(row[2] for row in READERS.values())}")


def _find_sound(path: Path, name: str) -> Path | None:
    """The WAV file beside a skeleton file, or else in the folder `audio` next to the skeleton file's folder."""
    folder = path.absolute().parent
    for place in (folder, folder.parent / "audio"):
        files = os.listdir(place) if place.is_dir() else []
        wavs = sorted(file for file in files if file[:-4] == name and file[-4:].lower() == ".wav")
        if len(wavs) > 1:
            raise DataError(f"{path}: its sound exists twice, {' and '.join(wavs[:2])}; name one of them")
        if wavs:
            return place / wavs[0]
    return None


def read_golden(path: Path, *, sample_rate_hz: int) -> Recording:
    """Read the recording in a golden file of an artifact.

    Args:
        path: a `.npz` file with `joints`, `confidence` and `waveform`.
        sample_rate_hz: rate of the waveform, in the artifact's manifest.

    Raises:
        DataError: the file is missing, damaged, or holds an unknown set of joints.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            joints, confidence, waveform = (arrays[name] for name in ("joints", "confidence", "waveform"))
            _, _, joint_count, _ = joints.shape
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is missing or damaged: {error}; export the artifact again") from error
    layouts = {layout.joint_count: layout for layout in LAYOUTS.values()}  # the file has no other sign of its layout
    if joint_count not in layouts:
        raise DataError(f"{path} has {joint_count} joints per body; known are {' and '.join(map(str, layouts))}")
    return Recording(path.stem, joints, confidence, waveform, sample_rate_hz, layouts[joint_count])
