"""What a recording is, on disk and in memory, whatever format it came in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError
from preprocess.layouts import SkeletonLayout


class MissingSkeletonError(DataError):
    """The file is well formed and no frame of it has a body: the sensor lost the person. Leave the recording out."""


@dataclass(frozen=True, slots=True)
class RecordingRef:
    """A recording on disk: its name's meaning and where its two files are. Holds no data.

    Attributes:
        name: the stem that both files share, e.g. `S001C001P001R001A001`.
        format: `ntu` or `msr`.
        skeleton_path: the skeleton text file.
        audio_path: the WAV file, or None when the recording has no sound.
        action: the data set's own 1-based action number.
        subject: the data set's own 1-based number of the person.
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
    """A recording in memory.

    Attributes:
        ref: where it came from.
        joints: float32 [T, P, J, 3], metres, camera space, y up. Absent bodies and joints are zero.
        confidence: float32 [T, P, J] in [0, 1]; zero where a body is absent.
        waveform: float32 [N], mono, at `sample_rate_hz`; empty when the recording has no sound.
        sample_rate_hz: rate of the waveform.
        layout: which joints these are.
    """

    ref: RecordingRef
    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    waveform: npt.NDArray[np.float32]
    sample_rate_hz: int
    layout: SkeletonLayout
