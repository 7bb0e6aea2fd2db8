"""Which layers add how much noise when they are quantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from console.progress import Progress
from model.deploy import build_deploy, set_deploy_weights
from model.folding import Weights
from recordings.calibration import CalibrationSet
from runtime.blocks import block_of
from runtime.metrics import power_ratio_db, snr_db

from .prepare import Prepared
from .ranges import GELU_LOWEST
from .rounding import FakeQuant, Range, round_weights

PARTS = ("ResNet", "ConvNeXt", "attention", "head")


@dataclass(frozen=True)
class TensorNoise:
    """One activation: its signal-to-noise ratio in the fully quantized graph, noise from before it included."""

    name: str
    block: str
    snr_db: float


@dataclass(frozen=True)
class BlockNoise:
    """One block of layers.

    Attributes:
        name: `visual/stage0/block1`, `audio/stem`, `fusion/attention`, …
        part: ResNet, ConvNeXt, attention or head.
        logits_snr_db: signal-to-noise ratio of the logits when this block alone is quantized, weights and activations.
        share: of the noise power in the logits that all blocks add one by one.
        pattern: what the block's tensors are called in a recipe.
    """

    name: str
    part: str
    logits_snr_db: float
    share: float
    pattern: str


@dataclass(frozen=True)
class Analysis:
    """Noise of full INT8 quantization, blocks with the most of it first.

    Attributes:
        recordings: how many were compared.
        logits_snr_db: with everything quantized.
        blocks, tensors: by block, most noise first; by tensor in the order of computation.
    """

    recordings: int
    logits_snr_db: float
    blocks: tuple[BlockNoise, ...]
    tensors: tuple[TensorNoise, ...]

    def by_part(self) -> dict[str, float]:
        """Share of the noise that each part of the network adds."""
        return {part: sum(own.share for own in self.blocks if own.part == part) for part in PARTS}

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "parts": self.by_part()}


def part_of(block: str) -> str:
    return {"visual": "ResNet", "audio": "ConvNeXt"}.get(block.split("/")[0], block.split("/")[-1])


def pattern_of(block: str, tensors: Sequence[str]) -> str:
    """A recipe's patterns for what a block computes: `visual/stage0/block1,visual/stage0/block1/*`, or the names.

    The inputs are not among them: the file format decides their type.
    """
    if not block.startswith("fusion/"):
        return f"{block},{block}/*"
    return ",".join(name for name in tensors if block_of(name) == block)


def analyze(prepared: Prepared, samples: CalibrationSet, *, batch_size: int = 8) -> Analysis:
    """Quantizes everything once, then each block alone, and compares with the float model on `samples`."""
    switched = _Switched(prepared)
    names = switched.names
    blocks = list(dict.fromkeys(map(block_of, names)))
    with Progress("analyzing", len(blocks) + 2) as progress:
        ratios = switched.compare(samples)
        progress.advance()
        switched.quantize(())
        logits = switched.logits(samples, batch_size)
        progress.advance()
        alone = {}
        for block in blocks:
            switched.quantize([name for name in names if block_of(name) == block])
            alone[block] = switched.logits(samples, batch_size)
            progress.advance(note=block)
    noise = {block: float(np.square(own - logits).sum()) for block, own in alone.items()}
    every = sum(noise.values()) or 1.0
    ranked = sorted(blocks, key=lambda block: -noise[block])
    return Analysis(
        recordings=len(samples.names),
        logits_snr_db=ratios[-1],
        blocks=tuple(
            BlockNoise(
                name=block,
                part=part_of(block),
                logits_snr_db=snr_db(logits, alone[block]),
                share=noise[block] / every,
                pattern=pattern_of(block, names),
            )
            for block in ranked
        ),
        tensors=tuple(TensorNoise(name, block_of(name), snr) for name, snr in zip(names, ratios, strict=True)),
    )


class _Round(FakeQuant):
    """Rounds to eight bits where its switch is on."""

    def __init__(self, limits: Range, switch: Any, **options: Any) -> None:
        super().__init__(limits, **options)
        # Set past Keras' tracking: a switch is no weight.
        object.__setattr__(self, "switch", switch)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.where(self.switch, super().call(x), x)


class _Switched:
    """One graph whose activations and weights can be rounded block by block."""

    def __init__(self, prepared: Prepared) -> None:
        self._plain, self._rounded = prepared.equalised, round_weights(prepared.static_weights)
        self._switches: dict[str, Any] = {}
        outputs = []

        def tap(x: Any, name: str) -> Any:
            if name in prepared.ranges:
                switch = self._switches[name] = tf.Variable(False, trainable=False)
                x = _Round(prepared.ranges[name], switch, name=f"{name}/round")(x)
            outputs.append((name, x))
            return x

        self._deploy = build_deploy(prepared.config, prepared.form, tap)
        self.names = tuple(name for name, _ in outputs)
        self._model = keras.Model(self._deploy.inputs, [x for _, x in outputs])
        self._run = tf.function(lambda s, a: self._model([s, a], training=False), autograph=False)
        self._run_logits = tf.function(lambda s, a: self._deploy([s, a], training=False), autograph=False)

    def quantize(self, names: Sequence[str]) -> None:
        chosen = set(names)
        blocks = set(map(block_of, chosen))
        for name, switch in self._switches.items():
            switch.assign(name in chosen)
        set_deploy_weights(self._deploy, self._mixed(blocks))

    def _mixed(self, blocks: set[str]) -> Weights:
        return {name: (self._rounded if block_of(name) in blocks else self._plain)[name] for name in self._plain}

    def logits(self, samples: CalibrationSet, batch_size: int) -> npt.NDArray[np.float32]:
        return np.concatenate([np.asarray(self._run_logits(*b)) for b in _batches(samples, batch_size)])

    def compare(self, samples: CalibrationSet) -> list[float]:
        """Signal-to-noise ratio of every activation, everything quantized against nothing."""
        signal, noise = np.zeros(len(self.names)), np.zeros(len(self.names))
        # One by one: the activations of a large model fill memory soon.
        for batch in _batches(samples, 1):
            self.quantize(())
            exact = [np.asarray(x, np.float64) for x in self._run(*batch)]
            self.quantize(self.names)
            for index, (name, a, b) in enumerate(zip(self.names, exact, self._run(*batch), strict=True)):
                b = np.asarray(b)
                if name.endswith("/expand"):
                    # Cut off on purpose: GELU makes nothing of what lies below.
                    a, b = np.maximum(a, GELU_LOWEST), np.maximum(b, GELU_LOWEST)
                signal[index] += np.square(a).sum()
                noise[index] += np.square(b - a).sum()
        return [power_ratio_db(float(s), float(n)) for s, n in zip(signal, noise, strict=True)]


def _batches(samples: CalibrationSet, size: int) -> list[tuple[Any, Any]]:
    starts = range(0, len(samples.names), size)
    return [(samples.skeleton[i : i + size], samples.audio[i : i + size]) for i in starts]
