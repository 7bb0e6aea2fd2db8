"""A person who performs: body, habits and voice, all determined by the seed and the person's number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .figure import Proportions, draw_proportions

_LEFT_HANDED_SHARE = 0.15


@dataclass(frozen=True)
class Subject:
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


def make_subject(seed: int, number: int, *, spread: float) -> Subject:
    """Person `number` of the data set with this seed. `spread` scales how much people differ."""
    rng = np.random.default_rng([seed, number, 1])
    body = draw_proportions(rng, spread=spread)
    high_voice = rng.random() < 0.5
    return Subject(
        body=body,
        left_handed=bool(rng.random() < _LEFT_HANDED_SHARE),
        tempo=float(np.exp(rng.normal(0, 0.15 * spread))),
        amplitude=float(np.exp(rng.normal(0, 0.18 * spread))),
        slouch_rad=float(rng.normal(0.06, 0.05 * spread)),
        arms_out_m=float(rng.normal(0, 0.03 * spread)),
        stance_m=float(rng.uniform(-0.01, 0.05) * spread),
        energy=float(np.exp(rng.normal(0, 0.3 * spread))),
        pitch_hz=float((205 if high_voice else 120) * np.exp(rng.normal(0, 0.12 * spread))),
        vocal_tract=float((1.12 if high_voice else 0.98) * np.exp(rng.normal(0, 0.05 * spread))),
    )
