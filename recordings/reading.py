"""Reads a recording whole: skeleton and sound, in whichever format it came."""

from __future__ import annotations

import numpy as np

from preprocess.layouts import MSR20, NTU25

from . import msr, ntu
from .recording import Recording, RecordingRef
from .sound import read_waveform

READERS = {"ntu": (ntu.read_skeleton, NTU25), "msr": (msr.read_skeleton, MSR20)}


def read_recording(ref: RecordingRef, *, sample_rate_hz: int) -> Recording:
    """Reads the two files of a recording.

    Args:
        ref: the recording; without an `audio_path` its waveform is empty.
        sample_rate_hz: rate that the waveform gets.

    Raises:
        MissingSkeletonError: no frame has a body.
        DataError: a file is missing or not valid; the message names it.
    """
    read_skeleton, layout = READERS[ref.format]
    joints, confidence = read_skeleton(ref.skeleton_path)
    waveform = np.zeros(0, np.float32)
    if ref.audio_path is not None:
        waveform = read_waveform(ref.audio_path, sample_rate_hz=sample_rate_hz)
    return Recording(ref, joints, confidence, waveform, sample_rate_hz, layout)
