"""Both readers of skeleton files: one contract for files, names and refusals; and what is special to each format.

The NTU reader is compared with a literal port of the data set's MATLAB reader.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.skeletons import msr_lines, msr_world, ntu_lines

from preprocess.errors import DataError
from recordings import msr, ntu
from recordings.recording import MissingSkeletonError

BIG_ID = 72057594037931101  # above 2^56, as in the data set; its float64 neighbour is the same number + 16
NTU_NAME = "S001C001P001R001A001.skeleton"
ANY_FILE = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / NTU_NAME
    path.write_text("\r\n".join(lines) + "\r\n")  # the data set's files come with either line end
    return path


# Faults: line, 1-based, its new content, message.
# NTU lines of frames [[1], [1, 2]]: 1 frame count; 2 body count, 3 body, 4 joint count, 5 to 29 joints; 30 body count,
# 31 body, 32 joint count, 33 to 57 joints, 58 body, 59 joint count, 60 to 84 joints.
NTU_FAULTS = {
    "frame count is no number": (1, "abc", r"'abc' is not a number"),
    "frame count is negative": (1, "-2", r"the frame count is '-2'"),
    "frame count too large": (1, "3", r"line 84: the file ends before the body count of frame 3"),
    "frame count too small": (1, "1", r"line 30: 55 line\(s\) follow the last frame"),
    "frame count absurd": (1, "9" * 18, r"line 84: the file ends before the body count of frame 3"),
    "body count too large": (30, "3", r"line 84: the file ends before the line of a body"),
    "body line too short": (31, "1 0 1 1", r"the line of a body: \d+ field\(s\) expected, 4 found"),
    "body id is no whole number": (31, "7.2e16 0 1 1 0 0 0 0 0 2", r"the id of a body is '7.2e16'"),
    "body twice in a frame": (58, "1 0 1 1 0 0 0 0 0 2", r"body 1 stands in frame 2 twice"),
    "joint count": (32, "20", r"the joint count is 20; an NTU RGB\+D body has 25"),
    "joint line too short": (40, "0.1 0.2 0.3", r"the line of a joint: \d+ field\(s\) expected, 3 found"),
    "coordinate is a word": (41, "0.1 oops 0.3" + " 0" * 9, r"'oops' is not a number"),
    "coordinate is malformed": (41, "0.1 1.2.3 0.3" + " 0" * 9, r"'1.2.3' is not a number"),
    "coordinate with underscore": (41, "0.1 1_0 0.3" + " 0" * 9, r"'1_0' is not a number"),
    "word in a column that is not used": (41, "0 " * 5 + "x7 " + "0 " * 6, r"'x7' is not a number"),
    "tracking state": (60, "0 " * 11 + "3", r"tracking state 3 of a joint; there are 0, 1 and 2"),
    "tracking state not finite": (60, "0 " * 11 + "nan", r"tracking state nan of a joint"),
}
# MSR lines of one body in each of two frames: 1 header; 2 row count, 3 to 42 rows; 43 row count, 44 to 83 rows.
MSR_FAULTS = {
    "header": (1, "2", r"the frame count and joint count: \d+ field\(s\) expected, 1 found"),
    "joint count": (1, "2 25", r"the joint count is 25; an MSR Daily Activity 3D body has 20"),
    "frame count too large": (1, "3 20", r"line 83: the file ends before the row count of frame 3"),
    "row count": (43, "60", r"frame 2 has 60 rows; one body takes 40"),
    "row count too large": (43, "80", r"line 83: the file ends before a row of frame 2"),
    "no row count": (43, "0.1 0.2 2 1", r"the row count of frame 2: \d+ field\(s\) expected, 4 found"),
    "row too short": (50, "0.1 0.2 0.3", r"a row of frame 2: \d+ field\(s\) expected, 3 found"),
    "malformed number": (50, "0.1 0.2 1e 1", r"'1e' is not a number"),
}


class Format(NamedTuple):
    """A reader, the lines of a good file and of one without bodies, faults, a name and its numbers, wrong names."""

    module: object
    good: list[str]
    empty: list[str]
    faults: dict[str, tuple[int, str, str]]
    name: str
    numbers: tuple[int | None, ...]
    wrong_names: dict[str, str]


FORMATS = {
    "ntu": Format(
        ntu,
        ntu_lines([[1], [1, 2]]),
        ntu_lines([[], [], []]),
        NTU_FAULTS,
        "S017C003P040R002A060",
        (60, 40, 3, 17, 2),
        {
            "S001C001P001R001": r"is not an NTU RGB\+D name",
            "S001C001P001R001A001_rgb": r"is not an NTU RGB\+D name",
            "S1C1P1R1A1": r"is not an NTU RGB\+D name",
            "s001c001p001r001a001": r"is not an NTU RGB\+D name",
            "S001C000P001R001A001": "holds a number 0",
            "S001C001P001R001A061": r"is action 61; NTU RGB\+D 60 has A001 to A060",
        },
    ),
    "msr": Format(
        msr,
        msr_lines(msr_world([1, 1])),
        msr_lines(msr_world([0, 0, 0])),
        MSR_FAULTS,
        "a16_s10_e02",
        (16, 10, None, None, 2),
        {"a1_s1_e1": "the form is aXX_sYY_eZZ", "a01_s00_e01": "number 0", "a17_s01_e01": "has a01 to a16"},
    ),
}
EVERY_FAULT = [(name, *fault) for name, row in FORMATS.items() for fault in row.faults.values()]
FAULT_IDS = [f"{name}: {fault}" for name, row in FORMATS.items() for fault in row.faults]


@pytest.mark.parametrize(("format", "line", "content", "message"), EVERY_FAULT, ids=FAULT_IDS)
def test_a_fault_is_named_with_file_and_line(
    tmp_path: Path, format: str, line: int, content: str, message: str
) -> None:
    lines = FORMATS[format].good.copy()
    lines[line - 1] = content
    path = write(tmp_path, lines)
    with pytest.raises(DataError, match=message if "line " in message[:5] else f"line {line}: {message}") as caught:
        FORMATS[format].module.read_skeleton(path)
    assert str(path) in str(caught.value)
    assert not isinstance(caught.value, MissingSkeletonError)


@pytest.mark.parametrize("format", FORMATS)
def test_a_recording_without_a_body_has_a_separate_error(tmp_path: Path, format: str) -> None:
    with pytest.raises(MissingSkeletonError, match="none of its 3 frames has a body; leave the recording out"):
        FORMATS[format].module.read_skeleton(write(tmp_path, FORMATS[format].empty))


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, format: str) -> None:
    lines = FORMATS[format].good
    for kept in (1, 2, 3, 4, 20, 29, 30, len(lines) - 1):
        with pytest.raises(DataError, match=rf"line {kept}: the file ends before"):
            FORMATS[format].module.read_skeleton(write(tmp_path, lines[:kept]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        ("1\n1\n".encode("utf-16"), "line 1: byte 0xFF; the file is not plain ASCII text"),
        (b"1\n1\n\x00\x01", "line 3: byte 0x00; the file is not plain ASCII text"),
        ("1\n１\n".encode(), "line 2: byte 0xEF; the file is not plain ASCII text"),
        (b"RIFF$ WAVEfmt", r"line 1: 'RIFF\$' is not a number"),
        (b"1\n0\njunk\n", "line 3: 'junk' is not a number"),
        (b"1\n0\n17\n", r"line 3: 1 line\(s\) follow the last frame"),
        (None, "the skeleton file does not exist"),
    ],
    ids=["empty", "blank", "UTF-16", "binary", "other digits", "a WAV", "trailing word", "trailing number", "absent"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / NTU_NAME
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        ntu.read_skeleton(path)


@pytest.mark.parametrize("format", FORMATS)
def test_names(format: str) -> None:
    row = FORMATS[format]
    ref = row.module.parse_name(row.name, Path("x"))
    assert (ref.name, ref.format, ref.skeleton_path, ref.audio_path) == (row.name, format, Path("x"), None)
    assert (ref.action, ref.subject, ref.camera, ref.setup, ref.replication) == row.numbers
    for name, message in row.wrong_names.items():
        with pytest.raises(DataError, match=message):
            row.module.parse_name(name)
    assert msr.parse_name("a16_s10_e02_skeleton") == msr.parse_name("a16_s10_e02")


@settings(ANY_FILE, max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("format", FORMATS)
def test_any_damage_gives_arrays_or_a_data_error(tmp_path: Path, format: str, data: st.DataObject) -> None:
    path = write(tmp_path, FORMATS[format].good)
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 400))
    content[start : start + length] = data.draw(
        st.binary(max_size=12) | st.sampled_from([b" ", b"\n", b"-", b"e9", b".."])
    )
    path.write_bytes(content)
    message = ""
    try:
        joints, confidence = FORMATS[format].module.read_skeleton(path)
        assert joints.shape == (*confidence.shape, 3)
        assert ((confidence >= 0) & (confidence <= 1)).all()
    except DataError as error:
        message = str(error)
    assert not message or message.startswith(str(path))


# NTU


def reference_frames(path: Path) -> list[dict[int, list[tuple[float, float, float, int]]]]:
    """`read_skeleton_file.m` of shahroudy/NTURGB-D, line by line: per frame, body id → (x, y, z, tracking state)."""
    with open(path) as file:
        frames = []
        for _ in range(int(file.readline())):
            bodies = {}
            for _ in range(int(file.readline())):
                body_id = int(file.readline().split()[0])
                joints = []
                for _ in range(int(file.readline())):
                    fields = file.readline().split()
                    joints.append((float(fields[0]), float(fields[1]), float(fields[2]), int(fields[11])))
                bodies[body_id] = joints
            frames.append(bodies)
    return frames


BODIES = st.lists(
    st.lists(st.integers(1, 4).map(lambda n: BIG_ID + n), unique=True, max_size=3), min_size=1, max_size=8
)


@ANY_FILE
@given(frames=BODIES.filter(any))
def test_agrees_with_the_data_sets_own_reader(tmp_path: Path, frames: list[list[int]]) -> None:
    """Ids such as 2^56 + 1 and 2^56 + 2, which are one float64, are different bodies."""
    path = write(tmp_path, ntu_lines(frames))
    joints, confidence = ntu.read_skeleton(path)
    order = list(dict.fromkeys(body for bodies in frames for body in bodies))
    assert joints.shape == (len(frames), len(order), 25, 3)
    assert joints.dtype == confidence.dtype == np.float32
    for t, bodies in enumerate(reference_frames(path)):
        for slot, body in enumerate(order):
            expected = np.array(bodies.get(body, [(0, 0, 0, 0)] * 25))
            np.testing.assert_array_equal(joints[t, slot], expected[:, :3].astype(np.float32))
            np.testing.assert_array_equal(confidence[t, slot], expected[:, 3] / 2)


def test_non_finite_coordinates_stay_for_preprocessing_and_unused_columns_do_not_matter(tmp_path: Path) -> None:
    lines = ntu_lines([[1]])
    fields = lines[5].split()
    lines[4] = " ".join(["nan", "inf", "1e300", *lines[4].split()[3:]])
    lines[5] = " ".join([*fields[:5], "-inf", "nan", *fields[7:]])
    joints, _ = ntu.read_skeleton(write(tmp_path, lines))
    assert not np.isfinite(joints[0, 0, 0]).any()
    assert np.isfinite(joints[0, 0, 1:]).all()


# MSR


def test_msr_frames_with_one_no_and_two_bodies(tmp_path: Path) -> None:
    world = msr_world([1, 0, 2, 1])
    joints, confidence = msr.read_skeleton(write(tmp_path, msr_lines(world)))
    assert joints.shape == (4, 2, 20, 3)
    assert joints.dtype == confidence.dtype == np.float32
    for t, frame in enumerate(world):
        bodies = len(frame)
        np.testing.assert_array_equal(joints[t, :bodies], frame[..., :3].astype(np.float32))
        assert (confidence[t, :bodies] == 0.75).all()
        assert not joints[t, bodies:].any()
        assert not confidence[t, bodies:].any()


@pytest.mark.parametrize(
    ("stated", "expected"),
    [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0), (1.5, 1.0), (-0.1, 1.0), (np.nan, 1.0), (np.inf, 1.0)],
)
def test_msr_confidence_outside_the_unit_interval_counts_as_full(
    tmp_path: Path, stated: float, expected: float
) -> None:
    _, confidence = msr.read_skeleton(write(tmp_path, msr_lines(msr_world([1], confidence=stated))))
    assert (confidence == expected).all()
