"""`python -m recordings inspect`: count the recordings of a folder, by name or by content, and draw one."""

from __future__ import annotations

import argparse
import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from console.files import atomic_file
from console.program import show, show_json, warn
from console.progress import track
from console.table import format_table
from preprocess.errors import DataError, UsageError
from preprocess.heatmaps import sample_frames, skeleton_to_heatmaps
from preprocess.layouts import SkeletonLayout
from preprocess.logmel import fit_length, log_mel, mel_filters
from preprocess.spec import FloatArray, HeatmapSpec, LogMelSpec, PreprocessSpec

from .actions import action_code, action_name
from .catalogue import Catalogue, scan
from .reading import READERS, read_recording
from .recording import MissingSkeletonError, Recording, RecordingRef
from .sound import read_native

_SHOWN = 10  # lines of a list that may be thousands long
_LEFT, _RIGHT, _TRUNK = "#1f77b4", "#d1495b", "#4a4a4a"
_MAPS = ("joints, XY", "joints, XZ", "joints, YZ", "limbs, XY", "limbs, XZ", "limbs, YZ")
_FREQUENCY_TICKS_HZ = (100, 500, 1000, 2000, 4000, 8000, 16_000)
_VIEW_MARGIN_M = 0.15
_DPI = 110


def inspect_command(options: argparse.Namespace) -> None:
    """Handler: count the recordings below a folder, or draw one of them.

    Raises:
        UsageError: options exclude each other, or there is no such recording.
        DataError: there are no recordings, or one is not valid.
    """
    if (options.draw is None) != (options.out is None):
        raise UsageError("--draw NAME and --out FILE.png go together; give both")
    if options.draw is not None and options.full:
        raise UsageError("--draw draws one recording and --full reads all; give one of them")
    catalogue = scan(
        options.folder,
        audio_root=options.audio,
        missing_list=options.missing_list,
        on_error=options.on_error,
        require_audio=options.draw is None,
    )
    if options.draw is not None:
        _draw(options, catalogue)
        return
    document = {"folder": str(options.folder), **_count_names(catalogue)}
    if options.full:
        document["contents"] = _count_contents(catalogue.refs)
    if options.json:
        show_json(document)
    else:
        _show_names(document)
    if not options.full:
        return
    if not options.json:
        _show_contents(document["contents"])
    unreadable = document["contents"]["unreadable"]
    if unreadable and options.on_error == "raise":
        raise DataError(f"{len(unreadable)} file(s) cannot be read; the first: {unreadable[0]}")


def _count_names(catalogue: Catalogue) -> dict[str, Any]:
    """Counts from the names alone, in plain JSON types."""
    refs = catalogue.refs
    return {
        "recordings": len(refs),
        "with_sound": sum(ref.audio_path is not None for ref in refs),
        "formats": dict(_counts(ref.format for ref in refs)),
        "actions": [
            {
                "format": format,
                "code": action_code(format, action),
                "name": action_name(format, action),
                "recordings": count,
            }
            for (format, action), count in _counts((ref.format, ref.action) for ref in refs)
        ],
        "subjects": [
            {"format": format, "subject": subject, "recordings": count}
            for (format, subject), count in _counts((ref.format, ref.subject) for ref in refs)
        ],
        "cameras": [
            {"camera": camera, "recordings": count}
            for camera, count in _counts(ref.camera for ref in refs if ref.camera is not None)
        ],
        "excluded": list(catalogue.excluded),
        "problems": list(catalogue.problems),
    }


def _count_contents(refs: Sequence[RecordingRef]) -> dict[str, Any]:
    """Counts from the content of every file, in plain JSON types; a file that cannot be read is listed, not raised."""
    frames, bodies, seconds, rates_hz = list[int](), list[int](), list[float](), list[int]()
    missing, unreadable = list[str](), list[str]()
    for ref in track(refs, "reading", len(refs)):
        try:
            frame_count, body_count = READERS[ref.format][0](ref.skeleton_path)[1].shape[:2]
            frames.append(frame_count)
            bodies.append(body_count)
        except MissingSkeletonError:
            missing.append(ref.name)
        except DataError as error:
            unreadable.append(str(error))
        if ref.audio_path is None:
            continue
        try:
            waveform, rate_hz = read_native(ref.audio_path)
            seconds.append(len(waveform) / rate_hz)
            rates_hz.append(rate_hz)
        except DataError as error:
            unreadable.append(str(error))
    return {
        "frames": _distribution(frames),
        "bodies": [{"bodies": number, "recordings": count} for number, count in _counts(bodies)],
        "sound_s": _distribution(seconds),
        "sample_rates_hz": [{"rate": rate_hz, "recordings": count} for rate_hz, count in _counts(rates_hz)],
        "missing_skeletons": missing,
        "unreadable": unreadable,
    }


def _counts(values: Iterable[Any]) -> list[tuple[Any, int]]:
    return sorted(Counter(values).items())


def _distribution(numbers: Sequence[float]) -> dict[str, float] | None:
    if not numbers:
        return None
    median = float(np.median(numbers))
    return {"minimum": min(numbers), "median": median, "maximum": max(numbers), "total": sum(numbers)}


def _show_names(names: dict[str, Any]) -> None:
    formats = ", ".join(f"{count} {format}" for format, count in names["formats"].items())
    show(f"{names['recordings']} recordings ({formats}), {names['with_sound']} with sound\n")
    rows = [[f"{row['code']}  {row['name']}", row["format"], str(row["recordings"])] for row in names["actions"]]
    show(format_table(["action", "format", "recordings"], rows) + "\n")
    person = ("format", "subject") if len(names["formats"]) > 1 else ("subject",)
    show(f"recordings by subject: {_pairs(names['subjects'], *person)}")
    if names["cameras"]:
        show(f"recordings by camera: {_pairs(names['cameras'], 'camera')}")
    _show_list("left out by the list of missing skeletons", names["excluded"])
    _show_list("skipped", names["problems"])


def _show_contents(contents: dict[str, Any]) -> None:
    show(f"\nframes: {_spread(contents['frames'])}")
    show(f"recordings by number of bodies: {_pairs(contents['bodies'], 'bodies')}")
    show(f"sound in seconds: {_spread(contents['sound_s'])}")
    show(f"recordings by sample rate in Hz: {_pairs(contents['sample_rates_hz'], 'rate')}")
    _show_list("without a skeleton in any frame", contents["missing_skeletons"])
    _show_list("unreadable", contents["unreadable"])


def _show_list(title: str, lines: Sequence[str]) -> None:
    if lines:
        show("\n  ".join([f"{title}: {len(lines)}", *lines[:_SHOWN]]))
    if len(lines) > _SHOWN:
        show(f"  and {len(lines) - _SHOWN} more (all with --json)")


def _pairs(rows: Sequence[dict[str, Any]], *keys: str) -> str:
    return ", ".join(f"{' '.join(str(row[key]) for key in keys)}: {row['recordings']}" for row in rows) or "none"


def _spread(numbers: dict[str, float] | None) -> str:
    if numbers is None:
        return "none"
    return "{minimum:g} to {maximum:g}, median {median:g}, {total:g} in all".format(**numbers)


def _draw(options: argparse.Namespace, catalogue: Catalogue) -> None:
    if options.out.suffix.lower() != ".png":
        raise UsageError(f"{options.out}: the drawing is a PNG file; give a name that ends in .png")
    refs = {ref.name: ref for ref in catalogue.refs}
    if options.draw not in refs:
        close = difflib.get_close_matches(options.draw, refs, n=3) or list(refs)[:3]
        raise UsageError(f"--draw {options.draw}: no such recording; there is for example {', '.join(close)}")
    ref = refs[options.draw]
    spec = PreprocessSpec.preset("paper")
    recording = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz)
    action = f"{action_code(ref.format, ref.action)} {action_name(ref.format, ref.action)}"
    notes = _draw_recording(recording, action, spec, options.out)
    for note in notes:
        warn(note)
    if options.json:
        show_json({"name": ref.name, "drawing": str(options.out), "notes": list(notes)})
    else:
        show(str(options.out))


def _draw_recording(recording: Recording, action: str, spec: PreprocessSpec, path: Path) -> tuple[str, ...]:
    """Draw poses at the sampled frames, heatmaps of the middle one, motion map and, with sound, the spectrogram.

    Returns:
        The notes of `skeleton_to_heatmaps`.
    """
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
    points = joints[confidence > 0][:, :2]
    low, high = (points.min(0), points.max(0)) if len(points) else (np.full(2, -1.0), np.full(2, 1.0))
    half_size = (high - low) / 2 + _VIEW_MARGIN_M
    half_width, half_height = np.maximum(half_size, 0.85 * half_size[::-1])  # about as wide as a panel
    centre = (low + high) / 2
    for t, axes in enumerate(figure.subplots(1, len(frames), sharey=True)):
        for body, weight in zip(joints[t], confidence[t], strict=True):
            draw_body(axes, body, weight, recording.layout)
        axes.set_title(f"frame {frames[t]}", fontsize=10)
        axes.set_xlim(centre[0] - half_width, centre[0] + half_width)
        axes.set_ylim(centre[1] - half_height, centre[1] + half_height)
        axes.set_aspect("equal")
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)


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
    channels = [(6 * middle + k, name) for k, name in enumerate(_MAPS)] + [(spec.channels - 1, "motion")]
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
