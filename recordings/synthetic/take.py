"""A performance under way: how hard it is to recognise, who performs, its clock, motion and sounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..sound import Array
from .body import FRAME_RATE_HZ, Proportions, Tracks, draw_proportions

SEAT_PELVIS = np.array([0.0, -0.42, -0.40])  # offset of the seated pelvis from the standing one, reference metres
GRAVITY_M_S2 = 9.81
_LEFT_HANDED_SHARE = 0.15


@dataclass(frozen=True)
class Difficulty:
    """Knobs of the generator. Shares and rates are probabilities in [0, 1].

    Attributes:
        jitter_m: standard deviation of a trunk joint's noise at 3 m; hands and feet have a multiple of it.
        lost_joint_rate: share of (joint, frame) pairs of arms and legs that are not tracked (state 0).
        occlusion_rate: share of recordings in which furniture hides a part of the body.
        bystander_rate: share of recordings with a second, idle person.
        gap_rate: share of recordings in which the body is missing for some frames.
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
    look_alike_share: float = 0.4
    sound_alike_share: float = 0.6
    snr_db: tuple[float, float] = (4.0, 26.0)
    drowned_rate: float = 0.14
    drowned_db: tuple[float, float] = (-14.0, -4.0)
    silent_rate: float = 0.04
    distractor_rate: float = 0.2
    timbre_spread: float = 0.25
    unusual_file_rate: float = 0.06


@dataclass(frozen=True)
class Performer:
    """A person.

    Attributes:
        body: lengths of the segments.
        left_handed: whether actions are mirrored.
        tempo: speed of movements, 1 is usual.
        amplitude: size of movements, 1 is usual.
        slouch_rad: how far the trunk leans forward at rest.
        arms_out_m: how far the arms hang from the body beyond the usual.
        stance_m: how far each foot stands out beyond the usual.
        energy: loudness of the sounds the person makes, 1 is usual.
        pitch_hz: mean fundamental frequency of the voice.
        vocal_tract: scale of the formant frequencies, 1 is usual.
    """

    body: Proportions
    left_handed: bool
    tempo: float
    amplitude: float
    slouch_rad: float
    arms_out_m: float
    stance_m: float
    energy: float
    pitch_hz: float
    vocal_tract: float


def make_performer(seed: int, number: int) -> Performer:
    """Person `number` of the data set with this seed."""
    rng = np.random.default_rng([seed, number, 1])
    body = draw_proportions(rng)
    high_voice = rng.random() < 0.5
    return Performer(
        body=body,
        left_handed=bool(rng.random() < _LEFT_HANDED_SHARE),
        tempo=float(np.exp(rng.normal(0, 0.15))),
        amplitude=float(np.exp(rng.normal(0, 0.18))),
        slouch_rad=float(rng.normal(0.06, 0.05)),
        arms_out_m=float(rng.normal(0, 0.03)),
        stance_m=float(rng.uniform(-0.01, 0.05)),
        energy=float(np.exp(rng.normal(0, 0.3))),
        pitch_hz=float((205 if high_voice else 120) * np.exp(rng.normal(0, 0.12))),
        vocal_tract=float((1.12 if high_voice else 0.98) * np.exp(rng.normal(0, 0.05))),
    )


@dataclass(frozen=True)
class SoundEvent:
    """A sound that the action makes.

    Attributes:
        kind: which synthesiser makes it (see `sounds`).
        start_s: when it begins, in seconds from the first frame.
        duration_s: how long it lasts; a struck sound rings as long as it does.
        strength: amplitude relative to the other sounds of the recording.
        pitch: scale of the frequency, for voiced sounds.
    """

    kind: str
    start_s: float
    duration_s: float
    strength: float = 1.0
    pitch: float = 1.0


class Take:
    """Control tracks over time, starting from the person's posture with slight sway.

    Attributes:
        time: [T], seconds.
        seconds: duration.
        tracks: filled in by the action; written for a right-handed person.
        events: sounds, in no order.
        tempo, amplitude: the person's, varied from one repetition to the next.
        alike: the members of a look-alike group are to move alike in this recording.
        sounds_alike: likewise for sound-alike groups.
    """

    def __init__(self, frames: int, subject: Performer, rng: np.random.Generator, difficulty: Difficulty) -> None:
        self.rng = rng
        self.subject = subject
        self.time: Array = np.arange(frames) / FRAME_RATE_HZ
        self.seconds = frames / FRAME_RATE_HZ
        self.tracks = Tracks.neutral(frames)
        self.events: list[SoundEvent] = []
        self.tempo = subject.tempo * float(np.exp(rng.normal(0, 0.08)))
        self.amplitude = subject.amplitude * float(np.exp(rng.normal(0, 0.1)))
        self.alike = bool(rng.random() < difficulty.look_alike_share)
        self.sounds_alike = bool(rng.random() < difficulty.sound_alike_share)
        self._take_posture()

    def _take_posture(self) -> None:
        tracks, subject = self.tracks, self.subject
        tracks.lean[:, 0] += subject.slouch_rad + 0.012 * self.wander()
        tracks.lean[:, 1] += 0.012 * self.wander()
        tracks.lean[:, 2] += 0.03 * self.wander()
        tracks.head += 0.05 * np.stack([self.wander(), self.wander()], axis=1)
        tracks.pelvis[:, 0] += 0.01 * self.wander()
        tracks.hands[:, :, 0] += subject.arms_out_m * np.array([1.0, -1.0])
        tracks.hands[:, :, 2] += 0.01 * self.wander()[:, None]
        tracks.ankles[:, :, 0] += subject.stance_m * np.array([1.0, -1.0])

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def wander(self) -> Array:
        """A slow random curve [T] of about unit size."""
        curve = np.zeros_like(self.time)
        for frequency_hz in self.rng.uniform(0.1, 0.7, 3):
            curve += np.sin(2 * np.pi * (frequency_hz * self.time + self.rng.random()))
        curve /= np.sqrt(1.5)
        return curve

    def place(self, x: float, y: float, z: float, spread_m: float = 0.03) -> Array:
        """A place near (x, y, z), different in every recording."""
        offset: Array = np.clip(self.rng.normal(0, spread_m, 3), -2 * spread_m, 2 * spread_m)
        offset += np.array([x, y, z])
        return offset

    def moment(self, low: float, high: float) -> float:
        """A random time between two shares of the duration."""
        return self.uniform(low, high) * self.seconds

    def ramp(self, start_s: float, length_s: float) -> Array:
        """Rises from 0 to 1 like a minimum-jerk movement (Flash and Hogan, 1985)."""
        u: Array = np.clip((self.time - start_s) / length_s, 0, 1)
        return u**3 * (10 - 15 * u + 6 * u**2)

    def hold(self) -> Array:
        """1 while the hands are at work; begins and mostly ends at rest. The same distribution for all actions."""
        start = self.moment(0.02, 0.12)
        rise = self.uniform(0.4, 0.7) / self.tempo
        work = self.ramp(start, rise)
        if self.chance(0.5):
            fall = self.uniform(0.4, 0.7) / self.tempo
            work = work - self.ramp(max(self.seconds - self.uniform(0.9, 1.1) * fall, start + rise), fall)
        return work

    def working_span(self, work: Array) -> tuple[float, float]:
        """First and last second at which `work` is nearly complete."""
        busy = self.time[work > 0.95]
        if len(busy) == 0:
            middle = float(self.time[np.argmax(work)])
            return middle, middle + 0.1
        return float(busy[0]), float(busy[-1]) + 1e-3

    def swing(self, frequency_hz: float) -> tuple[Array, float]:
        """A sine [T] of unit size with slightly uneven tempo, and its phase at time 0 in cycles."""
        phase = self.rng.random()
        return np.sin(2 * np.pi * (frequency_hz * self.time + phase)), float(phase)

    def move_hand(self, side: int, work: Array, place: Array, fingers: tuple[float, float, float]) -> None:
        """Take a palm to `place` ([3] or [T, 3]) and back with `work`."""
        weight = work[:, None]
        arc = np.array([0.0, 0.0, 0.10]) * (4 * weight * (1 - weight))
        tracks = self.tracks
        tracks.hands[:, side] += weight * (place - tracks.hands[:, side]) + arc
        tracks.fingers[:, side] += weight * (np.array(fingers) - tracks.fingers[:, side])

    def sit(self, down: Array) -> None:
        """Lower the body to a seat where `down` [T] is 1: pelvis back, trunk forward on the way, hands on the lap."""
        tracks, weight = self.tracks, down[:, None]
        tracks.pelvis += weight * SEAT_PELVIS
        tracks.lean[:, 0] += 2.4 * (down * (1 - down)) * self.uniform(0.8, 1.2)
        lap = np.array([[0.15, -0.40, 0.26], [-0.15, -0.40, 0.26]]) + self.rng.normal(0, 0.02, (2, 3))
        tracks.hands += weight[..., None] * (lap - tracks.hands)
        tracks.fingers += weight[..., None] * (np.array([0.0, -0.3, 1.0]) - tracks.fingers)

    def maybe_seated(self, probability: float) -> None:
        """Perform the action on a chair, by chance."""
        if self.chance(probability):
            self.sit(np.ones_like(self.time))

    def emit(self, kind: str, start_s: float, duration_s: float, strength: float = 1.0, pitch: float = 1.0) -> None:
        """Add a sound, unless it would begin outside the recording."""
        if 0 <= start_s < self.seconds - 0.02:
            loudness = strength * self.subject.energy * float(np.exp(self.rng.normal(0, 0.15)))
            self.events.append(SoundEvent(kind, start_s, duration_s, loudness, pitch))

    def emit_strokes(self, kind: str, frequency_hz: float, phase: float, work: Array) -> None:
        """One sound for every half cycle of a `swing`, from one turning point to the next."""
        first, last = self.working_span(work)
        half = 0.5 / frequency_hz
        turn = (0.25 - phase) / frequency_hz  # sin(2π(f t + phase)) is at its top there
        for k in range(int(np.ceil((first - turn) / half)), int(np.floor((last - turn) / half))):
            self.emit(kind, turn + k * half, half, self.uniform(0.7, 1.1))

    def strike_times(self, work: Array, low_s: float, high_s: float) -> list[float]:
        """Irregular moments while at work, `low_s` to `high_s` apart."""
        first, last = self.working_span(work)
        times, now = [], first + self.uniform(0, low_s)
        while now < last:
            times.append(now)
            now += self.uniform(low_s, high_s)
        return times or [first]
