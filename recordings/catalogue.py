"""Find the recordings below a folder by their file names, and split them into training, validation and test.

No file is opened. The protocols `x-sub` and `x-view` are the official ones of NTU RGB+D 60 (Shahroudy et al., CVPR
2016), whose test part is fixed; validation is a share of the training part. The paper splits 60/20/20.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from preprocess.errors import DataError, UsageError

from . import msr, ntu
from .recording import RecordingRef

OnError: TypeAlias = Literal["raise", "skip"]
Refs: TypeAlias = tuple[RecordingRef, ...]
_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=Hashable)

X_SUB_TRAINING_SUBJECTS = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
X_VIEW_TRAINING_CAMERAS = frozenset({2, 3})

_HEADER_LINES = 3  # of the data set's list of missing skeletons
_EXPECTED = f"SsssCcccPpppRrrrAaaa{ntu.SUFFIX} (NTU RGB+D) or aXX_sYY_eZZ{msr.SUFFIX} (MSR Daily Activity 3D)"
_VALIDATION_SHARE = 0.1  # of the training part, where the protocol leaves it open
_PART_OF_FIVE = 0.2  # validation and test of 60/20/20
_MIN_FOR_A_SHARE = 3  # with three members or more, every part gets one


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
    return Catalogue(_by_name(refs.values()), tuple(sorted(excluded)), tuple(problems))


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


@dataclass(frozen=True)
class Split:
    """Three parts without common members, each sorted by name."""

    train: Refs
    validation: Refs
    test: Refs


def split(refs: Sequence[RecordingRef], protocol: str, *, seed: int = 0) -> Split:
    """Split recordings by a protocol. The same recordings, protocol and seed give the same parts in any order.

    Args:
        refs: recordings, each name once.
        protocol: one of `PROTOCOLS`: `x-sub` and `x-view`, the official ones of NTU RGB+D 60; `60/20/20`, drawn within
            each action; `60/20/20-subject`, where all recordings of a person are in one part; `all`, which leaves
            nothing to test on, for a model that is tested on another folder. Where a protocol has no validation part,
            a tenth of its training part becomes one, drawn within each action: at least one of three recordings.
        seed: of every draw, 0 or more.

    Raises:
        UsageError: the protocol does not exist.
        DataError: the recordings do not have what the protocol needs, or a part would be empty.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol {protocol!r} does not exist; use one of {', '.join(PROTOCOLS)}")
    parts = _RULES[protocol](_by_name(refs), seed)
    needed = ("train", "validation") if protocol == "all" else ("train", "validation", "test")
    empty = [name for name in needed if not getattr(parts, name)]
    if empty:
        raise DataError(
            f"protocol {protocol} leaves the {' and '.join(empty)} part empty for these {len(refs)} recordings; "
            "use another protocol or more recordings"
        )
    return parts


def _x_sub(refs: Refs, seed: int) -> Split:
    for ref in refs:
        if ref.format != "ntu":
            raise DataError(f"protocol x-sub lists subjects of NTU RGB+D; {ref.name} is of another set, use 60/20/20")
    return _fixed_test(refs, seed, lambda ref: ref.subject not in X_SUB_TRAINING_SUBJECTS)


def _x_view(refs: Refs, seed: int) -> Split:
    for ref in refs:
        if ref.camera is None:
            raise DataError(f"protocol x-view needs camera numbers; {ref.name} has none, use 60/20/20")
    return _fixed_test(refs, seed, lambda ref: ref.camera not in X_VIEW_TRAINING_CAMERAS)


def _all(refs: Refs, seed: int) -> Split:
    return _fixed_test(refs, seed, lambda _: False)


def _fixed_test(refs: Refs, seed: int, is_test: Callable[[RecordingRef], bool]) -> Split:
    training = [ref for ref in refs if not is_test(ref)]
    validation, train = _draw_within_actions(training, (_VALIDATION_SHARE,), seed)
    return Split(train, validation, tuple(filter(is_test, refs)))


def _stratified(refs: Refs, seed: int) -> Split:
    test, validation, train = _draw_within_actions(refs, (_PART_OF_FIVE, _PART_OF_FIVE), seed)
    return Split(train, validation, test)


def _by_subject(refs: Refs, seed: int) -> Split:
    by_subject = _group(refs, lambda ref: (ref.format, ref.subject))
    subjects = sorted(by_subject)
    if len(subjects) < _MIN_FOR_A_SHARE:
        raise DataError(f"protocol 60/20/20-subject needs at least 3 subjects; the recordings have {len(subjects)}")
    drawn = _draw(subjects, (_PART_OF_FIVE, _PART_OF_FIVE), np.random.default_rng(seed))
    test, validation, train = (_by_name(ref for s in part for ref in by_subject[s]) for part in drawn)
    return Split(train, validation, test)


def _draw_within_actions(refs: Iterable[RecordingRef], fractions: tuple[float, ...], seed: int) -> list[Refs]:
    """One part per fraction and one of the rest, with that share of every action."""
    parts: list[list[RecordingRef]] = [[] for _ in range(len(fractions) + 1)]
    for (format, action), members in _group(refs, lambda ref: (ref.format, ref.action)).items():
        rng = np.random.default_rng([seed, *format.encode(), action])  # independent of the other actions
        for part, drawn in zip(parts, _draw(members, fractions, rng), strict=True):
            part += drawn
    return [_by_name(part) for part in parts]


def _draw(members: Sequence[_Item], fractions: tuple[float, ...], rng: np.random.Generator) -> list[list[_Item]]:
    """Shuffle and cut: a part per fraction, of at least one member of three or more, and then the rest."""
    shuffled = [members[i] for i in rng.permutation(len(members))]
    drawn = []
    for fraction in fractions:
        share = round(fraction * len(members))
        if len(members) >= _MIN_FOR_A_SHARE:
            share = max(share, 1)
        drawn.append(shuffled[:share])
        shuffled = shuffled[share:]
    return [*drawn, shuffled]


def _group(refs: Iterable[RecordingRef], key: Callable[[RecordingRef], _Key]) -> dict[_Key, list[RecordingRef]]:
    groups: dict[_Key, list[RecordingRef]] = {}
    for ref in refs:
        groups.setdefault(key(ref), []).append(ref)
    return groups


def _by_name(refs: Iterable[RecordingRef]) -> Refs:
    return tuple(sorted(refs, key=lambda ref: ref.name))


_RULES: dict[str, Callable[[Refs, int], Split]] = {
    "x-sub": _x_sub,
    "x-view": _x_view,
    "60/20/20": _stratified,
    "60/20/20-subject": _by_subject,
    "all": _all,
}
PROTOCOLS = tuple(_RULES)
