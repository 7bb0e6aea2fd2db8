"""Splits of a catalogue into training, validation and test recordings.

`x-sub` and `x-view` are the official protocols of NTU RGB+D 60 (Shahroudy et al., CVPR 2016), whose test part is
fixed; validation is taken out of the training part. The paper splits 60/20/20.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from preprocess.errors import DataError, UsageError

from .recording import RecordingRef

Refs = tuple[RecordingRef, ...]
_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=Hashable)

X_SUB_TRAINING_SUBJECTS = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
X_VIEW_TRAINING_CAMERAS = frozenset({2, 3})

_PART_OF_FIVE = 0.2  # validation and test of 60/20/20
_MIN_FOR_A_SHARE = 3  # so many members give every part one


@dataclass(frozen=True)
class Split:
    """Three parts without common members, each sorted by name."""

    train: Refs
    validation: Refs
    test: Refs


def split(refs: Sequence[RecordingRef], protocol: str, *, seed: int = 0, validation_fraction: float = 0.1) -> Split:
    """Splits recordings by a protocol. The same recordings, protocol and seed give the same parts in any order.

    Args:
        refs: recordings, each name once.
        protocol: one of `PROTOCOLS`: `x-sub` and `x-view`, the official ones of NTU RGB+D 60; `60/20/20`, drawn within
            each action; `60/20/20-subject`, where all recordings of a person are in one part; `all`, which leaves
            nothing to test on, for a model that is tested on another folder.
        seed: of every draw, 0 or more.
        validation_fraction: share of the training part (of all but 60/20/20) that becomes validation, drawn within each
            action, in [0, 1). An action with three recordings or more gives at least one.

    Raises:
        UsageError: the protocol does not exist, the seed or the fraction is out of range.
        DataError: the recordings do not have what the protocol needs, or a part would be empty.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol {protocol!r} does not exist; use one of {', '.join(PROTOCOLS)}")
    if seed < 0:
        raise UsageError(f"seed is {seed}; use 0 or more")
    if not 0 <= validation_fraction < 1:
        raise UsageError(f"validation_fraction is {validation_fraction}; use a number of at least 0 and below 1")
    parts = _RULES[protocol](_by_name(refs), seed, validation_fraction)
    may_be_empty = {"test"} if protocol == "all" else set()
    if validation_fraction == 0 and not protocol.startswith("60/20/20"):
        may_be_empty.add("validation")
    empty = [name for name in ("train", "validation", "test") if not getattr(parts, name) and name not in may_be_empty]
    if empty:
        raise DataError(
            f"protocol {protocol} leaves the {' and '.join(empty)} part empty for these {len(refs)} recordings; "
            "use another protocol or more recordings"
        )
    return parts


def _x_sub(refs: Refs, seed: int, validation_fraction: float) -> Split:
    for ref in refs:
        if ref.format != "ntu":
            raise DataError(f"protocol x-sub lists the subjects of NTU RGB+D; {ref.name} is none of it, use 60/20/20")
    training = [ref.subject in X_SUB_TRAINING_SUBJECTS for ref in refs]
    return _official(refs, training, seed, validation_fraction)


def _x_view(refs: Refs, seed: int, validation_fraction: float) -> Split:
    for ref in refs:
        if ref.camera is None:
            raise DataError(f"protocol x-view needs camera numbers; {ref.name} has none, use 60/20/20")
    training = [ref.camera in X_VIEW_TRAINING_CAMERAS for ref in refs]
    return _official(refs, training, seed, validation_fraction)


def _official(refs: Refs, training: list[bool], seed: int, validation_fraction: float) -> Split:
    candidates = [ref for ref, chosen in zip(refs, training, strict=True) if chosen]
    test = tuple(ref for ref, chosen in zip(refs, training, strict=True) if not chosen)
    validation, train = _draw_within_actions(candidates, (validation_fraction,), seed)
    return Split(train, validation, test)


def _all(refs: Refs, seed: int, validation_fraction: float) -> Split:
    return _official(refs, [True] * len(refs), seed, validation_fraction)


def _stratified(refs: Refs, seed: int, _: float) -> Split:
    test, validation, train = _draw_within_actions(refs, (_PART_OF_FIVE, _PART_OF_FIVE), seed)
    return Split(train, validation, test)


def _by_subject(refs: Refs, seed: int, _: float) -> Split:
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
        rng = np.random.default_rng([seed, *format.encode(), action])  # an action's draw is its own
        for part, drawn in zip(parts, _draw(members, fractions, rng), strict=True):
            part += drawn
    return [_by_name(part) for part in parts]


def _draw(members: Sequence[_Item], fractions: tuple[float, ...], rng: np.random.Generator) -> list[list[_Item]]:
    """Shuffles and cuts: a part per fraction, of at least one member where there are three, and then the rest."""
    shuffled = [members[i] for i in rng.permutation(len(members))]
    drawn = []
    for fraction in fractions:
        share = round(fraction * len(members))
        if fraction > 0 and len(members) >= _MIN_FOR_A_SHARE:
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


_RULES: dict[str, Callable[[Refs, int, float], Split]] = {
    "x-sub": _x_sub,
    "x-view": _x_view,
    "60/20/20": _stratified,
    "60/20/20-subject": _by_subject,
    "all": _all,
}
PROTOCOLS = tuple(_RULES)
