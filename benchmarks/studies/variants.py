"""A checkpoint in every variant that the paper's Table 1 is asked for: each stream in float32, INT8 and pruned INT8."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from console.program import log
from preprocess.errors import UsageError
from runtime.manifest import MANIFEST_NAME, file_sha256

from ..commands import call
from ..measure.result_files import claim_folder

STREAMS = ("visual", "audio", "fused")
PRECISIONS = ("float32", "INT8", "pruned INT8")
# What ships: the demo, and the demo pruned to half of its MACs and trained again.
_DEMOS = Path(__file__).resolve().parents[2] / "model" / "demo"
DEMO, PRUNED_DEMO = _DEMOS / "nano.npz", _DEMOS / "nano-pruned.npz"
SHARE = 0.5


@dataclass(frozen=True)
class Variant:
    """One of the artefacts: `visual`, `audio` or `fused`, in one of PRECISIONS, and its folder."""

    stream: str
    precision: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.stream} {self.precision}"


def variant_words(options: argparse.Namespace) -> str:
    """The options as a command has them, without folders of this machine."""
    words = [f"--checkpoint {options.checkpoint.name}"] if options.checkpoint else []
    words += [f"--pruned {options.pruned.name}"] if options.pruned else []
    words += [f"--preset {options.preset} --audio-norm {options.audio_norm}"] if options.preset else []
    words += [f"--calibration {options.calibration}"] if options.calibration else []
    words += [f"--recordings {options.recordings}"] if options.recordings else []
    return "".join(f" {word}" for word in words)


def make_variants(options: argparse.Namespace) -> list[Variant]:
    """Exports what is not there yet.

    Raises:
        UsageError: options exclude each other, or the folder holds variants of something else.
        DataError: an export failed.
    """
    if options.preset and (options.checkpoint or options.pruned):
        raise UsageError("--preset means random weights; leave out --checkpoint and --pruned")
    if options.pruned and not options.checkpoint:
        raise UsageError("--pruned needs --checkpoint, the checkpoint that it was pruned from")
    sources = (options.checkpoint, options.pruned) if options.checkpoint or options.preset else (DEMO, PRUNED_DEMO)
    claim_folder(
        options.folder,
        {"options": variant_words(options), "checkpoints": [file_sha256(own) for own in sources if own]},
    )
    whole, pruned = _checkpoints(options)
    variants = []
    for precision in PRECISIONS:
        words = [] if precision == "float32" else ["--int8"]
        checkpoint = pruned if precision.startswith("pruned") else whole
        words += ["--checkpoint", str(checkpoint)] if checkpoint else []
        words += ["--calibration", str(options.calibration)] if options.calibration else []
        words += ["--recordings", str(options.recordings)] if options.recordings else []
        for stream in STREAMS:
            own = Variant(stream, precision, options.folder / f"{stream} {precision}".replace(" ", "-"))
            if not (own.folder / MANIFEST_NAME).exists():
                # A variant that misses a tolerance is measured all the same; its manifest says so.
                call("export", "tflite", "--stream", stream, *words, "--out", str(own.folder), "--force", fails=True)
            variants.append(own)
    return variants


def _checkpoints(options: argparse.Namespace) -> tuple[Path | None, Path]:
    """The checkpoint (None for the demo) and the pruned one, made where they do not exist."""
    whole, pruned = options.checkpoint, options.pruned
    if options.preset:
        whole = options.folder / "random.npz"
        if not whole.exists():
            call("model", "init", "--preset", options.preset, "--audio-norm", options.audio_norm, "--out", str(whole))
    if pruned is None and whole is None:
        return None, PRUNED_DEMO
    if pruned is None:
        pruned = options.folder / "pruned.npz"
        if not pruned.exists():
            log(f"no --pruned given: {SHARE:.0%} of the MACs, the same share of every width, not trained again")
            rule = ["--macs", str(SHARE), "--uniform", "--criterion", "magnitude"]
            call("quantize", "prune", "--checkpoint", str(whole), *rule, "--out", str(pruned))
    return whole, pruned
