"""The NTU reader against a literal port of the data set's own MATLAB reader, and its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocess.errors import DataError
from recordings.ntu import NtuName, parse_name, read_skeleton
from recordings.recording import MissingSkeletonError

JOINTS = 25
BIG_ID = 72057594037931101  # above 2^56, as in the data set; its float64 neighbour is the same number + 16


def body_lines(body_id: int, *, seed: int = 0, state: int | None = None) -> list[str]:
    rng = np.random.default_rng(seed)
    lines = [f"{body_id} 0 1 1 0 0 0 0.0921 -0.3312 2", str(JOINTS)]
    for _ in range(JOINTS):
        tracking = rng.integers(3) if state is None else state
        lines.append(" ".join(f"{value:.7g}" for value in rng.normal(size=11)) + f" {tracking}")
    return lines


def skeleton_lines(frames: list[list[int]], **options: int) -> list[str]:
    """A file's lines; `frames` holds the ids of the bodies in each frame."""
    lines = [str(len(frames))]
    for number, bodies in enumerate(frames):
        lines.append(str(len(bodies)))
        for place, body in enumerate(bodies):
            lines += body_lines(body, **{"seed": 100 * number + place, **options})
    return lines


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "S001C001P001R001A001.skeleton"
    path.write_text("\r\n".join(lines) + "\r\n")  # the data set's files come with either line end
    return path


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


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=BODIES.filter(any))
def test_agrees_with_the_data_sets_own_reader(tmp_path: Path, frames: list[list[int]]) -> None:
    path = write(tmp_path, skeleton_lines(frames))
    joints, confidence = read_skeleton(path)

    order = list(dict.fromkeys(body for bodies in frames for body in bodies))
    assert joints.shape == (len(frames), len(order), JOINTS, 3)
    assert joints.dtype == confidence.dtype == np.float32
    for t, bodies in enumerate(reference_frames(path)):
        for slot, body in enumerate(order):
            expected = np.array(bodies.get(body, [(0, 0, 0, 0)] * JOINTS))
            np.testing.assert_array_equal(joints[t, slot], expected[:, :3].astype(np.float32))
            np.testing.assert_array_equal(confidence[t, slot], expected[:, 3] / 2)


def test_ids_that_are_one_float64_are_two_bodies(tmp_path: Path) -> None:
    first, second = BIG_ID, BIG_ID + 1
    assert float(first) == float(second)
    joints, _ = read_skeleton(write(tmp_path, skeleton_lines([[first, second]])))
    assert joints.shape[1] == 2


def test_a_body_that_comes_back_keeps_its_frame_numbers(tmp_path: Path) -> None:
    joints, confidence = read_skeleton(write(tmp_path, skeleton_lines([[7], [], [7, 5], [5]], state=2)))
    present = confidence.all(-1)
    np.testing.assert_array_equal(present, [[True, False], [False, False], [True, True], [False, True]])
    assert not joints[1].any()


@pytest.mark.parametrize(("state", "expected"), [(0, 0.0), (1, 0.5), (2, 1.0)])
def test_tracking_states_become_confidence(tmp_path: Path, state: int, expected: float) -> None:
    _, confidence = read_skeleton(write(tmp_path, skeleton_lines([[1]], state=state)))
    assert (confidence == expected).all()


def test_a_non_finite_coordinate_stays_for_preprocessing_to_discard(tmp_path: Path) -> None:
    lines = skeleton_lines([[1]])
    lines[4] = " ".join(["nan", "inf", "1e300", *lines[4].split()[3:]])
    joints, _ = read_skeleton(write(tmp_path, lines))
    assert not np.isfinite(joints[0, 0, 0]).any()
    assert np.isfinite(joints[0, 0, 1:]).all()


def test_columns_that_are_not_used_may_be_non_finite(tmp_path: Path) -> None:
    lines = skeleton_lines([[1]])
    fields = lines[4].split()
    lines[4] = " ".join([*fields[:5], "-inf", "nan", *fields[7:]])
    assert np.isfinite(read_skeleton(write(tmp_path, lines))[0]).all()


@pytest.mark.parametrize("frames", [[[]], [[], [], []], []], ids=["one frame", "three frames", "no frame"])
def test_a_recording_without_a_body_has_its_own_error(tmp_path: Path, frames: list[list[int]]) -> None:
    with pytest.raises(MissingSkeletonError, match="frames has a body; leave the recording out"):
        read_skeleton(write(tmp_path, skeleton_lines(frames)))


# Lines, 1-based, of the file with frames [[1], [1, 2]]: 1 frame count; 2 body count, 3 body, 4 joint count, 5 to 29
# joints; 30 body count, 31 body, 32 joint count, 33 to 57 joints, 58 body, 59 joint count, 60 to 84 joints.
FAULTS = {
    "frame count is no number": (1, "abc", r"line 1: 'abc' is not a number"),
    "frame count is a fraction": (1, "2.5", r"line 1: the frame count is '2.5'; a whole number"),
    "frame count is negative": (1, "-2", r"line 1: the frame count is '-2'; a whole number"),
    "frame count too large": (1, "3", r"line 84: the file ends where the body count of frame 3 is due"),
    "frame count too small": (1, "1", r"line 30: 55 line\(s\) follow the last frame"),
    "frame count absurd": (1, "9" * 18, r"line 84: the file ends where the body count of frame 3 is due"),
    "body count too large": (30, "3", r"line 84: the file ends where the line of a body is due"),
    "body line too short": (31, "1 0 1 1", r"line 31: the line of a body: \d+ field\(s\) expected, 4 found"),
    "body id is no whole number": (31, "7.2e16 0 1 1 0 0 0 0 0 2", r"line 31: the id of a body is '7.2e16'"),
    "body twice in a frame": (58, "1 0 1 1 0 0 0 0 0 2", r"line 58: body 1 stands in frame 2 twice"),
    "joint count": (32, "20", r"line 32: the joint count is 20; an NTU RGB\+D body has 25"),
    "joint line too short": (40, "0.1 0.2 0.3", r"line 40: the line of a joint: \d+ field\(s\) expected, 3 found"),
    "joint line too long": (40, "1 " * 13, r"line 40: the line of a joint: \d+ field\(s\) expected, 13 found"),
    "joint line empty": (40, "", r"line 40: the line of a joint: \d+ field\(s\) expected, 0 found"),
    "coordinate is a word": (41, "0.1 oops 0.3" + " 0" * 9, r"line 41: 'oops' is not a number"),
    "coordinate is malformed": (41, "0.1 1.2.3 0.3" + " 0" * 9, r"line 41: '1.2.3' is not a number"),
    "coordinate with underscore": (41, "0.1 1_0 0.3" + " 0" * 9, r"line 41: '1_0' is not a number"),
    "word in a column that is not used": (41, "0 " * 5 + "x7 " + "0 " * 6, r"line 41: 'x7' is not a number"),
    "tracking state": (60, "0 " * 11 + "3", r"line 60: tracking state 3 of a joint; there are 0, 1 and 2"),
    "tracking state not finite": (60, "0 " * 11 + "nan", r"line 60: tracking state nan of a joint"),
}


@pytest.mark.parametrize(("line", "content", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_file_and_line(tmp_path: Path, line: int, content: str, message: str) -> None:
    lines = skeleton_lines([[1], [1, 2]])
    lines[line - 1] = content
    path = write(tmp_path, lines)
    with pytest.raises(DataError, match=message) as caught:
        read_skeleton(path)
    assert str(path) in str(caught.value)
    assert not isinstance(caught.value, MissingSkeletonError)


@pytest.mark.parametrize("kept", [1, 2, 3, 4, 20, 29, 30, 83])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, kept: int) -> None:
    with pytest.raises(DataError, match=rf"line {kept}: the file ends where"):
        read_skeleton(write(tmp_path, skeleton_lines([[1], [1, 2]])[:kept]))


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
    ],
    ids=["empty", "blank", "UTF-16", "binary", "other digits", "a WAV", "trailing word", "trailing number"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "S001C001P001R001A001.skeleton"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_skeleton(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the skeleton file does not exist"):
        read_skeleton(tmp_path / "S001C001P001R001A001.skeleton")


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_arrays_or_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    path = write(tmp_path, skeleton_lines([[1], [1, 2]]))
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 400))
    content[start : start + length] = data.draw(
        st.binary(max_size=12) | st.sampled_from([b" ", b"\n", b"-", b"e9", b".."])
    )
    path.write_bytes(content)
    try:
        joints, confidence = read_skeleton(path)
    except DataError as error:
        message = str(error)
    else:
        assert joints.shape == (*confidence.shape, 3)
        assert ((confidence >= 0) & (confidence <= 1)).all()
        return
    assert message.startswith(str(path))


def test_name() -> None:
    assert parse_name("S017C003P040R002A060") == NtuName(17, 3, 40, 2, 60)


@pytest.mark.parametrize(
    ("stem", "message"),
    [
        ("S001C001P001R001", "is not an NTU RGB\\+D name"),
        ("S001C001P001R001A001_rgb", "is not an NTU RGB\\+D name"),
        ("S1C1P1R1A1", "is not an NTU RGB\\+D name"),
        ("s001c001p001r001a001", "is not an NTU RGB\\+D name"),
        ("S001C000P001R001A001", "holds a number 0"),
        ("S001C001P001R001A061", "is action 61; NTU RGB\\+D 60 has A001 to A060"),
    ],
)
def test_a_name_of_another_form_is_refused(stem: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_name(stem)
