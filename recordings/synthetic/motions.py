"""Sixteen NTU RGB+D actions as parametric motions, each with the sounds that its movement makes.

Three groups look alike and sound different (hand to the head; hands together; hands in front), three sound alike and
look different (landing feet; chair; voice). Everything that must not give an action away (duration, tempo, when the
hands rise, sitting or standing where both are natural) comes from `Take` and is drawn alike for all actions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..sound import Array
from .body import Tracks
from .take import GRAVITY_M_S2, Difficulty, Performer, SoundEvent, Take

LEFT, RIGHT = 0, 1
_BOTH_HANDS = ((LEFT, 1.0), (RIGHT, -1.0))  # and on which side of the body each is
_SEATED_SHARE = 0.4
_MINIMUM_FRAMES, _MAXIMUM_FRAMES = 50, 110


# Hand to the head: drink, brush teeth, phone call.


def _hand_to_head(take: Take, place: Array, stir_m: float, tilt_rad: float) -> tuple[Array, float, float]:
    """Hand to the head: work [T] and the frequency and phase of the hand's stirring."""
    take.maybe_seated(_SEATED_SHARE)
    work = take.hold()
    frequency = take.uniform(1.8, 3.2) * take.tempo
    stir, phase = take.swing(frequency)
    if take.alike:  # cheek: between mouth and ear
        place, stir_m, tilt_rad = take.place(-0.08, 0.12, 0.14), 0.015, 0.05
    direction = np.array([0.7, 0.3, -0.3]) * stir_m * take.amplitude
    take.move_hand(RIGHT, work, place + stir[:, None] * direction, (0.35, 0.9, 0.1))
    take.tracks.head[:, 0] -= work * tilt_rad
    return work, frequency, phase


def _drink(take: Take) -> None:
    work, _, _ = _hand_to_head(take, take.place(-0.04, 0.10, 0.20), 0.004, take.uniform(0.1, 0.35))
    first, _ = take.working_span(work)
    if take.chance(0.5):
        take.emit("clink", first - take.uniform(0.5, 0.8), 0.25, 0.5)
    for time in take.strike_times(work, 0.28, 0.5):
        take.emit("gulp", time, 0.14)


def _brush_teeth(take: Take) -> None:
    work, frequency, phase = _hand_to_head(take, take.place(-0.05, 0.11, 0.17), 0.028, 0.0)
    take.emit_strokes("brush", frequency, phase, work)


def _phone_call(take: Take) -> None:
    work, _, _ = _hand_to_head(take, take.place(-0.11, 0.15, 0.10), 0.004, 0.0)
    first, last = take.working_span(work)
    if take.sounds_alike:
        _call_out(take, first, last)
        return
    now = first + take.uniform(0, 0.15)
    while now < last:
        length = take.uniform(0.12, 0.22)
        take.emit("voice", now, length, pitch=take.uniform(0.85, 1.15))
        now += length + take.uniform(0.02, 0.07) + (0.3 if take.chance(0.15) else 0)


# Hands together: clap, rub the hands, put the palms together.


def _hands_together(take: Take, gap: Array, slide: Array) -> Array:
    """Palms `gap` [T] metres apart in front of the chest, sliding on each other by `slide` [T] metres; gives work."""
    take.maybe_seated(_SEATED_SHARE)
    work = take.hold()
    middle = take.place(0.0, -0.16, 0.33, 0.04)
    for side, sign in _BOTH_HANDS:
        shift = np.stack([sign * (0.5 * gap + 0.004), sign * 0.3 * slide, sign * slide], axis=1)
        take.move_hand(side, work, middle + shift, (-0.25 * sign, 0.7, 0.7))
    return work


def _clap(take: Take) -> None:
    frequency = take.uniform(1.8, 3.2) * take.tempo
    wave, phase = take.swing(frequency)
    width = (take.uniform(0.03, 0.06) if take.alike else take.uniform(0.12, 0.26)) * take.amplitude
    work = _hands_together(take, width * (0.5 - 0.5 * wave), np.zeros_like(wave))
    first, last = take.working_span(work)
    contact = (0.25 - phase) / frequency  # the gap closes where the sine is at its top
    for k in range(int(np.ceil((first - contact) * frequency)), int(np.floor((last - contact) * frequency)) + 1):
        take.emit("clap", contact + k / frequency, 0.08, take.uniform(0.8, 1.1))


def _rub_hands(take: Take) -> None:
    frequency = take.uniform(1.8, 3.2) * take.tempo
    wave, phase = take.swing(frequency)
    width = (take.uniform(0.012, 0.02) if take.alike else take.uniform(0.03, 0.06)) * take.amplitude
    work = _hands_together(take, np.full_like(wave, 0.01), width * wave)
    take.emit_strokes("rub", frequency, phase, work)


def _palms_together(take: Take) -> None:
    wave, _ = take.swing(take.uniform(1.8, 3.2) * take.tempo)
    stir = 0.02 if take.alike else 0.004
    work = _hands_together(take, stir * (0.5 - 0.5 * wave), np.zeros_like(wave))
    take.tracks.lean[:, 0] += work * take.uniform(0.0, 0.15)
    first, _ = take.working_span(work)
    take.emit("pat", first, 0.1)


# Hands in front: read, write, type.


def _hands_in_front(take: Take, left: Array, right: Array, stir_m: float, nod_rad: float) -> Array:
    take.maybe_seated(_SEATED_SHARE + 0.2)
    work = take.hold()
    if take.alike:
        left, right = take.place(0.10, -0.25, 0.33), take.place(-0.09, -0.25, 0.33)
        stir_m, nod_rad = 0.008, take.uniform(0.2, 0.5)
    for side, place in ((LEFT, left), (RIGHT, right)):
        wave, _ = take.swing(take.uniform(2.5, 5.0) * take.tempo)
        stir = np.stack([0.6 * wave, wave, 0.5 * take.wander()], axis=1) * stir_m * take.amplitude
        take.move_hand(side, work, place + stir, (0.2 if side else -0.2, 0.1, 1.0))
    take.tracks.head[:, 0] += work * nod_rad
    return work


def _read(take: Take) -> None:
    work = _hands_in_front(
        take, take.place(0.13, -0.18, 0.34), take.place(-0.13, -0.18, 0.34), 0.004, take.uniform(0.2, 0.5)
    )
    reach = 0.05 if take.alike else 0.14 * take.amplitude
    for time in take.strike_times(work, 0.7, 1.6):
        length = take.uniform(0.3, 0.5)
        turn = take.ramp(time, length / 2) - take.ramp(time + length / 2, length / 2)
        take.tracks.hands[:, RIGHT] += turn[:, None] * [reach, 0.3 * reach, 0.0]
        take.emit("page", time, length)


def _write(take: Take) -> None:
    right = take.place(-0.10, -0.28, 0.32)
    work = _hands_in_front(take, take.place(0.12, -0.29, 0.26), right, 0.010, take.uniform(0.25, 0.55))
    line = take.uniform(0.03, 0.08) * (0.3 if take.alike else 1.0)
    take.tracks.hands[:, RIGHT, 0] += work * line * (take.time / take.seconds - 0.5)
    for time in take.strike_times(work, 0.09, 0.24):
        take.emit("scratch", time, take.uniform(0.05, 0.13), take.uniform(0.6, 1.1))


def _type(take: Take) -> None:
    work = _hands_in_front(
        take, take.place(0.07, -0.29, 0.36), take.place(-0.07, -0.29, 0.36), 0.014, take.uniform(0.1, 0.4)
    )
    for time in take.strike_times(work, 0.07, 0.26):
        take.emit("key", time, 0.03, take.uniform(0.6, 1.1))


# Landing feet: hop on one leg, jump up, kick.


def _land(take: Take, time_s: float) -> None:
    take.emit("thump", time_s, 0.2, take.uniform(0.75, 1.15))


def _fly(take: Take, start_s: float, height_m: float) -> float:
    """Add a ballistic flight of the body and return the time of landing."""
    flight_s = 2 * np.sqrt(2 * height_m / GRAVITY_M_S2)
    u = np.clip((take.time - start_s) / flight_s, 0, 1)
    lift = 4 * height_m * u * (1 - u)
    take.tracks.pelvis[:, 1] += lift
    take.tracks.ankles[:, :, 1] += lift[:, None]
    take.tracks.toes += (0.7 * np.sin(np.pi * u))[:, None]
    return float(start_s + flight_s)


def _hop(take: Take) -> None:
    start = take.moment(0.04, 0.12)
    raised = take.ramp(start, 0.3)
    knee = take.uniform(0.8, 1.2)
    take.tracks.ankles[:, RIGHT] += raised[:, None] * np.array([0.0, 0.30, -0.22]) * knee
    take.tracks.toes[:, RIGHT] += raised * 0.7
    for side, sign in _BOTH_HANDS:
        balance = take.uniform(0.4, 0.8) * raised
        take.move_hand(side, balance, np.array([sign * 0.34, -0.38, 0.14]), (0.2 * sign, -1.0, 0.4))
    now = start + take.uniform(0.3, 0.45)
    while now < take.seconds - 0.35:
        contact = take.uniform(0.22, 0.38) / take.tempo
        bend = take.ramp(now - contact / 2, contact / 4) - take.ramp(now - contact / 4, contact / 4)
        take.tracks.pelvis[:, 1] -= 0.05 * bend
        landing = _fly(take, now, take.uniform(0.04, 0.10) * take.amplitude)
        _land(take, landing)
        now = landing + contact


def _jump(take: Take) -> None:
    now = take.moment(0.08, 0.25) + 0.3
    swing = take.uniform(0.3, 1.0)
    while now < take.seconds - 0.45:
        crouch = take.uniform(0.10, 0.2)
        height = take.uniform(0.08, 0.24) * take.amplitude
        bend = take.ramp(now - 0.4, 0.26) - take.ramp(now - 0.12, 0.12)
        landing = _fly(take, now, height)
        bend = bend + 0.8 * (take.ramp(landing, 0.12) - take.ramp(landing + 0.12, 0.3))
        take.tracks.pelvis[:, 1] -= crouch * bend
        take.tracks.pelvis[:, 2] -= 0.3 * crouch * bend
        take.tracks.lean[:, 0] += 1.6 * crouch * bend
        up = take.ramp(now - 0.15, 0.25) - take.ramp(landing - 0.05, 0.35)
        for side, sign in _BOTH_HANDS:
            take.move_hand(side, swing * up, np.array([sign * 0.24, 0.25, 0.34]), (0.0, 1.0, 0.5))
        _land(take, landing)
        now = landing + take.uniform(0.5, 0.9) / take.tempo


def _kick(take: Take) -> None:
    now = take.moment(0.06, 0.2)
    while now < take.seconds - 0.9:
        length = min(take.uniform(0.8, 1.1) / take.tempo, 0.95 * (take.seconds - now))  # the foot lands within the take
        size = float(np.clip(take.uniform(0.75, 1.15) * take.amplitude, 0.6, 1.25))
        back = take.ramp(now, 0.3 * length) - take.ramp(now + 0.3 * length, 0.2 * length)
        out = take.ramp(now + 0.3 * length, 0.25 * length) - take.ramp(now + 0.58 * length, 0.42 * length)
        path = back[:, None] * [0.0, 0.14, -0.26] + out[:, None] * [0.0, 0.42, 0.62]
        take.tracks.ankles[:, RIGHT] += size * path
        take.tracks.toes[:, RIGHT] += 0.5 * back - 0.2 * out
        take.tracks.lean[:, 0] += 0.1 * back - 0.18 * out
        balance = 0.5 * np.clip(back + out, 0, 1)
        for side, sign in _BOTH_HANDS:
            take.move_hand(side, balance, np.array([sign * 0.40, -0.34, 0.12]), (0.3 * sign, -1.0, 0.3))
        _land(take, now + length)
        now += length + take.uniform(0.1, 0.6)


# Chair: sit down, stand up.


def _use_chair(take: Take, *, down: bool) -> None:
    length = take.uniform(0.8, 1.3) / take.tempo
    start = min(take.moment(0.08, 0.4), max(take.seconds - length - 0.1, 0.05))
    change = take.ramp(start, length)
    take.sit(change if down else 1 - change)
    take.emit("rustle", start + 0.1 * length, 0.8 * length, 0.6)
    seat_contact = start + (0.8 if down else 0.2) * length
    creak = take.moment(0.1, 0.8) if take.sounds_alike else seat_contact
    take.emit("creak", creak, take.uniform(0.25, 0.5))
    take.emit("thump", seat_contact, 0.15, take.uniform(0.1, 0.3))


# Voice: cheer, wave (and the phone call above).


def _call_out(take: Take, first: float, last: float) -> None:
    """A few syllables, common to a cheer, a greeting and a call."""
    now = first + take.uniform(-0.1, 0.3)
    for _ in range(int(take.rng.integers(2, 6))):
        length = take.uniform(0.15, 0.4)
        if now < last:
            take.emit("voice", now, length, pitch=take.uniform(0.9, 1.35))
        now += length + take.uniform(0.02, 0.15)


def _cheer_up(take: Take) -> None:
    take.maybe_seated(_SEATED_SHARE)
    work = take.hold()
    pump, _ = take.swing(take.uniform(1.2, 2.6) * take.tempo)
    size = take.uniform(0.03, 0.09) * take.amplitude
    for side, sign in _BOTH_HANDS:
        if side == LEFT and take.chance(0.25):
            continue
        place = take.place(sign * 0.24, 0.36, 0.12, 0.05)
        path = place + pump[:, None] * np.array([0.0, 1.0, 0.3]) * size
        take.move_hand(side, work, path, (0.0, 1.0, 0.1))
    take.tracks.head[:, 0] -= 0.1 * work
    first, last = take.working_span(work)
    if take.sounds_alike:
        _call_out(take, first, last)
        return
    now = first + take.uniform(-0.2, 0.2)
    while now < last:
        length = take.uniform(0.35, 0.7)
        take.emit("voice", now, length, pitch=take.uniform(1.25, 1.7))
        now += length + take.uniform(0.05, 0.2)


def _wave(take: Take) -> None:
    take.maybe_seated(_SEATED_SHARE)
    work = take.hold()
    wave, _ = take.swing(take.uniform(1.2, 2.6) * take.tempo)
    size = take.uniform(0.06, 0.14) * take.amplitude
    path = take.place(-0.30, 0.18, 0.16, 0.05) + wave[:, None] * np.array([1.0, 0.1, 0.0]) * size
    take.move_hand(RIGHT, work, path, (0.0, 1.0, 0.15))
    take.tracks.fingers[:, RIGHT, 0] += work * 0.5 * wave
    first, last = take.working_span(work)
    if take.sounds_alike:
        _call_out(take, first, last)
        return
    now = first + take.uniform(-0.1, 0.4)
    for _ in range(int(take.rng.integers(1, 3))):
        length = take.uniform(0.2, 0.35)
        take.emit("voice", now, length, pitch=take.uniform(0.95, 1.25))
        now += length + take.uniform(0.03, 0.1)


_PERFORM: dict[int, Callable[[Take], None]] = {
    1: _drink,
    3: _brush_teeth,
    8: partial(_use_chair, down=True),
    9: partial(_use_chair, down=False),
    10: _clap,
    11: _read,
    12: _write,
    22: _cheer_up,
    23: _wave,
    24: _kick,
    26: _hop,
    27: _jump,
    28: _phone_call,
    30: _type,
    34: _rub_hands,
    39: _palms_together,
}

SYNTHETIC_ACTIONS: tuple[int, ...] = tuple(_PERFORM)
"""Action numbers of NTU RGB+D that the generator performs, ascending."""


def act(
    action: int, subject: Performer, rng: np.random.Generator, difficulty: Difficulty
) -> tuple[Tracks, list[SoundEvent]]:
    """Perform an action for 50 to 110 frames at 30 Hz.

    Args:
        action: one of `SYNTHETIC_ACTIONS`.

    Returns:
        Control tracks of the figure, mirrored for a left-handed person, and the sounds, by start.
    """
    frames = int(rng.integers(_MINIMUM_FRAMES, _MAXIMUM_FRAMES + 1))
    take = Take(frames, subject, rng, difficulty)
    _PERFORM[action](take)
    tracks = take.tracks.mirrored() if subject.left_handed else take.tracks
    return tracks, sorted(take.events, key=lambda event: event.start_s)
