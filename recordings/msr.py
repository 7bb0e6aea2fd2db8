"""Reader of MSR Daily Activity 3D `_skeleton.txt` files.

First line: frame count and joint count (20). Then per frame a row count (40 for one body, 0 for none, 80 for two)
and as many rows of four fields. A joint has two rows: `x y z confidence` in metres, `u v depth confidence` on screen.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from preprocess.errors import DataError
from preprocess.layouts import MSR20
from preprocess.spec import FloatArray

from .actions import MSR_ACTIONS
from .recording import MissingSkeletonError, RecordingRef
from .skeleton_text import Row, SkeletonText

SUFFIX = "_skeleton.txt"

NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})", re.ASCII)
_ROW_FIELDS = 4
_BODY_ROWS = 2 * MSR20.joint_count


def parse_name(name: str, skeleton_path: Path = Path()) -> RecordingRef:
    """The recording with a name such as `a04_s07_e02`, with or without `_skeleton` behind it.

    Its sound is not looked for. Replication 1 is sitting, 2 standing.

    Raises:
        DataError: the name has another form, a number is 0, or the action is not one of the data set's 16.
    """
    name = name.removesuffix("_skeleton")
    match = NAME.fullmatch(name)
    if match is None:
        raise DataError(f"{name!r} is not an MSR Daily Activity 3D name; the form is aXX_sYY_eZZ_skeleton")
    action, subject, replication = numbers = tuple(map(int, match.groups()))
    if min(numbers) < 1:
        raise DataError(f"{name!r} holds a number 0; actions, subjects and repetitions start at 1")
    if action > len(MSR_ACTIONS):
        raise DataError(f"{name!r} is action {action}; MSR Daily Activity 3D has a01 to a{len(MSR_ACTIONS)}")
    return RecordingRef(name, "msr", skeleton_path, None, action, subject, None, None, replication)


def read_skeleton(path: Path) -> tuple[FloatArray, FloatArray]:
    """Read the bodies of a recording. The format has no ids: a frame's first body is body 0, its second body 1.

    Returns:
        joints: float32 [T, P, 20, 3], metres, camera space, y up; zero where a body is absent.
        confidence: float32 [T, P, 20], the file's field where it lies in [0, 1], else 1; zero where a body is absent.

    Raises:
        MissingSkeletonError: no frame has a body.
        DataError: the content is not a skeleton file; the message names the line.
    """
    text = SkeletonText(path)
    frames, joint_count = text.counts(2, "the frame count and joint count")
    if joint_count != MSR20.joint_count:
        raise text.error(f"the joint count is {joint_count}; an MSR Daily Activity 3D body has {MSR20.joint_count}")
    places: list[tuple[int, int]] = []
    rows: list[Row] = []
    for frame in range(frames):
        row_count = text.count(f"the row count of frame {frame + 1}")
        bodies, rest = divmod(row_count, _BODY_ROWS)
        if rest:
            raise text.error(f"frame {frame + 1} has {row_count} rows; one body takes {_BODY_ROWS}")
        places += [(frame, body) for body in range(bodies)]
        rows += text.take(bodies * _BODY_ROWS, _ROW_FIELDS, f"a row of frame {frame + 1}")[::2]  # world rows only
    text.finish()
    if not places:
        raise MissingSkeletonError(f"{path}: none of its {frames} frames has a body; leave the recording out")

    world = text.numbers(rows, (0, 1, 2, 3)).reshape(len(places), MSR20.joint_count, _ROW_FIELDS)
    frame_index, body_index = np.array(places).T
    shape = (frames, int(body_index.max()) + 1, MSR20.joint_count)
    joints = np.zeros((*shape, 3), np.float32)
    confidence = np.zeros(shape, np.float32)
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, as useless a position as the number was
        joints[frame_index, body_index] = world[..., :3]
    stated = world[..., 3]
    confidence[frame_index, body_index] = np.where((stated >= 0) & (stated <= 1), stated, 1.0)
    return joints, confidence
