"""Handlers of `python -m export`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from console.files import check_free
from console.program import show, show_json
from console.table import format_table
from model.checkpoint import DEMO_CHECKPOINT, Checkpoint, load_checkpoint
from preprocess.errors import AnswerIsNo, DataError, UsageError
from quantize.recipes import FLOAT32, STATIC_WI8_AI8, Recipe, parse_recipe
from runtime.manifest import Manifest, file_sha256
from runtime.paper import PAPER_TABLE_1

from .targets import DEFAULT_TARGET, choose_target

# At paper size one recording takes half a second in the calibrator and a second in all runtimes.
_CALIBRATION = {"nano": 256, "paper": 32}
_HELD_OUT = {"nano": 1000, "paper": 16}


def export_command(options: argparse.Namespace) -> None:
    """Exports, shows the verification and the comparison with the paper.

    Raises:
        AnswerIsNo: the artefact was written but missed a tolerance.
    """
    check_options(options)
    recipe = _recipe(options)
    target, row = choose_target(options.target, options.file_format)
    if options.max_drop is not None and not row.deployed:
        raise UsageError(f"--max-drop searches among our own graphs; leave out --target {target}")
    checkpoint = trained_checkpoint(options)
    preset = checkpoint.config.preset if checkpoint else options.preset or "nano"
    name = _name(options, preset, recipe, target)
    out = options.out or Path("artifacts") / name
    # Refused before TensorFlow is loaded and minutes are spent.
    check_free(out, force=options.force)
    if checkpoint is None:
        checkpoint = random_weights(options, preset)
    manifest = export_model(options, recipe, target, name, checkpoint, out)
    if options.json:
        show_json({"artifact": str(out), "name": manifest.name, **_results(manifest)})
    else:
        _show(manifest, out)
    failures = manifest.verification["failures"]
    if failures:
        raise AnswerIsNo(f"{out} is not verified: {'; '.join(failures)}")


def check_options(options: argparse.Namespace) -> None:
    """Raises UsageError where options of every kind of export do not fit together."""
    if options.checkpoint and options.init:
        raise UsageError("--init random and --checkpoint exclude each other; give one of them")
    for name in ("audio_norm", "stride_on", "preset"):
        if (value := getattr(options, name)) and not options.init:
            words = name.replace("_", "-")
            raise UsageError(f"--{words} {value} needs --init random; a checkpoint has its own configuration")
    for name in ("calibration", "recordings", "workers"):
        value = getattr(options, name)
        if value is not None and value < (0 if name == "workers" else 1):
            raise UsageError(f"--{name} is {value}; use a positive number")


def export_model(
    options: argparse.Namespace, recipe: Recipe, target: str, name: str, checkpoint: Checkpoint, out: Path
) -> Manifest:
    """Writes an artefact by the options of the command line."""
    from model.checkpoint import RANDOM
    from quantize.prepare import CalibrationOptions
    from recordings.sources import DataSource

    from .artifact import ExportRequest, export_artifact
    from .search import Budget

    preset = checkpoint.config.preset
    request = ExportRequest(
        name=name,
        file_format=options.file_format,
        recipe=recipe,
        stream=options.stream,
        budget=None if options.max_drop is None else Budget(options.max_drop, 60 * options.time_limit),
        target=target,
        calibration=CalibrationOptions.of(options),
        checkpoint=checkpoint,
        origin=_origin(options),
        random_weights=RANDOM in checkpoint.history,
        calibration_count=options.calibration or _CALIBRATION[preset],
        held_out_count=options.recordings or _HELD_OUT[preset],
        command=" ".join([f"python -m export {options.file_format}", *command_words(options)]),
    )
    return export_artifact(request, DataSource.of(options), out, force=options.force)[0]


def trained_checkpoint(options: argparse.Namespace) -> Checkpoint | None:
    """The checkpoint asked for, or the demo's; None where random weights are wanted."""
    if options.init:
        return None
    checkpoint = load_checkpoint(options.checkpoint or DEMO_CHECKPOINT)
    if checkpoint.config.preset not in _CALIBRATION:
        raise DataError(
            f"checkpoint has preset {checkpoint.config.preset!r}; this release knows {', '.join(_CALIBRATION)}"
        )
    return checkpoint


def _recipe(options: argparse.Namespace) -> Recipe:
    if options.max_drop is not None:
        if options.int8 or options.recipe:
            raise UsageError("--max-drop searches for a recipe; leave out --int8 and --recipe")
        if not 0 <= options.max_drop < math.inf or not 0 < options.time_limit < math.inf:
            raise UsageError(
                f"--max-drop is {options.max_drop:g} and --time-limit {options.time_limit:g}; use positive numbers"
            )
        if options.init:
            raise UsageError("--max-drop needs trained weights: random ones have no accuracy to keep")
        return STATIC_WI8_AI8
    if options.int8 and options.recipe:
        raise UsageError(f"--int8 and --recipe {options.recipe} exclude each other; --int8 means static_wi8_ai8")
    recipe = parse_recipe(options.recipe) if options.recipe else STATIC_WI8_AI8 if options.int8 else FLOAT32
    recipe.check_format(options.file_format)
    return recipe


def _name(options: argparse.Namespace, preset: str, recipe: Recipe, target: str) -> str:
    words = [preset, *(["random"] if options.init else [])]
    words += [options.stream] if options.stream != "fused" else []
    words += [recipe.short, options.file_format]
    words += ["searched"] if options.max_drop is not None else []
    return "-".join(words + ([target] if target != DEFAULT_TARGET[options.file_format] else []))


def random_weights(options: argparse.Namespace, preset: str) -> Checkpoint:
    """What `--init random` asks for."""
    from model.checkpoint import random_checkpoint

    return random_checkpoint(
        preset,
        audio_norm=options.audio_norm or "layer",
        stride_on=options.stride_on or "3x3",
        seed=options.seed,
    )


def _origin(options: argparse.Namespace) -> dict[str, str]:
    if options.init:
        return {"name": f"random weights, seed {options.seed}", "sha256": ""}
    name = options.checkpoint.name if options.checkpoint else "demo"
    return {"name": name, "sha256": file_sha256(options.checkpoint or DEMO_CHECKPOINT)}


def command_words(options: argparse.Namespace) -> list[str]:
    """The options of a command, without the paths of this machine."""
    words = ["--int8"] if options.int8 else []
    words += [f"--recipe '{options.recipe}'"] if options.recipe else []
    words += (
        [f"--max-drop {options.max_drop:g} --time-limit {options.time_limit:g}"] if options.max_drop is not None else []
    )
    words += [f"--stream {options.stream}"] if options.stream != "fused" else []
    words += [f"--target {options.target}"] if options.target else []
    words += [f"--calibrate-by {options.calibrate_by}"] if options.calibrate_by != "mse" else []
    words += ["--equalise"] if options.equalise else []
    words += ["--keep-biases"] if options.keep_biases else []
    words += [f"--checkpoint {options.checkpoint.name}"] if options.checkpoint else []
    words += [f"--preset {options.preset or 'nano'} --init random"] if options.init else []
    words += [f"--audio-norm {options.audio_norm}"] if options.audio_norm else []
    words += [f"--stride-on {options.stride_on}"] if options.stride_on else []
    words += ["--data DIR"] if options.data else []
    words += [f"--protocol {options.protocol}"] if options.protocol else []
    words += [f"--calibration {options.calibration}"] if options.calibration else []
    words += [f"--recordings {options.recordings}"] if options.recordings else []
    words += [f"--seed {options.seed}"] if options.seed else []
    return words


def _results(manifest: Manifest) -> dict[str, Any]:
    return {
        "recipe": manifest.recipe,
        "size_bytes": manifest.size_bytes,
        "cost": manifest.cost,
        "calibration": manifest.calibration,
        "verification": manifest.verification,
        "measurement": manifest.measurement,
    }


def _show(manifest: Manifest, out: Path) -> None:
    show(verification_table(manifest))
    show("")
    show(paper_table(manifest))
    show("")
    verdict = "verified" if manifest.verification["verified"] else "NOT VERIFIED"
    show(f"{verdict}: {out / manifest.model_file} ({manifest.size_bytes / 1e6:.2f} MB, {manifest.recipe})")


def verification_table(manifest: Manifest) -> str:
    """The artefact in every runtime against the float model."""
    found = manifest.verification

    def accuracy(entry: dict[str, Any]) -> str:
        low, high = entry["interval95"]
        return f"{100 * entry['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"

    by_class = found["judged_by_class"]
    rows = [["float model (TensorFlow)", accuracy(found["float"]) if by_class else "random weights", "", ""]]
    for runtime, entry in found["runtimes"].items():
        rows.append(
            [
                f"{manifest.name} in {runtime}",
                accuracy(entry) if by_class else "",
                f"{100 * entry['agreement']:.1f} %",
                f"{entry['snr_db']:.1f} dB",
            ]
        )
    first = next(iter(found["runtimes"]))
    for runtime, pair in found["between_runtimes"].items():
        rows.append([f"{runtime} against {first}", "", f"{100 * pair['agreement']:.1f} %", f"{pair['snr_db']:.1f} dB"])
    for runtime in found["missing_runtimes"]:
        rows.append([f"{runtime}: not installed", "", "", ""])
    return format_table(
        ["model", "accuracy [95 % interval]", "agreement", "logits' SNR"],
        rows,
        title=f"Verification on {found['recordings']} held-out recordings",
    )


def paper_table(manifest: Manifest) -> str:
    """This artefact beside its row of the paper's Table 1."""
    paper, cost, measured = PAPER_TABLE_1[manifest.stream], manifest.cost[manifest.stream], manifest.measurement
    assert measured is not None
    latency = measured["latency_ms_median"]
    peak = f"{measured['peak_bytes'] / 1e6:.0f} MB"
    if "peak_bytes_mapped" in measured:
        peak += f", mapped {measured['peak_bytes_mapped'] / 1e6:.0f} MB"
    rows = [
        ["parameters (computed)", f"{cost['parameters'] / 1e6:.2f} M", f"{paper.parameters / 1e6:.1f} M"],
        ["MACs (computed)¹", f"{cost['macs'] / 1e9:.3f} G", f"{paper.macs / 1e9:.1f} G"],
        ["file size (measured)", f"{manifest.size_bytes / 1e6:.2f} MB", f"{paper.size_bytes / 1e6:.1f} MB"],
        ["peak RAM (measured)²", peak, f"{paper.peak_bytes / 1e6:.0f} MB"],
        [
            "latency (measured)³",
            f"{latency:.1f} ms ({1e3 / latency:.0f} FPS)",
            f"{paper.latency_ms:.0f} ms ({1e3 / paper.latency_ms:.0f} FPS)",
        ],
    ]
    notes = (
        "¹ the paper's FLOPs are multiply-accumulates with a three-channel image; the heatmaps have 31 channels\n"
        "² of a fresh process, beyond the runtime itself; mapped: with weights held once, in a mapped file\n"
        f"³ {measured['runtime']}, {measured['threads']} thread, {measured['machine']}, median of {measured['runs']} "
        "runs; the paper's machine is another"
    )
    table = format_table([f"{manifest.stream} model", manifest.name, "paper, Table 1"], rows)
    return f"{table}\n{notes}"
