"""Reader of NTU RGB+D `.skeleton` files.

The format follows `Matlab/read_skeleton_file.m` of shahroudy/NTURGB-D: a frame count; per frame a body count; per body
a line of 10 fields that starts with the body's id, a joint count, and a line of 12 fields for every joint.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from preprocess.errors import DataError
from preprocess.layouts import NTU25
from preprocess.spec import FloatArray

from .actions import NTU60_ACTIONS
from .recording import MissingSkeletonError, RecordingRef
from .skeleton_text import Row, SkeletonText

SUFFIX = ".skeleton"

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)
_BODY_FIELDS = 10
_JOINT_FIELDS = 12
_USED_COLUMNS = (0, 1, 2, 11)  # x, y, z, tracking state; between them places in the images and the orientation
_TRACKING_STATES = (0, 1, 2)  # not tracked, inferred, tracked


def parse_name(name: str, skeleton_path: Path = Path()) -> RecordingRef:
    """The recording with a name such as `S001C002P003R002A013`; its sound is not looked for.

    Raises:
        DataError: the name has another form, a number is 0, or the action is not one of NTU-60's.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise DataError(f"{name!r} is not an NTU RGB+D name; the form is SsssCcccPpppRrrrAaaa")
    setup, camera, subject, replication, action = numbers = tuple(map(int, match.groups()))
    if min(numbers) < 1:
        raise DataError(f"{name!r} holds a number 0; setups, cameras, subjects, replications and actions start at 1")
    if action > len(NTU60_ACTIONS):
        raise DataError(f"{name!r} is action {action}; NTU RGB+D 60 has A001 to A{len(NTU60_ACTIONS):03d}")
    return RecordingRef(name, "ntu", skeleton_path, None, action, subject, camera, setup, replication)


def read_skeleton(path: Path) -> tuple[FloatArray, FloatArray]:
    """Read the bodies of a recording.

    A body that leaves and comes back keeps its true frame numbers. Ids are whole numbers throughout: they exceed
    2^56, where a float64 would merge two of them. Coordinates that the sensor wrote as `nan` or `inf` stay so.

    Returns:
        joints: float32 [T, P, 25, 3], metres, camera space, y up; bodies in order of first appearance; zero where a
            body is absent.
        confidence: float32 [T, P, 25], the tracking states 0, 1, 2 as 0, 0.5, 1; zero where a body is absent.

    Raises:
        MissingSkeletonError: no frame has a body.
        DataError: the content is not a skeleton file; the message names the line.
    """
    text = SkeletonText(path)
    frames = text.count("the frame count")
    slots: dict[int, int] = {}
    places: list[tuple[int, int]] = []
    rows: list[Row] = []
    for frame in range(frames):
        present: set[int] = set()
        for _ in range(text.count(f"the body count of frame {frame + 1}")):
            (row,) = text.take(1, _BODY_FIELDS, "the line of a body")
            body = text.whole(row[0], "the id of a body")
            if body in present:
                raise text.error(f"body {body} stands in frame {frame + 1} twice")
            present.add(body)
            places.append((frame, slots.setdefault(body, len(slots))))
            rows += _take_joints(text)
    text.finish()
    if not places:
        raise MissingSkeletonError(f"{path}: none of its {frames} frames has a body; leave the recording out")

    values = text.numbers(rows, _USED_COLUMNS)
    unknown = ~np.isin(values[:, 3], _TRACKING_STATES)
    if unknown.any():
        row = rows[int(unknown.argmax())]
        raise text.error_in(row, f"tracking state {row[_USED_COLUMNS[3]]} of a joint; there are 0, 1 and 2")
    values = values.reshape(len(places), NTU25.joint_count, len(_USED_COLUMNS))
    frame_index, slot_index = np.array(places).T
    joints = np.zeros((frames, len(slots), NTU25.joint_count, 3), np.float32)
    confidence = np.zeros((frames, len(slots), NTU25.joint_count), np.float32)
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, as useless a position as the number was
        joints[frame_index, slot_index] = values[..., :3]
    confidence[frame_index, slot_index] = values[..., 3] / max(_TRACKING_STATES)
    return joints, confidence


def _take_joints(text: SkeletonText) -> list[Row]:
    count = text.count("the joint count")
    if count != NTU25.joint_count:
        raise text.error(f"the joint count is {count}; an NTU RGB+D body has {NTU25.joint_count}")
    return text.take(count, _JOINT_FIELDS, "the line of a joint")
