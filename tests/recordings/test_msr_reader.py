"""The MSR reader: frames with 40, 0 and 80 rows, alternating world and screen rows, the odd confidence field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import DataError
from recordings.msr import MsrName, parse_name, read_skeleton
from recordings.recording import MissingSkeletonError

JOINTS = 20


def make_world(bodies_per_frame: list[int], *, confidence: float = 0.75) -> list[np.ndarray]:
    """World rows of every frame: [bodies, 20, (x, y, z, confidence)]."""
    rng = np.random.default_rng(3)
    world = [np.round(rng.normal(size=(bodies, JOINTS, 4)), 6) for bodies in bodies_per_frame]
    for frame in world:
        frame[..., 3] = confidence
    return world


def msr_lines(world: list[np.ndarray]) -> list[str]:
    lines = [f"{len(world)} {JOINTS}"]
    for frame in world:
        lines.append(str(2 * frame.shape[0] * JOINTS))
        for joint in frame.reshape(-1, 4):
            lines += [" ".join(f"{value:.6f}" for value in joint), "0.51 0.49 2100 0.000000"]
    return lines


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "a01_s01_e01_skeleton.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_frames_with_one_no_and_two_bodies(tmp_path: Path) -> None:
    world = make_world([1, 0, 2, 1])
    joints, confidence = read_skeleton(write(tmp_path, msr_lines(world)))
    assert joints.shape == (4, 2, JOINTS, 3)
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
def test_confidence_outside_the_unit_interval_counts_as_full(tmp_path: Path, stated: float, expected: float) -> None:
    _, confidence = read_skeleton(write(tmp_path, msr_lines(make_world([1], confidence=stated))))
    assert (confidence == expected).all()


def test_a_recording_without_a_body_has_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(MissingSkeletonError, match="none of its 3 frames has a body"):
        read_skeleton(write(tmp_path, msr_lines(make_world([0, 0, 0]))))


# Lines, 1-based, of a file with one body in each of two frames: 1 header; 2 row count, 3 to 42 rows; 43, 44 to 83.
FAULTS = {
    "header": (1, "2", r"line 1: the frame count and joint count: \d+ field\(s\) expected, 1 found"),
    "joint count": (1, "2 25", r"line 1: the joint count is 25; an MSR Daily Activity 3D body has 20"),
    "frame count too large": (1, "3 20", r"line 83: the file ends where the row count of frame 3 is due"),
    "frame count too small": (1, "1 20", r"line 43: 41 line\(s\) follow the last frame"),
    "row count": (43, "60", r"line 43: frame 2 has 60 rows; one body takes 40"),
    "row count too large": (43, "80", r"line 83: the file ends where a row of frame 2 is due"),
    "no row count": (43, "0.1 0.2 2 1", r"line 43: the row count of frame 2: \d+ field\(s\) expected, 4 found"),
    "row too short": (50, "0.1 0.2 0.3", r"line 50: a row of frame 2: \d+ field\(s\) expected, 3 found"),
    "no number": (50, "0.1 0.2 oops 1", r"line 50: 'oops' is not a number"),
    "malformed number": (50, "0.1 0.2 1e 1", r"line 50: '1e' is not a number"),
}


@pytest.mark.parametrize(("line", "content", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_file_and_line(tmp_path: Path, line: int, content: str, message: str) -> None:
    lines = msr_lines(make_world([1, 1]))
    lines[line - 1] = content
    path = write(tmp_path, lines)
    with pytest.raises(DataError, match=message) as caught:
        read_skeleton(path)
    assert str(path) in str(caught.value)


def test_name() -> None:
    assert parse_name("a16_s10_e02_skeleton") == parse_name("a16_s10_e02") == MsrName(16, 10, 2)


@pytest.mark.parametrize(
    ("stem", "message"),
    [("a1_s1_e1", "the form is aXX_sYY_eZZ_skeleton"), ("a01_s00_e01", "number 0"), ("a17_s01_e01", "has a01 to a16")],
)
def test_a_name_of_another_form_is_refused(stem: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_name(stem)
