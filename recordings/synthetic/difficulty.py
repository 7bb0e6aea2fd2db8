"""How hard the synthetic recordings are to recognise: every knob of the generator in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from preprocess.errors import UsageError


@dataclass(frozen=True)
class Difficulty:
    """Knobs of the generator. Shares and rates are probabilities in [0, 1].

    Attributes:
        jitter_m: standard deviation of a trunk joint's noise at 3 m; hands and feet have a multiple of it.
        lost_joint_rate: share of (joint, frame) pairs of arms and legs that are not tracked (state 0).
        occlusion_rate: share of recordings in which furniture hides a part of the body.
        bystander_rate: share of recordings with a second, idle person.
        gap_rate: share of recordings in which the body is missing for some frames.
        camera_step_deg: angle between neighbouring cameras (NTU: 45).
        style_spread: scale of the differences between subjects and between their repetitions.
        look_alike_share: share of recordings in which the members of a look-alike group move alike.
        sound_alike_share: share of recordings in which the members of a sound-alike group sound alike.
        snr_db: range of the loudest 50 ms of the action's sound over the background noise, in dB.
        drowned_rate: share of recordings whose sound is `drowned_db` over the noise instead.
        drowned_db: range of the level in those recordings, in dB.
        silent_rate: share of recordings in which the action makes no sound.
        distractor_rate: share of recordings with a foreign sound.
        timbre_spread: standard deviation of a sound's pitch and bandwidth, in octaves.
        unusual_file_rate: share of WAV files that are not 32 kHz, 16 bit, mono.
    """

    jitter_m: float = 0.008
    lost_joint_rate: float = 0.01
    occlusion_rate: float = 0.12
    bystander_rate: float = 0.03
    gap_rate: float = 0.03
    camera_step_deg: float = 45.0
    style_spread: float = 1.0
    look_alike_share: float = 0.4
    sound_alike_share: float = 0.6
    snr_db: tuple[float, float] = (4.0, 26.0)
    drowned_rate: float = 0.14
    drowned_db: tuple[float, float] = (-14.0, -4.0)
    silent_rate: float = 0.04
    distractor_rate: float = 0.2
    timbre_spread: float = 0.25
    unusual_file_rate: float = 0.06

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(math.isfinite(n) for n in numbers):
                raise UsageError(f"difficulty {item.name} is {value!r}; use finite numbers")
            if item.name.endswith(("_rate", "_share")) and not 0 <= value <= 1:
                raise UsageError(f"difficulty {item.name} is {value!r}; use a number in [0, 1]")
            if isinstance(value, tuple) and value[0] > value[1]:
                raise UsageError(f"difficulty {item.name} is {value!r}; give the smaller number first")
        for name in ("jitter_m", "style_spread", "timbre_spread"):
            if getattr(self, name) < 0:
                raise UsageError(f"difficulty {name} is {getattr(self, name)!r}; use a number of at least 0")
