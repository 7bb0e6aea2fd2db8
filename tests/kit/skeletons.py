"""Lines of skeleton files in both formats."""

from __future__ import annotations

import numpy as np


def ntu_lines(frames: list[list[int]]) -> list[str]:
    """A file's lines; `frames` holds the ids of the bodies in each frame."""
    lines = [str(len(frames))]
    for number, bodies in enumerate(frames):
        lines.append(str(len(bodies)))
        for place, body in enumerate(bodies):
            rng = np.random.default_rng(100 * number + place)
            lines += [f"{body} 0 1 1 0 0 0 0.0921 -0.3312 2", "25"]
            for _ in range(25):
                lines.append(" ".join(f"{value:.7g}" for value in rng.normal(size=11)) + f" {rng.integers(3)}")
    return lines


def msr_world(bodies_per_frame: list[int], *, confidence: float = 0.75) -> list[np.ndarray]:
    """World rows of every frame: [bodies, 20, (x, y, z, confidence)]."""
    rng = np.random.default_rng(3)
    world = [np.round(rng.normal(size=(bodies, 20, 4)), 6) for bodies in bodies_per_frame]
    for frame in world:
        frame[..., 3] = confidence
    return world


def msr_lines(world: list[np.ndarray]) -> list[str]:
    lines = [f"{len(world)} 20"]
    for frame in world:
        lines.append(str(2 * frame.shape[0] * 20))
        for joint in frame.reshape(-1, 4):
            lines += [" ".join(f"{value:.6f}" for value in joint), "0.51 0.49 2100 0.000000"]
    return lines
