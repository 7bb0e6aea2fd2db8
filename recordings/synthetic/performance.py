"""One synthetic recording: a subject performs before a camera and a microphone; written as NTU RGB+D does."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from preprocess.errors import UsageError
from preprocess.spec import FloatArray

from .body import FRAME_RATE_HZ, pose
from .motions import SYNTHETIC_ACTIONS, act
from .sensor import Camera, States, bystander, draw_presence, sense, view
from .sounds import record
from .take import Difficulty, Performer

USUAL_SAMPLE_RATE_HZ = 32_000
DEPTH_SIZE_PX, DEPTH_FOCAL_PX = (512, 424), 366.0
COLOR_SIZE_PX, COLOR_FOCAL_PX = (1920, 1080), 1058.0
_COLOR_OFFSET_M = 0.052  # the colour camera sits beside the depth camera
_FIRST_BODY_ID = 72_057_594_037_927_936  # 2^56; a Kinect v2 counts from there


@dataclass(frozen=True)
class Performance:
    """A recording as the sensors deliver it.

    Attributes:
        joints: float32 [T, P, 25, 3], metres, camera space; zero where lost or absent. P is 1 or 2.
        states: int8 [T, P, 25], NTU tracking states: 0 not tracked, 1 inferred, 2 tracked.
        present: bool [T, P], in which frames the sensor reports the body.
        waveform: float32 [N], mono.
        sample_rate_hz: rate of the waveform.
    """

    joints: FloatArray
    states: States
    present: npt.NDArray[np.bool_]
    waveform: FloatArray
    sample_rate_hz: int


def perform(
    action: int,
    *,
    subject: Performer,
    camera: Camera,
    rng: np.random.Generator,
    difficulty: Difficulty,
    sample_rate_hz: int = USUAL_SAMPLE_RATE_HZ,
) -> Performance:
    """Perform an action once.

    Args:
        action: NTU action number, one of `SYNTHETIC_ACTIONS`.

    Raises:
        UsageError: the generator does not know the action.
    """
    if action not in SYNTHETIC_ACTIONS:
        known = ", ".join(f"A{number:03d}" for number in SYNTHETIC_ACTIONS)
        raise UsageError(f"action {action} is not one that the generator performs; use one of {known}")
    motion_rng, sensor_rng, sound_rng = rng.spawn(3)  # a change to one stage leaves the others as they were
    tracks, events = act(action, subject, motion_rng, difficulty)
    frames = len(tracks.pelvis)
    reported, states = sense(view(pose(subject.body, tracks), camera, sensor_rng), sensor_rng, difficulty)
    bodies, body_states, present = [reported], [states], [draw_presence(frames, sensor_rng, difficulty)]
    if sensor_rng.random() < difficulty.bystander_rate:
        other, other_states = bystander(frames, camera, sensor_rng, difficulty)
        bodies.append(other)
        body_states.append(other_states)
        present.append(np.arange(frames) >= sensor_rng.integers(0, frames // 2))
    waveform = record(
        events,
        seconds=frames / FRAME_RATE_HZ + sound_rng.uniform(-0.05, 0.05),
        rate_hz=sample_rate_hz,
        subject=subject,
        rng=sound_rng,
        difficulty=difficulty,
    )
    return Performance(
        joints=np.stack(bodies, axis=1).astype(np.float32),
        states=np.stack(body_states, axis=1),
        present=np.stack(present, axis=1),
        waveform=waveform,
        sample_rate_hz=sample_rate_hz,
    )


@dataclass(frozen=True)
class WavFormat:
    """How a sound file is stored: channels, and `pcm16`, `pcm24` or `float32` samples."""

    channels: int = 1
    encoding: str = "pcm16"


def skeleton_text(performance: Performance, rng: np.random.Generator) -> str:
    """The content of a `.skeleton` file: lines = 1 + Σ over frames of (1 + 27 · bodies)."""
    people = performance.joints.shape[1]
    first_id = _FIRST_BODY_ID + int(rng.integers(1, 2**16))
    templates = [_body_template(first_id + person, rng) for person in range(people)]
    blocks = [f"{len(performance.joints)}\n"]
    for present in performance.present:
        blocks.append(f"{np.count_nonzero(present)}\n")
        blocks.extend(templates[person] for person in np.flatnonzero(present))
    values = _joint_values(performance)[performance.present]
    return "".join(blocks) % tuple(values.ravel().tolist())


def _body_template(body_id: int, rng: np.random.Generator) -> str:
    """27 lines of a body with places for 8 numbers a joint: x y z, depth x y, colour x y, state.

    The orientations are one plausible unit quaternion a bone: the format has them and no reader here uses them.
    """
    lean = rng.uniform(-0.2, 0.2, 2)
    quaternions = rng.standard_normal((25, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    lines = [f"{body_id} 0 1 1 1 1 0 {lean[0]:.7f} {lean[1]:.7f} 2", "25"]
    lines += [
        "%.6f %.6f %.6f %.4f %.4f %.3f %.3f " + " ".join(f"{part:.7f}" for part in quaternion) + " %d"
        for quaternion in quaternions
    ]
    return "\n".join(lines) + "\n"


def _joint_values(performance: Performance) -> npt.NDArray[np.float64]:
    """[T, P, 25, 8]: camera space, its pinhole projections and the tracking state. A lost joint projects to 0, 0."""
    joints = performance.joints.astype(np.float64)
    visible = joints[..., 2] > 0.1
    depth = np.where(visible, joints[..., 2], 1.0)
    columns = [joints]
    for (width, height), focal, offset in (
        (DEPTH_SIZE_PX, DEPTH_FOCAL_PX, 0.0),
        (COLOR_SIZE_PX, COLOR_FOCAL_PX, _COLOR_OFFSET_M),
    ):
        x = width / 2 + focal * (joints[..., 0] + offset) / depth
        y = height / 2 - focal * joints[..., 1] / depth
        columns.append(np.where(visible[..., None], np.stack([x, y], axis=-1), 0.0))
    return np.concatenate([*columns, performance.states[..., None]], axis=-1)


def wav_bytes(waveform: FloatArray, sample_rate_hz: int, wav_format: WavFormat) -> bytes:
    """A RIFF WAVE file of the mono waveform [N] in [−1, 1]; further channels are quieter copies.

    Written here because libsndfile stamps float files with the time, and equal seeds must give equal files.
    """
    gains = 0.8 ** np.arange(wav_format.channels)
    frames = waveform[:, None] * gains
    if wav_format.encoding == "float32":
        code, width, data = 3, 4, frames.astype("<f4").tobytes()
    elif wav_format.encoding == "pcm24":
        wide = np.round(frames * (2**23 - 1)).astype("<i4")
        code, width, data = 1, 3, wide.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    else:
        code, width, data = 1, 2, np.round(frames * (2**15 - 1)).astype("<i2").tobytes()
    block = width * wav_format.channels
    header = (code, wav_format.channels, sample_rate_hz, sample_rate_hz * block, block, 8 * width)
    chunks = [(b"fmt ", struct.pack("<HHIIHH", *header))]
    if code == 3:
        chunks.append((b"fact", struct.pack("<I", len(waveform))))
    chunks.append((b"data", data))
    body = b"".join(name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for name, part in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def write_recording(
    performance: Performance, *, skeleton_path: Path, audio_path: Path, wav_format: WavFormat, rng: np.random.Generator
) -> None:
    """Write the two files of a recording."""
    skeleton_path.write_text(skeleton_text(performance, rng), encoding="ascii")
    audio_path.write_bytes(wav_bytes(performance.waveform, performance.sample_rate_hz, wav_format))
