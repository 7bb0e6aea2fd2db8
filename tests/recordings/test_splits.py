"""The official protocols against published numbers, the drawn ones by their properties."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest

from preprocess.errors import DataError, UsageError
from recordings.recording import RecordingRef
from recordings.splits import PROTOCOLS, Split, split

# The 302 recordings with missing skeletons that NTU RGB+D's authors list
# (Matlab/NTU_RGBD_samples_with_missing_skeletons.txt), counted by performer and camera 1, 2, 3.
MISSING_BY_SUBJECT_AND_CAMERA = {
    1: (1, 7, 2), 2: (1, 1, 4), 3: (0, 1, 0), 4: (0, 2, 0), 5: (0, 1, 3), 6: (0, 1, 1), 7: (1, 7, 22), 8: (1, 10, 18),
    10: (0, 4, 1), 11: (0, 1, 2), 14: (0, 0, 1), 15: (1, 7, 5), 16: (2, 12, 7), 17: (3, 9, 9), 18: (3, 5, 4),
    19: (4, 3, 6), 20: (0, 6, 1), 21: (0, 0, 1), 22: (0, 1, 1), 23: (0, 4, 0), 24: (0, 2, 0), 25: (4, 5, 28),
    26: (0, 6, 0), 27: (1, 6, 17), 28: (4, 2, 4), 29: (0, 1, 0), 31: (0, 2, 6), 32: (0, 1, 1), 33: (0, 0, 3),
    34: (0, 2, 7), 35: (0, 3, 6), 39: (0, 1, 1), 40: (2, 0, 0),
}  # fmt: skip


def ntu_ref(subject: int, camera: int, action: int = 1, replication: int = 1, setup: int = 1) -> RecordingRef:
    name = f"S{setup:03d}C{camera:03d}P{subject:03d}R{replication:03d}A{action:03d}"
    return RecordingRef(name, "ntu", Path(f"{name}.skeleton"), None, action, subject, camera, setup, replication)


def msr_ref(action: int, subject: int, replication: int) -> RecordingRef:
    name = f"a{action:02d}_s{subject:02d}_e{replication:02d}"
    path = Path(f"{name}_skeleton.txt")
    return RecordingRef(name, "msr", path, None, action, subject, None, None, replication)


def all_ntu(actions: int = 6) -> list[RecordingRef]:
    """Every performer before every camera."""
    every = itertools.product(range(1, 41), (1, 2, 3), range(1, actions + 1), (1, 2))
    return [ntu_ref(subject, camera, action, replication) for subject, camera, action, replication in every]


def all_msr() -> list[RecordingRef]:
    """The 320 recordings of MSR Daily Activity 3D."""
    return [msr_ref(action, subject, e) for action in range(1, 17) for subject in range(1, 11) for e in (1, 2)]


def assert_partition(parts: Split, refs: list[RecordingRef]) -> None:
    three = (parts.train, parts.validation, parts.test)
    assert sorted(ref.name for part in three for ref in part) == sorted(ref.name for ref in refs)
    for part in three:
        assert [ref.name for ref in part] == sorted(ref.name for ref in part)


@pytest.mark.parametrize(
    ("protocol", "train", "test"),
    [("x-sub", 40_320 - 40_091, 16_560 - 16_487), ("x-view", 37_920 - 37_646, 18_960 - 18_932)],
)
def test_official_rules_on_the_authors_302_recordings(protocol: str, train: int, test: int) -> None:
    """Published sizes with and without these 302 differ by what each part loses."""
    refs = [
        ntu_ref(subject, camera, setup=number + 1)
        for subject, counts in MISSING_BY_SUBJECT_AND_CAMERA.items()
        for camera, count in enumerate(counts, start=1)
        for number in range(count)
    ]
    assert len(refs) == 302
    parts = split(refs, protocol)
    assert (len(parts.train) + len(parts.validation), len(parts.test)) == (train, test)


@pytest.mark.parametrize(
    ("protocol", "attribute", "training"),
    [
        ("x-sub", "subject", {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}),
        ("x-view", "camera", {2, 3}),
    ],
)
def test_the_official_protocols_train_on_the_published_subjects_or_cameras(
    protocol: str, attribute: str, training: set[int]
) -> None:
    refs = all_ntu()
    parts, other = (split(refs, protocol, seed=seed) for seed in (1, 2))
    assert {getattr(ref, attribute) for ref in (*parts.train, *parts.validation)} == training
    assert {getattr(ref, attribute) for ref in parts.test} == {getattr(ref, attribute) for ref in refs} - training
    assert_partition(parts, refs)
    counts = Counter(ref.action for ref in (*parts.train, *parts.validation))
    assert Counter(ref.action for ref in parts.validation) == {a: round(0.1 * count) for a, count in counts.items()}
    assert parts.test == other.test
    assert parts.validation != other.validation


def test_60_20_20_of_msr_is_12_4_4_for_every_action() -> None:
    refs = all_msr()
    parts = split(refs, "60/20/20", seed=5)
    for part, count in ((parts.train, 12), (parts.validation, 4), (parts.test, 4)):
        assert Counter(ref.action for ref in part) == dict.fromkeys(range(1, 17), count)
    assert_partition(parts, refs)
    least = split([msr_ref(1, subject, 1) for subject in (1, 2, 3)], "60/20/20")
    assert len(least.train) == len(least.validation) == len(least.test) == 1


@pytest.mark.parametrize("refs", [all_msr(), all_ntu()], ids=["msr", "ntu"])
def test_60_20_20_subject_separates_people(refs: list[RecordingRef]) -> None:
    parts = split(refs, "60/20/20-subject", seed=5)
    people = [{ref.subject for ref in part} for part in (parts.train, parts.validation, parts.test)]
    total = len(set.union(*people))
    assert sum(map(len, people)) == total
    assert [len(part) / total for part in people] == [0.6, 0.2, 0.2]
    assert_partition(parts, refs)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_order_does_not_matter_and_the_seed_does(protocol: str) -> None:
    refs = all_ntu()
    shuffled = random.Random(0).sample(refs, len(refs))
    assert split(refs, protocol, seed=3) == split(shuffled, protocol, seed=3)
    assert split(refs, protocol, seed=3) != split(refs, protocol, seed=4)


def test_the_draw_of_an_action_does_not_depend_on_other_actions_or_formats() -> None:
    refs = [*all_msr(), *all_ntu(actions=9)]
    parts = split(refs, "60/20/20")
    assert sum(ref.format == "msr" for ref in parts.test) == 64
    for format in ("msr", "ntu"):
        few = split([ref for ref in refs if (ref.format, ref.action) == (format, 9)], "60/20/20")
        assert few.test == tuple(ref for ref in parts.test if (ref.format, ref.action) == (format, 9))


@pytest.mark.parametrize(
    ("refs", "protocol", "message"),
    [
        (all_msr(), "x-view", "x-view needs camera numbers; a01_s01_e01 has none, use 60/20/20"),
        (all_msr(), "x-sub", "x-sub lists subjects of NTU RGB\\+D; a01_s01_e01"),
        ([ntu_ref(1, 1), ntu_ref(1, 2)], "60/20/20", "leaves the validation and test part empty for these 2 rec"),
        ([ntu_ref(s, 2, replication=r) for s in (1, 2) for r in (1, 2)], "x-view", "leaves the test part empty"),
        ([ntu_ref(1, 1), ntu_ref(2, 1)], "60/20/20-subject", "needs at least 3 subjects; the recordings have 2"),
        (all_msr(), "xsub", "protocol 'xsub' does not exist; use one of x-sub, x-view, 60/20/20"),
        ([], "60/20/20", "leaves the train and validation and test part empty for these 0 recordings"),
    ],
)
def test_recordings_that_do_not_suit_the_protocol(refs: list[RecordingRef], protocol: str, message: str) -> None:
    with pytest.raises(UsageError if protocol == "xsub" else DataError, match=message):
        split(refs, protocol)
