"""Find the recordings below a folder by their file names. No file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from preprocess.errors import DataError

from . import msr, ntu
from .recording import RecordingRef

OnError: TypeAlias = Literal["raise", "skip"]
Refs: TypeAlias = tuple[RecordingRef, ...]


_HEADER_LINES = 3  # of the data set's list of missing skeletons
_EXPECTED = f"SsssCcccPpppRrrrAaaa{ntu.SUFFIX} (NTU RGB+D) or aXX_sYY_eZZ{msr.SUFFIX} (MSR Daily Activity 3D)"


@dataclass(frozen=True)
class Catalogue:
    """The recordings of a folder.

    Attributes:
        refs: usable recordings, sorted by name.
        excluded: names left out because the list of missing skeletons has them, sorted.
        problems: recordings left out for another reason, one line each.
    """

    refs: Refs
    excluded: tuple[str, ...]
    problems: tuple[str, ...]


def scan(
    root: Path,
    *,
    audio_root: Path | None = None,
    missing_list: Path | None = None,
    on_error: OnError = "raise",
    require_audio: bool = True,
) -> Catalogue:
    """List the recordings below `root`, at any depth, of both formats.

    A recording's sound is the WAV file of the same name (without `_skeleton`): the one beside the skeleton file, else
    the one below `audio_root`, else the one below `root`.

    Args:
        root: folder with skeleton files.
        audio_root: further folder with WAV files.
        missing_list: text file of names to leave out, in the form of NTU RGB+D's list of missing skeletons: up to
            three header lines, then a name per line.
        on_error: `raise`, or `skip` to leave a recording out and report it in `problems`.
        require_audio: a recording without sound is a problem; otherwise it stays, with `audio_path` None.

    Raises:
        DataError: a folder or the list does not exist or is not valid, there is no recording, or, with
            `on_error="raise"`, there is a problem with one.
    """
    skeletons, wavs = _walk(root)
    if not skeletons:
        raise DataError(f"{root}: no recordings here; file names are {_EXPECTED}")
    extra_wavs = _walk(audio_root)[1] if audio_root is not None else {}
    missing = read_missing_list(missing_list) if missing_list is not None else frozenset()

    refs: dict[str, RecordingRef] = {}
    excluded: set[str] = set()
    problems: list[str] = []
    for path in sorted(skeletons):
        try:
            ref = _make_ref(path)
            if ref.name in missing:
                excluded.add(ref.name)
                continue
            if ref.name in refs:
                raise DataError(f"{path}: {refs[ref.name].skeleton_path} has the same name; keep one of them")
            audio_path = _find_wav(ref, extra_wavs, wavs)
            if audio_path is None and require_audio:
                raise DataError(f"{path}: its sound {ref.name}.wav does not exist; name the folder of the WAV files")
            refs[ref.name] = replace(ref, audio_path=audio_path)
        except DataError as error:
            problems.append(str(error))
    if problems and (on_error == "raise" or not refs):
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)
    return Catalogue(by_name(refs.values()), tuple(sorted(excluded)), tuple(problems))


def read_missing_list(path: Path) -> frozenset[str]:
    """Read a list of recordings to leave out: up to three header lines, then one NTU or MSR name per line.

    Raises:
        DataError: the file does not exist, or a line after the header is not a name.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: the list of missing skeletons does not exist") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: the list of missing skeletons is not plain text") from None
    names = set()
    for number, line in enumerate(map(str.strip, lines), start=1):
        if ntu.NAME.fullmatch(line) or msr.NAME.fullmatch(line):
            names.add(line)
        elif line and number > _HEADER_LINES:
            raise DataError(f"{path}, line {number}: {line[:60]!r} is not the name of a recording")
    return frozenset(names)


def _walk(root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Skeleton files below a folder, and WAV files by their stem."""
    if not root.is_dir():
        raise DataError(f"{root}: {'not a folder' if root.exists() else 'the folder does not exist'}")
    skeletons: list[str] = []
    wavs: dict[str, list[str]] = {}
    for path in _files(os.fspath(root)):
        if path.endswith((ntu.SUFFIX, msr.SUFFIX)):
            skeletons.append(path)
        elif path.lower().endswith(".wav"):
            wavs.setdefault(os.path.basename(path)[:-4], []).append(path)
    return skeletons, wavs


def _files(root: str) -> Iterator[str]:
    """Files below a folder; links are followed, each folder is entered once, hidden names are skipped."""
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
    name = os.path.basename(path)
    try:
        if name.endswith(ntu.SUFFIX):
            return ntu.parse_name(name.removesuffix(ntu.SUFFIX), Path(path))
        return msr.parse_name(name.removesuffix(msr.SUFFIX), Path(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _find_wav(ref: RecordingRef, extra: dict[str, list[str]], below: dict[str, list[str]]) -> Path | None:
    folder = os.path.dirname(ref.skeleton_path)
    beside = [path for path in below.get(ref.name, ()) if os.path.dirname(path) == folder]
    candidates = beside or extra.get(ref.name) or below.get(ref.name) or []
    if len(candidates) > 1:
        raise DataError(f"{ref.skeleton_path}: its sound exists twice, {' and '.join(sorted(candidates)[:2])}")
    return Path(candidates[0]) if candidates else None


def by_name(refs: Iterable[RecordingRef]) -> Refs:
    return tuple(sorted(refs, key=lambda ref: ref.name))
