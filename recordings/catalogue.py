"""Finds the recordings below a folder. File names say all that is needed; no file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from preprocess.errors import DataError

from . import msr, ntu
from .recording import RecordingRef

OnError = Literal["raise", "skip"]

_HEADER_LINES = 3  # of the data set's list of missing skeletons
_EXPECTED = f"SsssCcccPpppRrrrAaaa{ntu.SUFFIX} (NTU RGB+D) or aXX_sYY_eZZ{msr.SUFFIX} (MSR Daily Activity 3D)"


@dataclass(frozen=True)
class Catalogue:
    """The recordings of a folder.

    Attributes:
        refs: usable recordings, sorted by name.
        excluded: names left out because the list of missing skeletons has them, sorted.
        problems: what was skipped and why, one line each.
    """

    refs: tuple[RecordingRef, ...]
    excluded: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass
class _Found:
    skeletons: list[str] = field(default_factory=list)
    wavs: dict[str, list[str]] = field(default_factory=dict)  # stem → paths

    def add(self, path: str) -> None:
        if path.endswith((ntu.SUFFIX, msr.SUFFIX)):
            self.skeletons.append(path)
        elif path.lower().endswith(".wav"):
            self.wavs.setdefault(os.path.basename(path)[:-4], []).append(path)


def scan(
    root: Path,
    *,
    audio_root: Path | None = None,
    missing_list: Path | None = None,
    on_error: OnError = "raise",
    require_audio: bool = True,
) -> Catalogue:
    """Lists the recordings below `root`, at any depth, of both formats.

    A recording's sound is the WAV file of the same name (without `_skeleton`): the one beside the skeleton file, else
    the one below `audio_root`, else the one below `root`.

    Args:
        root: folder with skeleton files.
        audio_root: further folder with WAV files.
        missing_list: text file of names to leave out, in the form of NTU RGB+D's list of missing skeletons: up to
            three header lines, then a name per line.
        on_error: `raise`, or `skip` to leave a recording out and tell so in `problems`.
        require_audio: a recording without sound is a problem; otherwise it stays, with `audio_path` None.

    Raises:
        DataError: a folder or the list does not exist or is not valid, there is no recording, or, with
            `on_error="raise"`, there is a problem with one.
    """
    found = _walk(root)
    if not found.skeletons:
        raise DataError(f"{root}: no recordings here; file names are {_EXPECTED}")
    extra = _walk(audio_root).wavs if audio_root is not None else {}
    missing = read_missing_list(missing_list) if missing_list is not None else frozenset()

    refs: dict[str, RecordingRef] = {}
    excluded: set[str] = set()
    problems: list[str] = []
    for path in sorted(found.skeletons):
        try:
            ref = _make_ref(path)
            if ref.name in missing:
                excluded.add(ref.name)
                continue
            if ref.name in refs:
                raise DataError(f"{path}: {refs[ref.name].skeleton_path} has the same name; keep one of them")
            audio_path = _find_wav(ref, extra, found.wavs)
            if audio_path is None and require_audio:
                raise DataError(f"{path}: its sound {ref.name}.wav is not there; name the folder of the WAV files")
            refs[ref.name] = replace(ref, audio_path=audio_path)
        except DataError as error:
            problems.append(str(error))
    if problems and (on_error == "raise" or not refs):
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)
    return Catalogue(tuple(refs[name] for name in sorted(refs)), tuple(sorted(excluded)), tuple(problems))


def read_missing_list(path: Path) -> frozenset[str]:
    """Reads a list of recordings to leave out: up to three header lines, then one NTU or MSR name per line.

    Raises:
        DataError: the file does not exist or a line behind the header is no name.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: the list of missing skeletons does not exist") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: the list of missing skeletons is not plain text") from None
    names = set()
    for number, line in enumerate(map(str.strip, lines), start=1):
        if _is_name(line):
            names.add(line)
        elif line and number > _HEADER_LINES:
            raise DataError(f"{path}, line {number}: {line[:60]!r} is not the name of a recording")
    return frozenset(names)


def _is_name(text: str) -> bool:
    for parse in (ntu.parse_name, msr.parse_name):
        try:
            parse(text)
        except DataError:
            continue
        return True
    return False


def _walk(root: Path) -> _Found:
    if not root.is_dir():
        raise DataError(f"{root}: {'not a folder' if root.exists() else 'the folder does not exist'}")
    found = _Found()
    for path in _files(os.fspath(root)):
        found.add(path)
    return found


def _files(root: str) -> Iterator[str]:
    """Files below a folder; links are followed, each folder is entered once, hidden names are passed over."""
    entered: set[tuple[int, int]] = set()
    folders = [root]
    while folders:
        folder = folders.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    yield entry.path


def _make_ref(path: str) -> RecordingRef:
    file_name = os.path.basename(path)
    try:
        if file_name.endswith(ntu.SUFFIX):
            name = file_name.removesuffix(ntu.SUFFIX)
            setup, camera, subject, replication, action = ntu.parse_name(name)
            return RecordingRef(name, "ntu", Path(path), None, action, subject, camera, setup, replication)
        name = file_name.removesuffix(msr.SUFFIX)
        action, subject, replication = msr.parse_name(name)
        return RecordingRef(name, "msr", Path(path), None, action, subject, None, None, replication)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _find_wav(ref: RecordingRef, extra: dict[str, list[str]], own: dict[str, list[str]]) -> Path | None:
    beside = os.path.dirname(ref.skeleton_path)
    near = [path for path in own.get(ref.name, ()) if os.path.dirname(path) == beside]
    candidates = near or extra.get(ref.name) or own.get(ref.name) or []
    if len(candidates) > 1:
        raise DataError(f"{ref.skeleton_path}: its sound is there twice, {' and '.join(sorted(candidates)[:2])}")
    return Path(candidates[0]) if candidates else None
