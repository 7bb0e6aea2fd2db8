"""What a folder of recordings holds: counts from the names, and on request from every file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from console.progress import track
from preprocess.errors import DataError

from .actions import action_code, action_name
from .catalogue import Catalogue
from .reading import READERS
from .recording import MissingSkeletonError, RecordingRef
from .sound import read_native


@dataclass(frozen=True)
class Distribution:
    """Smallest, median and largest of some numbers, and their sum."""

    minimum: float
    median: float
    maximum: float
    total: float

    @classmethod
    def of(cls, numbers: list[int] | list[float]) -> Distribution | None:
        """The distribution of the numbers; None when there are none."""
        if not numbers:
            return None
        return cls(min(numbers), float(np.median(numbers)), max(numbers), sum(numbers))


@dataclass(frozen=True)
class NameCounts:
    """Counts that names alone give: recordings by format, (format, action), (format, subject) and camera."""

    formats: dict[str, int]
    actions: dict[tuple[str, int], int]
    subjects: dict[tuple[str, int], int]
    cameras: dict[int, int]
    with_sound: int


@dataclass(frozen=True)
class ContentCounts:
    """What reading every file gave.

    Attributes:
        frames: frames of a recording.
        bodies: recordings by the number of bodies that appear in them.
        sound_s: length of the sound, in seconds.
        sample_rates_hz: recordings by the rate of their sound.
        missing_skeletons: names of recordings without a body in any frame.
        unreadable: what is wrong with files, one line each.
    """

    frames: Distribution | None
    bodies: dict[int, int]
    sound_s: Distribution | None
    sample_rates_hz: dict[int, int]
    missing_skeletons: tuple[str, ...]
    unreadable: tuple[str, ...]


def count_names(refs: Iterable[RecordingRef]) -> NameCounts:
    """Counts recordings by what their names say; opens no file."""
    refs = list(refs)
    return NameCounts(
        formats=_sorted(Counter(ref.format for ref in refs)),
        actions=_sorted(Counter((ref.format, ref.action) for ref in refs)),
        subjects=_sorted(Counter((ref.format, ref.subject) for ref in refs)),
        cameras=_sorted(Counter(ref.camera for ref in refs if ref.camera is not None)),
        with_sound=sum(ref.audio_path is not None for ref in refs),
    )


def count_contents(refs: tuple[RecordingRef, ...]) -> ContentCounts:
    """Reads every recording, one at a time; a file that cannot be read is reported, not raised."""
    frames: list[int] = []
    seconds: list[float] = []
    bodies: Counter[int] = Counter()
    rates: Counter[int] = Counter()
    missing: list[str] = []
    unreadable: list[str] = []
    for ref in track(refs, "reading", len(refs)):
        try:
            length, people = READERS[ref.format][0](ref.skeleton_path)[1].shape[:2]
            frames.append(length)
            bodies[people] += 1
        except MissingSkeletonError:
            missing.append(ref.name)
        except DataError as error:
            unreadable.append(str(error))
        if ref.audio_path is None:
            continue
        try:
            waveform, rate_hz = read_native(ref.audio_path)
            seconds.append(len(waveform) / rate_hz)
            rates[rate_hz] += 1
        except DataError as error:
            unreadable.append(str(error))
    return ContentCounts(
        frames=Distribution.of(frames),
        bodies=_sorted(bodies),
        sound_s=Distribution.of(seconds),
        sample_rates_hz=_sorted(rates),
        missing_skeletons=tuple(missing),
        unreadable=tuple(unreadable),
    )


def to_document(catalogue: Catalogue, names: NameCounts, contents: ContentCounts | None) -> dict[str, Any]:
    """The counts as plain JSON types."""
    document: dict[str, Any] = {
        "recordings": len(catalogue.refs),
        "with_sound": names.with_sound,
        "formats": names.formats,
        "actions": [
            {
                "format": format,
                "code": action_code(format, action),
                "name": action_name(format, action),
                "recordings": count,
            }
            for (format, action), count in names.actions.items()
        ],
        "subjects": [
            {"format": format, "subject": subject, "recordings": count}
            for (format, subject), count in names.subjects.items()
        ],
        "cameras": [{"camera": camera, "recordings": count} for camera, count in names.cameras.items()],
        "excluded": list(catalogue.excluded),
        "problems": list(catalogue.problems),
    }
    if contents is not None:
        document["contents"] = {
            "frames": vars(contents.frames) if contents.frames else None,
            "bodies": [{"bodies": n, "recordings": count} for n, count in contents.bodies.items()],
            "sound_s": vars(contents.sound_s) if contents.sound_s else None,
            "sample_rates_hz": [{"rate": rate, "recordings": n} for rate, n in contents.sample_rates_hz.items()],
            "missing_skeletons": list(contents.missing_skeletons),
            "unreadable": list(contents.unreadable),
        }
    return document


def _sorted(counter: Counter[Any]) -> dict[Any, int]:
    return dict(sorted(counter.items()))
