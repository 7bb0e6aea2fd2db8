"""`python -m benchmarks figure`: one recording from its files to the labels, as in the paper's Figure 8.

A picture of the skeleton and the sound, of the tensors that the model reads, and of the most probable labels by the
skeleton alone, by the sound alone and by both.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from console.child import run_command
from console.files import atomic_file
from console.plot import new_figure, require_matplotlib
from console.program import show, show_json
from console.table import format_table
from preprocess.errors import UsageError
from recordings.actions import action_code
from recordings.recording import Recording, RecordingRef
from runtime.artifact import Artifact
from runtime.manifest import MANIFEST_NAME

Tensors: TypeAlias = Mapping[str, npt.NDArray[np.float32]]

RECORDINGS = 1000  # as many as `python -m export` verifies on, so that they are in the cache already
STREAMS = {"skeleton alone": "visual", "sound alone": "audio", "both together": "fused"}
LABELS = 3
POSES = 2

_PIXELS_PER_INCH = 100
_FONT = 25.0  # points: legible when the picture is 400 pixels wide
_NARROW = 0.71  # width of a pose or a heatmap in the picture to its height
_INK, _TRUTH = "#222222", "#00734f"
_TRUTH_BAR, _OTHER_BAR = "#5cc9a0", "#c9ced3"


def figure_command(options: argparse.Namespace) -> None:
    """Handler: exports the three streams in INT8, asks them about the recording, draws.

    Raises:
        UsageError: there is no such recording, or --out is not a PNG file.
        DataError: a stream could not be exported, or the recording cannot be read.
    """
    from recordings.reading import read_recording
    from recordings.recording import preprocess_recording

    if options.out.suffix.lower() != ".png":
        raise UsageError(f"--out is {options.out}; give a name that ends in .png")
    require_matplotlib()
    ref = _find(options.recording, options.data)
    artifacts = export_streams(options.folder, options.checkpoint)
    manifest = artifacts["both together"].manifest
    recording = read_recording(ref, sample_rate_hz=manifest.spec.audio.sample_rate_hz)
    tensors = preprocess_recording(recording, manifest.spec)
    answers = {name: probabilities(artifact, tensors) for name, artifact in artifacts.items()}
    names = [label.name.split("/")[0] for label in manifest.labels]
    truth = manifest.codes.index(action_code(ref.format, ref.action))
    draw_figure(recording, tensors, answers, names=names, truth=truth, path=options.out)
    best = {name: [(names[i], float(p[i])) for i in _best(p)] for name, p in answers.items()}
    if options.json:
        show_json({"recording": ref.name, "truth": names[truth], "answers": best, "picture": str(options.out)})
    else:
        cells = [[name, *(f"{label} {p:.0%}" for label, p in row)] for name, row in best.items()]
        show(format_table(["", "first", "second", "third"], cells, title=f"{ref.name}: {names[truth]}"))
        show(f"\npicture: {options.out}")


def export_streams(folder: Path, checkpoint: Path | None) -> dict[str, Artifact]:
    """The streams of a checkpoint as INT8 artifacts in LiteRT, exported unless they are in `folder`."""
    source = ["--checkpoint", str(checkpoint)] if checkpoint else []
    artifacts = {}
    for name, stream in STREAMS.items():
        out = folder / stream
        if not (out / MANIFEST_NAME).exists():
            words = ["tflite", "--int8", "--stream", stream, *source, "--out", str(out)]
            run_command("export", *words, may_answer_no=True)
        artifacts[name] = Artifact.open(out, name=name)
    return artifacts


def probabilities(artifact: Artifact, tensors: Tensors) -> npt.NDArray[np.float64]:
    """Softmax of the logits: float64 [classes], from the tensors of one recording, without a batch axis."""
    runner = artifact.load()
    logits = runner({info.name: tensors[info.name][None] for info in runner.inputs}).astype(np.float64)
    exponentials = np.exp(logits - logits.max())
    result: npt.NDArray[np.float64] = exponentials / exponentials.sum()
    return result


def _find(name: str, data: Path | None) -> RecordingRef:
    from recordings.catalogue import scan
    from recordings.synthetic.generate import HELD_OUT_SEED, cached_recordings

    folder = data or cached_recordings(RECORDINGS, seed=HELD_OUT_SEED, workers=2)
    for ref in scan(folder).refs:
        if ref.name == name:
            return ref
    raise UsageError(f"{folder} holds no recording {name!r}; list them with `python -m recordings inspect {folder}`")


def _best(probability: npt.NDArray[np.float64]) -> list[int]:
    """Indices of the most probable classes, best first."""
    return [int(index) for index in np.argsort(-probability, kind="stable")[:LABELS]]


def draw_figure(
    recording: Recording,
    tensors: Tensors,
    answers: Mapping[str, npt.NDArray[np.float64]],
    *,
    names: list[str],
    truth: int,
    path: Path,
) -> None:
    """Draws the picture.

    Args:
        recording: skeleton and sound.
        tensors: `skeleton` [S, S, channels] and `audio` [bands, frames, 3] of the recording.
        answers: probability of every class, [classes], by the three keys of STREAMS.
        truth: index of the true class.
    """
    figure = new_figure(15, 10.4)
    figure.set_layout_engine("none")
    for x, title in ((0.015, "recording"), (0.335, "model inputs"), (0.66, "answers")):
        _say(figure, x, 0.96, title, size=1.15, weight="bold")
    _draw_skeleton(figure, recording, tensors["skeleton"])
    _draw_sound(figure, recording, tensors["audio"])
    for bottom, (name, probability) in zip((0.655, 0.335, 0.015), answers.items(), strict=True):
        _draw_answer(figure.add_axes((0.66, bottom, 0.33, 0.205)), name, probability, names, truth)
    _say(figure, 0.015, 0.155, "cross-attention fuses both streams")
    _say(figure, 0.015, 0.075, f"truth: {names[truth]}", color=_TRUTH, weight="bold")
    _arrow(figure, 0.155)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_PIXELS_PER_INCH, metadata={"Title": recording.name})


def _draw_skeleton(figure: Any, recording: Recording, heatmaps: npt.NDArray[np.float32]) -> None:
    """Poses, and the heatmaps of joints and limbs at about the same times, without their empty margins."""
    from recordings.inspection import draw_body

    frames = (np.linspace(0.35, 0.7, POSES) * (len(recording.joints) - 1)).astype(int)
    joints, confidence = recording.joints[frames], recording.confidence[frames]
    low, high = joints[confidence > 0].min(0), joints[confidence > 0].max(0)
    half_height = 0.55 * (high - low)[1]
    for index in range(POSES):
        axes = figure.add_axes((0.005 + 0.14 * index, 0.63, 0.14, 0.29))
        for body, weight in zip(joints[index], confidence[index], strict=True):
            draw_body(axes, body, weight, recording.layout, line_width=5, joint_area=45)
        axes.set_xlim((low + high)[0] / 2 - half_height * _NARROW, (low + high)[0] / 2 + half_height * _NARROW)
        axes.set_ylim((low + high)[1] / 2 - half_height, (low + high)[1] / 2 + half_height)
        axes.axis("off")
    _arrow(figure, 0.775)
    size, moments = len(heatmaps), heatmaps.shape[-1] // 6
    margin = round(size * (1 - _NARROW) / 2)
    for index, moment in enumerate((np.linspace(0.35, 0.7, POSES) * (moments - 1)).round().astype(int)):
        image = np.maximum(heatmaps[..., 6 * moment], heatmaps[..., 6 * moment + 3])
        axes = figure.add_axes((0.335 + 0.1455 * index, 0.63, 0.1425, 0.29))
        axes.imshow(image[:, margin : size - margin], cmap="magma", vmin=0, vmax=1, aspect="auto")
        axes.axis("off")
    _say(figure, 0.015, 0.595, "3D skeleton")
    _say(figure, 0.335, 0.595, "heatmaps")


def _draw_sound(figure: Any, recording: Recording, stack: npt.NDArray[np.float32]) -> None:
    """The waveform, and as much of the log-Mel spectrogram as the recording lasts."""
    axes = figure.add_axes((0.015, 0.335, 0.265, 0.205))
    pieces = np.array_split(recording.waveform, 300)
    axes.fill_between(range(300), [p.min() for p in pieces], [p.max() for p in pieces], color=_INK, linewidth=0.5)
    axes.set_xlim(0, 300)
    axes.axis("off")
    _arrow(figure, 0.4375)
    spectrogram = stack[..., 0]
    sounding = np.flatnonzero(spectrogram.max(0) > spectrogram.min())
    axes = figure.add_axes((0.335, 0.335, 0.288, 0.205))
    axes.imshow(spectrogram[:, : sounding[-1] - 1], origin="lower", aspect="auto", cmap="magma")
    axes.axis("off")
    _say(figure, 0.015, 0.29, "sound")
    _say(figure, 0.335, 0.29, "log-Mel spectrogram")


def _draw_answer(axes: Any, name: str, probability: npt.NDArray[np.float64], names: list[str], truth: int) -> None:
    """Bars of the most probable classes, best on top; that of the true class is green and ticked."""
    axes.set_title(name, loc="left", fontsize=_FONT, fontweight="bold", color=_INK, pad=6)
    for place, index in enumerate(_best(probability)):
        colour, mark = (_TRUTH_BAR, " ✓") if index == truth else (_OTHER_BAR, "")
        axes.barh(-place, 0.82 * probability[index], height=0.86, color=colour)
        axes.text(0.015, -place, f"{names[index]}{mark}", va="center", ha="left", fontsize=_FONT, color=_INK)
        axes.text(1.0, -place, f"{probability[index]:.0%}", va="center", ha="right", fontsize=_FONT, color=_INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(-LABELS + 0.5, 0.5)
    axes.axis("off")


def _say(figure: Any, x: float, y: float, text: str, *, size: float = 1.0, color: str = _INK, **style: Any) -> None:
    figure.text(x, y, text, fontsize=_FONT * size, color=color, va="center", ha="left", **style)


def _arrow(figure: Any, y: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    start = 0.29 if y > 0.3 else 0.57
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 30, "linewidth": 4, "color": _INK}
    figure.add_artist(FancyArrowPatch((start, y), (start + 0.04, y), transform=figure.transFigure, **look))
