"""A picture of a recording and of its model inputs: poses, heatmaps and log-Mel spectrogram."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from console.files import atomic_file
from preprocess.errors import DataError, UsageError
from preprocess.heatmaps import sample_frames, skeleton_to_heatmaps
from preprocess.layouts import SkeletonLayout
from preprocess.logmel import fit_length, log_mel, mel_filters
from preprocess.spec import FloatArray, HeatmapSpec, LogMelSpec, PreprocessSpec

from .recording import Recording

_LEFT, _RIGHT, _TRUNK = "#1f77b4", "#d1495b", "#4a4a4a"
_MAPS = (
    (0, "joints, XY"),
    (1, "joints, XZ"),
    (2, "joints, YZ"),
    (3, "limbs, XY"),
    (4, "limbs, XZ"),
    (5, "limbs, YZ"),
)
_FREQUENCY_TICKS_HZ = (100, 500, 1000, 2000, 4000, 8000, 16_000)
_VIEW_MARGIN_M = 0.15
_DPI = 110


def draw_recording(recording: Recording, action: str, spec: PreprocessSpec, path: Path) -> tuple[str, ...]:
    """Draw a recording: poses at the sampled frames, heatmaps of the middle one, motion map, log-Mel spectrogram.

    Args:
        recording: its waveform is at the rate of `spec`. An empty waveform leaves the spectrogram out.
        action: its name, for the title.
        spec: the inputs' specification.
        path: the PNG file, replaced if it exists.

    Returns:
        Notes on anything unusual in the recording, from `skeleton_to_heatmaps`.

    Raises:
        UsageError: `path` does not end in `.png`.
        DataError: the waveform has another rate than the specification.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: the drawing is a PNG file; give a name that ends in .png")
    if recording.sample_rate_hz != spec.audio.sample_rate_hz:
        raise DataError(f"the waveform has {recording.sample_rate_hz} Hz; read it at {spec.audio.sample_rate_hz} Hz")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    heatmaps = skeleton_to_heatmaps(recording.joints, recording.confidence, spec.skeleton, layout=recording.layout)
    frames = sample_frames(len(recording.joints), spec.skeleton.sampled_frames)
    with_sound = bool(len(recording.waveform))

    engine = ConstrainedLayoutEngine(h_pad=0.08, hspace=0.04)
    figure: Any = Figure(figsize=(15, 10.5 if with_sound else 7), dpi=_DPI, layout=engine)
    FigureCanvasAgg(figure)
    figure.suptitle(f"{recording.name}    {action}    {len(recording.joints)} frames", fontsize=15, fontweight="bold")
    poses, maps, *sound = figure.subfigures(2 + with_sound, 1, height_ratios=[1.15, 0.9, 1][: 2 + with_sound])
    _draw_poses(poses, recording, frames)
    _draw_heatmaps(maps, heatmaps.tensor, frames, spec.skeleton)
    if with_sound:
        _draw_sound(sound[0], recording.waveform, spec.audio)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Title": recording.name})
    return heatmaps.notes


def _draw_poses(figure: Any, recording: Recording, frames: npt.NDArray[np.intp]) -> None:
    """All bodies in the XY view, all frames in one scale."""
    figure.suptitle(
        "Skeleton at the sampled frames, XY in metres (blue: left, red: right, thin: joint inferred by the sensor)",
        fontsize=11,
    )
    joints, confidence = recording.joints[frames], recording.confidence[frames]
    confidence = np.where(np.isfinite(joints).all(-1), confidence, 0)
    centre, half_width, half_height = view_of(joints[confidence > 0][:, :2])
    for t, axes in enumerate(figure.subplots(1, len(frames), sharey=True)):
        for body, weight in zip(joints[t], confidence[t], strict=True):
            draw_body(axes, body, weight, recording.layout)
        axes.set_title(f"frame {frames[t]}", fontsize=10)
        axes.set_xlim(centre[0] - half_width, centre[0] + half_width)
        axes.set_ylim(centre[1] - half_height, centre[1] + half_height)
        axes.set_aspect("equal")
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)


def view_of(points: FloatArray) -> tuple[FloatArray, float, float]:
    """Centre, half width and half height of a view of all points [N, 2], about as wide as a panel."""
    low, high = (points.min(0), points.max(0)) if len(points) else (np.full(2, -1.0), np.full(2, 1.0))
    half_width, half_height = (high - low) / 2 + _VIEW_MARGIN_M
    return (low + high) / 2, float(max(half_width, half_height * 0.85)), float(max(half_height, half_width * 0.85))


def draw_body(
    axes: Any,
    joints: FloatArray,
    confidence: FloatArray,
    layout: SkeletonLayout,
    *,
    line_width: float = 2.6,
    joint_area: float = 10,
) -> None:
    """Draw a body in the XY plane: [J, 3] metres and [J] confidences, sizes in points and square points."""
    for a, b in layout.limbs:
        certainty = min(confidence[a], confidence[b])
        if certainty > 0:
            width = line_width if certainty == 1 else line_width * 0.4
            axes.plot(*joints[[a, b], :2].T, color=_colour(a, b, layout), linewidth=width, solid_capstyle="round")
    shown = confidence > 0
    axes.scatter(*joints[shown, :2].T, s=joint_area * confidence[shown], color="black", zorder=3)


def _colour(a: int, b: int, layout: SkeletonLayout) -> str:
    """Blue for limbs on the person's left, red on the right. Left joints come before their mirror in both layouts."""
    for joint in (a, b):
        if layout.mirror[joint] != joint:
            return _LEFT if joint < layout.mirror[joint] else _RIGHT
    return _TRUNK


def _draw_heatmaps(figure: Any, tensor: FloatArray, frames: npt.NDArray[np.intp], spec: HeatmapSpec) -> None:
    middle = len(frames) // 2
    channels = [(6 * middle + k, name) for k, name in _MAPS] + [(spec.channels - 1, "motion")]
    figure.suptitle(
        f"Heatmaps of frame {frames[middle]} and motion map, {len(channels)} of {spec.channels} channels "
        f"({spec.size} × {spec.size})",
        fontsize=11,
    )
    every = figure.subplots(1, len(channels))
    for axes, (channel, name) in zip(every, channels, strict=True):
        image = axes.imshow(tensor[..., channel], cmap="magma", vmin=0, vmax=1)
        axes.set_title(f"{channel}: {name}", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(image, ax=every, fraction=0.012, pad=0.01, shrink=0.86).ax.tick_params(labelsize=8)


def _draw_sound(figure: Any, waveform: FloatArray, spec: LogMelSpec) -> None:
    decibels = log_mel(fit_length(waveform, spec), spec)
    seconds = spec.frames * spec.hop_samples / spec.sample_rate_hz
    figure.suptitle(
        f"Log-Mel spectrogram, {spec.n_mels} bands × {spec.frames} frames at {spec.sample_rate_hz / 1000:g} kHz; "
        f"the recording's sound lasts {len(waveform) / spec.sample_rate_hz:.2f} s",
        fontsize=11,
    )
    axes = figure.subplots()
    extent = (0, seconds, -0.5, spec.n_mels - 0.5)
    image = axes.imshow(decibels, origin="lower", aspect="auto", cmap="magma", extent=extent, interpolation="nearest")
    centres_hz = mel_filters(spec).argmax(1) * spec.sample_rate_hz / spec.n_fft
    ticks_hz = [hz for hz in _FREQUENCY_TICKS_HZ if spec.fmin_hz <= hz <= spec.fmax_hz]
    axes.set_yticks(np.interp(ticks_hz, centres_hz, np.arange(spec.n_mels)), [f"{hz:g}" for hz in ticks_hz])
    axes.set_xlabel("time in s", fontsize=9)
    axes.set_ylabel("frequency in Hz", fontsize=9)
    axes.tick_params(labelsize=8)
    figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01, label="dB")
