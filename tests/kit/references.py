"""Slow, independent versions of the preprocessing, one joint or limb over the whole image at a time.

They import nothing of it. Written in float64 from the equations of the paper and the documentation of librosa.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Point = tuple[float, float]


def reference_heatmaps(
    joints: Array,
    confidence: Array,
    *,
    size: int,
    sigma: float,
    limbs: Sequence[tuple[int, int]],
    pelvis: int,
    shoulder_center: int,
    frames: int = 5,
    field_of_view: float = 2.5,
    min_confidence: float = 0.2,
    max_bodies: int = 2,
) -> Array:
    """[T, P, J, 3] metres and [T, P, J] → [S, S, 6 · frames + 1], evaluation sampling."""
    total, people, count = confidence.shape
    position = [[[[float(v) for v in joint] for joint in body] for body in frame] for frame in joints]
    score = [[[float(c) for c in body] for body in frame] for frame in confidence]
    for t in range(total):
        for p in range(people):
            for j in range(count):
                if not all(math.isfinite(v) for v in position[t][p][j]):
                    position[t][p][j] = [0.0, 0.0, 0.0]
                    score[t][p][j] = 0.0

    motion: dict[int, float] = {}
    for p in range(people):
        present = [t for t in range(total) if max(score[t][p]) > 0]
        if present and sum(sum(score[t][p]) for t in present) / (len(present) * count) >= min_confidence:
            motion[p] = sum(
                float(np.var([position[t][p][j][axis] for t in present])) for j in range(count) for axis in range(3)
            )
    bodies = sorted(motion, key=lambda p: (-motion[p], p))[:max_bodies]
    result = np.zeros((size, size, 6 * frames + 1))
    if not bodies:
        return result

    main = bodies[0]
    first = next(t for t in range(total) if score[t][main][pelvis] >= min_confidence)
    origin = position[first][main][pelvis]
    torsos = [
        math.dist(position[t][main][pelvis], position[t][main][shoulder_center])
        for t in range(total)
        if score[t][main][pelvis] >= min_confidence and score[t][main][shoulder_center] >= min_confidence
    ]
    scale = float(np.median(torsos)) if torsos and np.median(torsos) > 0.05 else 0.5

    def pixel(value: float) -> float:
        return (value / scale / field_of_view + 1) / 2 * (size - 1)

    for i in range(frames):
        t = math.floor((i + 0.5) * total / frames)
        for view in range(3):
            points: list[Point] = []
            drawn: list[float] = []
            segments: list[tuple[Point, Point, float]] = []
            for p in bodies:
                body = []
                for j in range(count):
                    x, y, z = (position[t][p][j][axis] - origin[axis] for axis in range(3))
                    column, row = [(x, -y), (x, z), (z, -y)][view]
                    body.append((pixel(column), pixel(row)))
                points += body
                drawn += score[t][p]
                segments += [(body[a], body[b], min(score[t][p][a], score[t][p][b])) for a, b in limbs]
            result[:, :, 6 * i + view] = _joint_image(points, drawn, size, sigma, min_confidence)
            result[:, :, 6 * i + 3 + view] = _limb_image(segments, size, sigma, min_confidence)
    for i in range(frames - 1):
        change = np.abs(result[:, :, 6 * (i + 1)] - result[:, :, 6 * i])
        result[:, :, -1] = np.maximum(result[:, :, -1], change)
    return result


def _joint_image(points: list[Point], scores: list[float], size: int, sigma: float, least: float) -> Array:
    """Eq. (1), every joint over the whole image, without a cut-off."""
    rows, columns = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    for (x, y), score in zip(points, scores, strict=True):
        if score >= least:
            image += score * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return image.clip(max=1.0)


def _limb_image(segments: list[tuple[Point, Point, float]], size: int, sigma: float, least: float) -> Array:
    """Eq. (2), every limb over the whole image, without a cut-off."""
    image = np.zeros((size, size))
    for a, b, score in segments:
        if score >= least:
            image += score * np.exp(-(distance_to_segment(size, a, b) ** 2) / (2 * sigma**2))
    return image.clip(max=1.0)


def distance_to_segment(size: int, a: Point, b: Point) -> Array:
    """Distance from every pixel of a square image to the segment from a to b."""
    rows, columns = np.mgrid[:size, :size]
    dx, dy = b[0] - a[0], b[1] - a[1]
    squared = dx * dx + dy * dy
    share = ((columns - a[0]) * dx + (rows - a[1]) * dy) / squared if squared else np.zeros((size, size))
    share = np.clip(share, 0.0, 1.0)
    distance: Array = np.hypot(columns - (a[0] + share * dx), rows - (a[1] + share * dy))
    return distance


def librosa_logmel(waveform: Array, spec: Any) -> Array:
    """The three channels by librosa 0.11, before standardisation: float32 [n_mels, frames, 3]."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=spec.sample_rate_hz,
        n_fft=spec.n_fft,
        hop_length=spec.hop_samples,
        win_length=spec.window_samples,
        window="hann",
        center=True,
        pad_mode="constant",
        power=2.0,
        n_mels=spec.n_mels,
        fmin=spec.fmin_hz,
        fmax=spec.fmax_hz,
        htk=False,
        norm="slaney",
    )
    decibel = librosa.power_to_db(mel, ref=1.0, amin=spec.amin, top_db=spec.top_db)
    deltas = [librosa.feature.delta(decibel, width=9, order=order, mode="interp") for order in (1, 2)]
    return np.stack([decibel, *deltas], axis=-1)
