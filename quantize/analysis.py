"""Which layers add how much noise when they are quantized, and `python -m quantize analyze`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from console.files import atomic_file
from console.plot import new_figure, save_png
from console.program import show, show_json
from console.progress import Progress
from console.table import format_table
from model.checkpoint import DEMO_CHECKPOINT, load_checkpoint
from model.config import DeployForm
from model.deploy import build_deploy, set_deploy_weights
from recordings.calibration import CalibrationSet
from recordings.sources import DataSource
from runtime.blocks import block_of
from runtime.metrics import power_ratio_db, snr_db

from .prepare import CalibrationOptions, Prepared, prepare
from .ranges import GELU_LOWEST
from .rounding import FakeQuant, feed, round_weights

_COLOURS = {"ResNet": "#1f77b4", "ConvNeXt": "#d1495b", "attention": "#2a9d8f", "head": "#6c757d"}
PARTS = tuple(_COLOURS)
_BATCH_SIZE = 8
_BLOCKS_SHOWN, _BLOCKS_DRAWN = 12, 20


@dataclass(frozen=True)
class BlockNoise:
    """One block of layers.

    Attributes:
        name: `visual/stage0/block1`, `audio/stem`, `fusion/attention`, …
        part: ResNet, ConvNeXt, attention or head.
        logits_snr_db: signal-to-noise ratio of the logits when this block alone is quantized, weights and activations.
        share: of the noise power in the logits, summed over all blocks quantized one by one.
        pattern: the block's tensors, as a recipe names them.
    """

    name: str
    part: str
    logits_snr_db: float
    share: float
    pattern: str


@dataclass(frozen=True)
class Analysis:
    """Noise of full INT8 quantization, noisiest blocks first.

    Attributes:
        recordings: number of recordings compared.
        logits_snr_db: signal-to-noise ratio of the logits with everything quantized.
        blocks: noisiest first.
        tensors: signal-to-noise ratio in dB of every activation, by name, with everything quantized, so that it
            includes noise of the layers before; in the order of computation.
    """

    recordings: int
    logits_snr_db: float
    blocks: tuple[BlockNoise, ...]
    tensors: dict[str, float]

    def by_part(self) -> dict[str, float]:
        """Share of the noise that each part of the network adds."""
        return {part: sum(block.share for block in self.blocks if block.part == part) for part in PARTS}

    def to_dict(self) -> dict[str, Any]:
        tensors = [{"name": name, "block": block_of(name), "snr_db": snr} for name, snr in self.tensors.items()]
        return {**asdict(self), "tensors": tensors, "parts": self.by_part()}


def analyze_command(options: argparse.Namespace) -> None:
    """Calibrate, analyze, show the noisiest blocks."""
    checkpoint = load_checkpoint(options.checkpoint or DEMO_CHECKPOINT)
    config, weights = checkpoint.config, checkpoint.weights
    calibration, samples = DataSource.of(options).two_sets(config, options.calibration, options.recordings)
    form = DeployForm(options.form, "convolutions")
    analysis = analyze(prepare(config, weights, form, calibration, CalibrationOptions.of(options)), samples)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        with atomic_file(options.out / "analysis.json") as temporary:
            temporary.write_text(json.dumps(analysis.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        draw_analysis(analysis, options.out / "analysis.png")
    if options.json:
        show_json(analysis.to_dict())
    else:
        show(analysis_table(analysis))


def part_of_block(block: str) -> str:
    """The member of `PARTS` that a block belongs to."""
    return {"visual": "ResNet", "audio": "ConvNeXt"}.get(block.split("/")[0], block.split("/")[-1])


def pattern_of(block: str, tensors: Sequence[str]) -> str:
    """A recipe's patterns for the activations of a block: `visual/stage0/block1,visual/stage0/block1/*`, or names.

    The network's inputs are not among them: the file format decides their type.
    """
    if not block.startswith("fusion/"):
        return f"{block},{block}/*"
    return ",".join(name for name in tensors if block_of(name) == block)


def analyze(prepared: Prepared, samples: CalibrationSet) -> Analysis:
    """Quantize everything once, then each block alone, and compare with the float model on `samples`."""
    switched = _Switched(prepared)
    names = switched.names
    blocks = list(dict.fromkeys(map(block_of, names)))
    with Progress("analyzing", len(blocks) + 2) as progress:
        ratios = switched.compare(samples)
        progress.advance()
        switched.quantize(())
        logits = switched.logits(samples)
        progress.advance()
        alone = {}
        for block in blocks:
            switched.quantize([name for name in names if block_of(name) == block])
            alone[block] = switched.logits(samples)
            progress.advance(note=block)
    noise = {block: float(np.square(noisy - logits).sum()) for block, noisy in alone.items()}
    total = sum(noise.values()) or 1.0
    return Analysis(
        recordings=len(samples.names),
        logits_snr_db=ratios[-1],
        blocks=tuple(
            BlockNoise(
                name=block,
                part=part_of_block(block),
                logits_snr_db=snr_db(logits, alone[block]),
                share=noise[block] / total,
                pattern=pattern_of(block, names),
            )
            for block in sorted(blocks, key=lambda block: -noise[block])
        ),
        tensors=dict(zip(names, ratios, strict=True)),
    )


class _Switched:
    """One graph whose activations and weights can be rounded block by block."""

    def __init__(self, prepared: Prepared) -> None:
        self._plain, self._rounded = prepared.equalised, round_weights(prepared.static_weights)
        self._switches: dict[str, Any] = {}
        outputs: dict[str, Any] = {}

        def tap(x: Any, name: str) -> Any:
            if name in prepared.ranges:
                switch = self._switches[name] = tf.Variable(False, trainable=False)
                x = FakeQuant(prepared.ranges[name], switch, name=f"{name}/round")(x)
            outputs[name] = x
            return x

        self._deploy = build_deploy(prepared.config, prepared.form, tap)
        self.names = tuple(outputs)
        self._run = _runner(keras.Model(self._deploy.inputs, list(outputs.values())))
        self._run_logits = _runner(self._deploy)

    def quantize(self, names: Sequence[str]) -> None:
        """Round these activations and the kernels of their blocks, and no others."""
        chosen = set(names)
        blocks = set(map(block_of, chosen))
        for name, switch in self._switches.items():
            switch.assign(name in chosen)
        rounded = {name: kernel for name, kernel in self._rounded.items() if block_of(name) in blocks}
        set_deploy_weights(self._deploy, self._plain | rounded)

    def logits(self, samples: CalibrationSet) -> npt.NDArray[np.float32]:
        starts = range(0, len(samples.names), _BATCH_SIZE)
        return np.concatenate([np.asarray(self._run_logits(samples.batch(start, _BATCH_SIZE))) for start in starts])

    def compare(self, samples: CalibrationSet) -> list[float]:
        """Signal-to-noise ratio of every activation, everything quantized against nothing."""
        signal, noise = np.zeros(len(self.names)), np.zeros(len(self.names))
        # One by one: the activations of a large model fill memory soon.
        for batch in (samples.batch(start, 1) for start in range(len(samples.names))):
            self.quantize(())
            exact = [np.asarray(x, np.float64) for x in self._run(batch)]
            self.quantize(self.names)
            for index, (name, a, b) in enumerate(zip(self.names, exact, self._run(batch), strict=True)):
                b = np.asarray(b)
                if name.endswith("/expand"):
                    # Cut off on purpose: GELU is zero below.
                    a, b = np.maximum(a, GELU_LOWEST), np.maximum(b, GELU_LOWEST)
                signal[index] += np.square(a).sum()
                noise[index] += np.square(b - a).sum()
        return [power_ratio_db(float(s), float(n)) for s, n in zip(signal, noise, strict=True)]


def _runner(model: keras.Model) -> Any:
    return tf.function(lambda batch: model(feed(model, batch), training=False), autograph=False)


def analysis_table(analysis: Analysis) -> str:
    """The noisiest blocks, then the parts of the network."""
    blocks = format_table(
        ["block quantized alone", "part", "logits' SNR", "share of the noise"],
        [
            [block.name, block.part, f"{block.logits_snr_db:.1f} dB", f"{100 * block.share:.1f} %"]
            for block in analysis.blocks[:_BLOCKS_SHOWN]
        ],
        title=f"INT8 against float on {analysis.recordings} recordings, logits' SNR {analysis.logits_snr_db:.1f} dB",
    )
    noisiest = {
        part_of_block(block_of(name)): (name, snr)
        for name, snr in sorted(analysis.tensors.items(), key=lambda tensor: -tensor[1])
    }
    parts = format_table(
        ["part", "share of the noise", "noisiest tensor, all quantized", "its SNR"],
        [
            [part, f"{100 * share:.1f} %", noisiest[part][0], f"{noisiest[part][1]:.1f} dB"]
            for part, share in analysis.by_part().items()
        ],
    )
    return f"{blocks}\n\n{parts}"


def draw_analysis(analysis: Analysis, path: Path) -> None:
    """Write a PNG: above, SNR of every tensor in the order of computation; below, the share of noise by block.

    Raises:
        MissingComponentError: matplotlib is not installed.
    """
    figure = new_figure(11, 9)
    above, below = figure.subplots(2, 1, height_ratios=(1, 1.3))
    for part, colour in _COLOURS.items():
        # Tensors of constants have no noise; a cap keeps the others apart.
        ratios = [
            min(snr, 80) if part_of_block(block_of(name)) == part else np.nan for name, snr in analysis.tensors.items()
        ]
        above.plot(ratios, ".", color=colour, label=part)
    above.set_xlabel("tensor, in the order of computation")
    above.set_ylabel("SNR, dB (INT8 against float)")
    above.set_title(f"All quantized: logits' SNR {analysis.logits_snr_db:.1f} dB over {analysis.recordings} recordings")
    above.legend(ncols=4, frameon=False)
    bars = analysis.blocks[:_BLOCKS_DRAWN][::-1]
    below.barh(
        [bar.name for bar in bars], [100 * bar.share for bar in bars], color=[_COLOURS[bar.part] for bar in bars]
    )
    below.set_xlabel("share of the noise in the logits, %, every block quantized alone")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    save_png(figure, path)
