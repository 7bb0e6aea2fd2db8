"""`python -m recordings inspect`: count the recordings of a folder, by name or by content, and draw one."""

from __future__ import annotations

import argparse
import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from console.program import show, show_json, warn
from console.progress import track
from console.table import format_table
from preprocess.errors import DataError, UsageError
from preprocess.spec import PreprocessSpec

from .actions import action_code, action_name
from .catalogue import Catalogue, scan
from .reading import READERS, read_recording
from .recording import MissingSkeletonError, RecordingRef
from .sound import read_native

_SHOWN = 10  # lines of a list that may be thousands long


def inspect_command(options: argparse.Namespace) -> None:
    """Handler: count the recordings below a folder, or draw one of them.

    Raises:
        UsageError: options exclude each other, or there is no such recording.
        DataError: there are no recordings, or one is not valid.
    """
    if (options.draw is None) != (options.out is None):
        raise UsageError("--draw NAME and --out FILE.png go together; give both")
    if options.draw is not None and options.full:
        raise UsageError("--draw draws one recording and --full reads all; give one of them")
    catalogue = scan(
        options.folder,
        audio_root=options.audio,
        missing_list=options.missing_list,
        on_error=options.on_error,
        require_audio=options.draw is None,
    )
    if options.draw is not None:
        _draw(options, catalogue)
    else:
        _count(options, catalogue)


def _draw(options: argparse.Namespace, catalogue: Catalogue) -> None:
    from .picture import draw_recording

    refs = {ref.name: ref for ref in catalogue.refs}
    if options.draw not in refs:
        close = difflib.get_close_matches(options.draw, refs, n=3) or list(refs)[:3]
        raise UsageError(f"--draw {options.draw}: no such recording; there is for example {', '.join(close)}")
    ref = refs[options.draw]
    spec = PreprocessSpec.preset("paper")
    recording = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz)
    action = f"{action_code(ref.format, ref.action)} {action_name(ref.format, ref.action)}"
    notes = draw_recording(recording, action, spec, options.out)
    for note in notes:
        warn(note)
    if options.json:
        show_json({"name": ref.name, "drawing": str(options.out), "notes": list(notes)})
    else:
        show(str(options.out))


def _count(options: argparse.Namespace, catalogue: Catalogue) -> None:
    names = count_names(catalogue.refs)
    contents = count_contents(catalogue.refs) if options.full else None
    if options.json:
        show_json({"folder": str(options.folder), **to_document(catalogue, names, contents)})
    else:
        _show_names(catalogue, names)
        if contents is not None:
            _show_contents(contents)
    if contents is not None and contents.unreadable and options.on_error == "raise":
        raise DataError(f"{len(contents.unreadable)} file(s) cannot be read; the first: {contents.unreadable[0]}")


def _show_names(catalogue: Catalogue, names: NameCounts) -> None:
    formats = ", ".join(f"{count} {format}" for format, count in names.formats.items())
    show(f"{len(catalogue.refs)} recordings ({formats}), {names.with_sound} with sound\n")
    rows = [
        [f"{action_code(format, action)}  {action_name(format, action)}", format, str(count)]
        for (format, action), count in names.actions.items()
    ]
    show(format_table(["action", "format", "recordings"], rows) + "\n")
    many = len(names.formats) > 1
    subjects = {f"{format} {n}" if many else str(n): count for (format, n), count in names.subjects.items()}
    show(f"recordings by subject: {_pairs(subjects)}")
    if names.cameras:
        show(f"recordings by camera: {_pairs(names.cameras)}")
    _show_list("left out by the list of missing skeletons", catalogue.excluded)
    _show_list("skipped", catalogue.problems)


def _show_contents(contents: ContentCounts) -> None:
    show(f"\nframes: {_spread(contents.frames)}")
    show(f"recordings by number of bodies: {_pairs(_sorted(contents.bodies))}")
    show(f"sound in seconds: {_spread(contents.sound_s)}")
    show(f"recordings by sample rate in Hz: {_pairs(_sorted(contents.sample_rates_hz))}")
    _show_list("without a skeleton in any frame", contents.missing_skeletons)
    _show_list("unreadable", contents.unreadable)


def _show_list(title: str, items: Sequence[str]) -> None:
    if not items:
        return
    show(f"{title}: {len(items)}")
    for item in items[:_SHOWN]:
        show(f"  {item}")
    if len(items) > _SHOWN:
        show(f"  and {len(items) - _SHOWN} more (all with --json)")


def _pairs(counts: dict[str, int] | dict[int, int]) -> str:
    return ", ".join(f"{key}: {count}" for key, count in counts.items()) or "none"


def _spread(numbers: Sequence[float]) -> str:
    if not numbers:
        return "none"
    return f"{min(numbers):g} to {max(numbers):g}, median {np.median(numbers):g}, {sum(numbers):g} in all"


@dataclass(frozen=True)
class NameCounts:
    """Counts of recordings from their names: by format, (format, action), (format, subject) and camera."""

    formats: dict[str, int]
    actions: dict[tuple[str, int], int]
    subjects: dict[tuple[str, int], int]
    cameras: dict[int, int]
    with_sound: int


@dataclass
class ContentCounts:
    """Counts from the content of every file.

    Attributes:
        frames: number of frames of every readable skeleton.
        bodies: recordings by the number of bodies that appear in them.
        sound_s: length of every readable sound, in seconds.
        sample_rates_hz: recordings by the rate of their sound.
        missing_skeletons: names of recordings without a body in any frame.
        unreadable: defects of files, one line each.
    """

    frames: list[int] = field(default_factory=list)
    bodies: Counter[int] = field(default_factory=Counter)
    sound_s: list[float] = field(default_factory=list)
    sample_rates_hz: Counter[int] = field(default_factory=Counter)
    missing_skeletons: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def count_names(refs: Sequence[RecordingRef]) -> NameCounts:
    """Count recordings by their names; open no file."""
    return NameCounts(
        formats=_sorted(Counter(ref.format for ref in refs)),
        actions=_sorted(Counter((ref.format, ref.action) for ref in refs)),
        subjects=_sorted(Counter((ref.format, ref.subject) for ref in refs)),
        cameras=_sorted(Counter(ref.camera for ref in refs if ref.camera is not None)),
        with_sound=sum(ref.audio_path is not None for ref in refs),
    )


def count_contents(refs: Sequence[RecordingRef]) -> ContentCounts:
    """Read every recording, one at a time; report a file that cannot be read instead of raising."""
    counts = ContentCounts()
    for ref in track(refs, "reading", len(refs)):
        try:
            frames, bodies = READERS[ref.format][0](ref.skeleton_path)[1].shape[:2]
            counts.frames.append(frames)
            counts.bodies[bodies] += 1
        except MissingSkeletonError:
            counts.missing_skeletons.append(ref.name)
        except DataError as error:
            counts.unreadable.append(str(error))
        if ref.audio_path is None:
            continue
        try:
            waveform, rate_hz = read_native(ref.audio_path)
            counts.sound_s.append(len(waveform) / rate_hz)
            counts.sample_rates_hz[rate_hz] += 1
        except DataError as error:
            counts.unreadable.append(str(error))
    return counts


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
            "frames": _distribution(contents.frames),
            "bodies": [{"bodies": n, "recordings": count} for n, count in _sorted(contents.bodies).items()],
            "sound_s": _distribution(contents.sound_s),
            "sample_rates_hz": [
                {"rate": rate, "recordings": count} for rate, count in _sorted(contents.sample_rates_hz).items()
            ],
            "missing_skeletons": contents.missing_skeletons,
            "unreadable": contents.unreadable,
        }
    return document


def _distribution(numbers: Sequence[float]) -> dict[str, float] | None:
    if not numbers:
        return None
    median = float(np.median(numbers))
    return {"minimum": min(numbers), "median": median, "maximum": max(numbers), "total": sum(numbers)}


def _sorted(counter: Counter[Any]) -> dict[Any, int]:
    return dict(sorted(counter.items()))
