"""`inspect`: the command that looks at a folder of recordings."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from console.program import add_common_options, show, show_json, warn
from preprocess.errors import DataError, UsageError

if TYPE_CHECKING:
    from .catalogue import Catalogue
    from .inspection import ContentCounts, Distribution, NameCounts
    from .recording import RecordingRef

_SHOWN = 10  # lines of a list that may be thousands long


def add_inspect_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `inspect` to a program."""
    parser = subparsers.add_parser(
        "inspect",
        help="count the recordings of a folder, check them, draw one",
        description="Count the recordings below a folder (NTU RGB+D 60, MSR Daily Activity 3D), check them, draw one.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with skeleton files, searched at any depth")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder with WAV files, unless they are in DIR")
    parser.add_argument("--missing-list", type=Path, metavar="FILE", help="list of recordings to leave out")
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="end with exit code 4 if a recording has a problem (default), or leave it out and report it",
    )
    parser.add_argument("--full", action="store_true", help="read every file: lengths, bodies, sample rates, defects")
    parser.add_argument("--draw", metavar="NAME", help="draw one recording and its model inputs instead of counting")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="where the drawing goes")
    add_common_options(parser)
    parser.set_defaults(handler=_inspect)


def _inspect(options: argparse.Namespace) -> None:
    from .catalogue import scan

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
        return
    _count(options, catalogue)


def _draw(options: argparse.Namespace, catalogue: Catalogue) -> None:
    from preprocess.spec import PreprocessSpec

    from .actions import action_code, action_name
    from .drawing import draw_recording
    from .reading import read_recording

    ref = _find(catalogue, options.draw)
    spec = PreprocessSpec.preset("paper")
    recording = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz)
    action = f"{action_code(ref.format, ref.action)} {action_name(ref.format, ref.action)}"
    notes = draw_recording(recording, action, spec, options.out)
    for note in notes:
        warn(note)
    if options.json:
        show_json({"name": ref.name, "drawing": str(options.out), "notes": list(notes)})
        return
    show(str(options.out))


def _find(catalogue: Catalogue, name: str) -> RecordingRef:
    by_name = {ref.name: ref for ref in catalogue.refs}
    if name not in by_name:
        close = difflib.get_close_matches(name, by_name, n=3) or list(by_name)[:3]
        raise UsageError(f"--draw {name}: no such recording; there is for example {', '.join(close)}")
    return by_name[name]


def _count(options: argparse.Namespace, catalogue: Catalogue) -> None:
    from .inspection import count_contents, count_names, to_document

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
    from console.table import format_table

    from .actions import action_code, action_name

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
    show(f"recordings by number of bodies: {_pairs(contents.bodies)}")
    show(f"sound in seconds: {_spread(contents.sound_s)}")
    show(f"recordings by sample rate in Hz: {_pairs(contents.sample_rates_hz)}")
    _show_list("without a skeleton in any frame", contents.missing_skeletons)
    _show_list("unreadable", contents.unreadable)


def _show_list(title: str, items: tuple[str, ...]) -> None:
    if not items:
        return
    show(f"{title}: {len(items)}")
    for item in items[:_SHOWN]:
        show(f"  {item}")
    if len(items) > _SHOWN:
        show(f"  and {len(items) - _SHOWN} more (all with --json)")


def _pairs(counts: dict[str, int] | dict[int, int]) -> str:
    return ", ".join(f"{key}: {count}" for key, count in counts.items()) or "none"


def _spread(values: Distribution | None) -> str:
    if values is None:
        return "none"
    return f"{values.minimum:g} to {values.maximum:g}, median {values.median:g}, {values.total:g} in all"
