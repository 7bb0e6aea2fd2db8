"""One synthetic recording in memory: a subject performs an action before a camera and a microphone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.errors import UsageError

from .actions import SYNTHETIC_ACTIONS, act
from .difficulty import Difficulty
from .figure import FRAME_RATE_HZ, pose
from .sensor import Camera, States, bystander, draw_presence, sense, view
from .sounds import record
from .subject import Subject

USUAL_SAMPLE_RATE_HZ = 32_000


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

    joints: npt.NDArray[np.float32]
    states: States
    present: npt.NDArray[np.bool_]
    waveform: npt.NDArray[np.float32]
    sample_rate_hz: int


def perform(
    action: int,
    *,
    subject: Subject,
    camera: Camera,
    rng: np.random.Generator,
    difficulty: Difficulty,
    sample_rate_hz: int = USUAL_SAMPLE_RATE_HZ,
) -> Performance:
    """Performs an action once.

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
    seen, states = sense(view(pose(subject.body, tracks), camera, sensor_rng), sensor_rng, difficulty)
    bodies, body_states, present = [seen], [states], [draw_presence(frames, sensor_rng, difficulty)]
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
