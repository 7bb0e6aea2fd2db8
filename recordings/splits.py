"""Split recordings into training, validation and test.

The protocols `x-sub` and `x-view` are the official ones of NTU RGB+D 60 (Shahroudy et al., CVPR 2016), whose test part
is fixed; validation is a share of the training part. The paper splits 60/20/20.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from preprocess.errors import DataError, UsageError

from .catalogue import Refs, by_name
from .recording import RecordingRef

_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=Hashable)

X_SUB_TRAINING_SUBJECTS = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
X_VIEW_TRAINING_CAMERAS = frozenset({2, 3})
_VALIDATION_SHARE = 0.1  # of the training part, where the protocol leaves it open
_PART_OF_FIVE = 0.2  # validation and test of 60/20/20
_MIN_FOR_A_SHARE = 3  # with three members or more, every part gets one


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
    parts = _RULES[protocol](by_name(refs), seed)
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
    test, validation, train = (by_name(ref for s in part for ref in by_subject[s]) for part in drawn)
    return Split(train, validation, test)


def _draw_within_actions(refs: Iterable[RecordingRef], fractions: tuple[float, ...], seed: int) -> list[Refs]:
    """One part per fraction and one of the rest, with that share of every action."""
    parts: list[list[RecordingRef]] = [[] for _ in range(len(fractions) + 1)]
    for (format, action), members in _group(refs, lambda ref: (ref.format, ref.action)).items():
        rng = np.random.default_rng([seed, *format.encode(), action])  # independent of the other actions
        for part, drawn in zip(parts, _draw(members, fractions, rng), strict=True):
            part += drawn
    return [by_name(part) for part in parts]


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


_RULES: dict[str, Callable[[Refs, int], Split]] = {
    "x-sub": _x_sub,
    "x-view": _x_view,
    "60/20/20": _stratified,
    "60/20/20-subject": _by_subject,
    "all": _all,
}
PROTOCOLS = tuple(_RULES)
