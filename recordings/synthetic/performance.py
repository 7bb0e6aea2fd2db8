"""One synthetic recording: a subject performs before a camera and a microphone, with a Kinect's faults.

The camera's view, noise, hidden and lost joints, a second person; and the sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.spec import FloatArray

from ..sound import Array
from .body import (
    ANKLES,
    ELBOWS,
    FEET,
    FRAME_RATE_HZ,
    HAND_TIPS,
    HANDS,
    HEAD,
    JOINTS,
    KNEES,
    NECK,
    PELVIS,
    SHOULDER_CENTER,
    THUMBS,
    WRISTS,
    Tracks,
    pose,
)
from .motions import act
from .sounds import record
from .take import Difficulty, Performer, make_performer

States = npt.NDArray[np.int8]
LOST, INFERRED, TRACKED = 0, 1, 2

_ARMS = tuple(np.array([ELBOWS, WRISTS, HANDS, HAND_TIPS, THUMBS]).T)  # of each side
_LEGS = tuple(np.array([KNEES, ANKLES, FEET]).T)
_LIMB_JOINTS = np.concatenate([*_ARMS, *_LEGS])
_TRUNK_RADIUS_M = 0.11
_LEG_RADIUS_M = 0.06
_JITTER_CORRELATION = 0.85  # of the slow part of the noise, from one frame to the next
_HIDDEN_JITTER_M = 0.03  # slow noise of a joint that the sensor guesses
_BYSTANDER_NUMBER = 10_000
_CAMERA_STEP_DEG = 45.0


def _jitter_weights() -> Array:
    weights = np.ones(JOINTS)
    for joints, weight in ((ELBOWS, 1.3), (WRISTS, 1.8), (HANDS, 2.2), (HAND_TIPS, 3.0), (THUMBS, 3.0)):
        weights[list(joints)] = weight
    for joints, weight in ((KNEES, 1.3), (ANKLES, 1.8), (FEET, 2.4)):
        weights[list(joints)] = weight
    weights[[HEAD, NECK]] = 0.8
    return weights


_JITTER_WEIGHTS = _jitter_weights()


@dataclass(frozen=True)
class Camera:
    """The place of a camera relative to the performer.

    Attributes:
        angle_rad: from straight ahead of the performer, positive towards the performer's left.
        height_m: above the floor.
        distance_m: from the performer, along the floor.
        tilt_rad: how far it looks down.
    """

    angle_rad: float
    height_m: float
    distance_m: float
    tilt_rad: float


def place_camera(seed: int, *, setup: int, camera: int, replication: int) -> Camera:
    """The camera of a recording, arranged as in NTU RGB+D.

    Camera 1 stands between 2 and 3. The performer faces camera 3 in the first replication and camera 2 in the second,
    so camera 1 sees everything from 45° and the others see one front and one side view each. Height and distance
    belong to the setup.
    """
    rng = np.random.default_rng([seed, setup, 2])
    height, distance = rng.uniform(1.0, 1.5), rng.uniform(2.4, 3.6)
    tilt = np.arctan2(height - 0.95, distance) + rng.normal(0, 0.02)
    steps = {1: 1, 2: 2, 3: 0}[camera] if replication == 1 else -{1: 1, 2: 0, 3: 2}[camera]
    return Camera(float(np.deg2rad(steps * _CAMERA_STEP_DEG)), float(height), float(distance), float(tilt))


def _view(joints: Array, camera: Camera, rng: np.random.Generator) -> Array:
    """Room coordinates [T, 25, 3] → camera coordinates: metres, y up, z away from the camera, facing x mirrored."""
    turn = np.pi + camera.angle_rad + rng.normal(0, 0.12)
    turned = joints @ np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]])
    standing = [rng.normal(0, 0.2), -camera.height_m, camera.distance_m + rng.normal(0, 0.15)]
    cosine, sine = np.cos(camera.tilt_rad), np.sin(camera.tilt_rad)
    in_view: Array = (turned + standing) @ np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return in_view


def _sense(positions: Array, rng: np.random.Generator, difficulty: Difficulty) -> tuple[Array, States]:
    """Add a Kinect's faults to positions [T, 25, 3] in camera coordinates.

    Returns:
        Reported positions [T, 25, 3] (a lost joint is at the origin) and tracking states [T, 25].
    """
    states = np.full(positions.shape[:2], TRACKED, dtype=np.int8)
    states[_self_occluded(positions)] = INFERRED
    if rng.random() < difficulty.occlusion_rate:
        _hide_behind_furniture(states, positions, rng)
    _lose_joints(states, rng, difficulty.lost_joint_rate)
    scale = difficulty.jitter_m * _JITTER_WEIGHTS[:, None] * (positions[..., 2:].mean() / 3.0)
    white = rng.standard_normal(positions.shape)
    slow = _slow_noise(positions.shape, rng)
    guessed = (states == INFERRED)[..., None] * (difficulty.jitter_m > 0)
    reported = positions + 0.6 * scale * white + (0.8 * scale + _HIDDEN_JITTER_M * guessed) * slow
    reported[states == LOST] = 0.0
    return reported, states


def _slow_noise(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    noise = rng.standard_normal(shape)
    fresh = np.sqrt(1 - _JITTER_CORRELATION**2)
    for t in range(1, shape[0]):
        noise[t] = _JITTER_CORRELATION * noise[t - 1] + fresh * noise[t]
    return noise


def _self_occluded(positions: Array) -> npt.NDArray[np.bool_]:
    """Arm joints behind the trunk and leg joints behind the other leg, [T, 25]."""
    hidden = np.zeros(positions.shape[:2], dtype=bool)
    arms = np.concatenate(_ARMS)
    foot, top = positions[:, None, PELVIS], positions[:, None, SHOULDER_CENTER]
    axis, offset = top - foot, positions[:, arms] - foot
    along = np.sum(offset[..., :2] * axis[..., :2], axis=-1) / np.sum(axis[..., :2] ** 2, axis=-1)
    apart = offset - np.clip(along, 0, 1)[..., None] * axis
    hidden[:, arms] = (np.hypot(apart[..., 0], apart[..., 1]) < _TRUNK_RADIUS_M) & (apart[..., 2] > 0.06)
    for near, far in (_LEGS, _LEGS[::-1]):
        apart = positions[:, far] - positions[:, near]
        hidden[:, far] |= (np.hypot(apart[..., 0], apart[..., 1]) < _LEG_RADIUS_M) & (apart[..., 2] > 0.08)
    return hidden


def _hide_behind_furniture(states: States, positions: Array, rng: np.random.Generator) -> None:
    """A desk in front of the legs, or a cupboard before one arm; what is hidden is guessed, some of it lost."""
    if rng.random() < 0.5:
        edge = positions[:, list(ANKLES), 1].min() + rng.uniform(0.3, 0.75)
        hidden = positions[..., 1] < edge
        hidden[:, np.concatenate(_ARMS)] = False
    else:
        hidden = np.zeros(states.shape, dtype=bool)
        first = int(rng.integers(0, len(states) // 2))
        hidden[first : first + int(rng.integers(len(states) // 2, len(states) + 1)), _ARMS[int(rng.integers(2))]] = True
    states[hidden] = np.where(rng.random(JOINTS) < 0.4, LOST, INFERRED)[np.nonzero(hidden)[1]]


def _lose_joints(states: States, rng: np.random.Generator, rate: float) -> None:
    """Arm and leg joints vanish for 3 to 12 frames at a time."""
    burst_frames = 7.5
    bursts = rng.poisson(rate * states.shape[0] * len(_LIMB_JOINTS) / burst_frames)
    for joint, first, length in zip(
        rng.choice(_LIMB_JOINTS, bursts),
        rng.integers(0, states.shape[0], bursts),
        rng.integers(3, 13, bursts),
        strict=True,
    ):
        states[first : first + length, joint] = LOST


def _draw_presence(frames: int, rng: np.random.Generator, difficulty: Difficulty) -> npt.NDArray[np.bool_]:
    """In which frames the sensor reports the performer, [T]; rarely a few frames are missing."""
    present = np.ones(frames, dtype=bool)
    if rng.random() < difficulty.gap_rate:
        first = int(rng.integers(0, frames - 10))
        present[first : first + int(rng.integers(2, 10))] = False
    return present


def _bystander(frames: int, camera: Camera, rng: np.random.Generator, difficulty: Difficulty) -> tuple[Array, States]:
    """A second person who stands idle beside the performer, in camera coordinates."""
    person = make_performer(int(rng.integers(2**31)), _BYSTANDER_NUMBER)
    tracks = Tracks.neutral(frames)
    time_s = np.arange(frames) / FRAME_RATE_HZ
    tracks.lean[:, 1] += 0.01 * np.sin(2 * np.pi * (0.3 * time_s + rng.random()))
    beside = np.array([rng.choice([-1.0, 1.0]) * rng.uniform(0.7, 1.3), 0.0, rng.uniform(-0.8, 0.2)])
    calm = Difficulty(jitter_m=difficulty.jitter_m * 0.5, lost_joint_rate=0.0, occlusion_rate=0.0)
    return _sense(_view(pose(person.body, tracks) + beside, camera, rng), rng, calm)


@dataclass(frozen=True)
class Performance:
    """A recording as the sensors deliver it.

    Attributes:
        joints: float32 [T, P, 25, 3], metres, camera space; zero where lost or absent. P is 1 or 2.
        states: int8 [T, P, 25], NTU tracking states: 0 not tracked, 1 inferred, 2 tracked.
        present: bool [T, P], in which frames the sensor reports the body.
        waveform: float32 [N], mono.
    """

    joints: FloatArray
    states: States
    present: npt.NDArray[np.bool_]
    waveform: FloatArray


def perform(
    action: int,
    *,
    subject: Performer,
    camera: Camera,
    rng: np.random.Generator,
    difficulty: Difficulty,
    sample_rate_hz: int,
) -> Performance:
    """Perform an action once; `action` is one of `SYNTHETIC_ACTIONS`."""
    motion_rng, sensor_rng, sound_rng = rng.spawn(3)  # a change to one stage leaves the others as they were
    tracks, events = act(action, subject, motion_rng, difficulty)
    frames = len(tracks.pelvis)
    reported, states = _sense(_view(pose(subject.body, tracks), camera, sensor_rng), sensor_rng, difficulty)
    bodies, body_states, present = [reported], [states], [_draw_presence(frames, sensor_rng, difficulty)]
    if sensor_rng.random() < difficulty.bystander_rate:
        other, other_states = _bystander(frames, camera, sensor_rng, difficulty)
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
    )
