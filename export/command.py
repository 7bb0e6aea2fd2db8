"""Handler of `python -m export tflite|onnx`: exports, and shows the verification beside the paper's table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from console.program import show, show_json
from console.table import format_table
from preprocess.errors import AnswerIsNo
from runtime.manifest import Manifest
from runtime.paper import PAPER_TABLE_1

from .plan import ExportPlan, ModelChoice, choose_folder, choose_weights

if TYPE_CHECKING:
    from .verification import Verification


def export_command(options: argparse.Namespace) -> None:
    """Exports one artifact.

    Raises:
        AnswerIsNo: the artifact was written but missed a tolerance.
    """
    model = ModelChoice.of(options, options.command)
    preset, checkpoint = choose_weights(options)
    name = model.name(preset, options)
    # Before TensorFlow is loaded and minutes are spent.
    out = choose_folder(options, name)
    plan = ExportPlan.of(options, name, model, checkpoint())
    from recordings.sources import DataSource

    from .pipeline import export

    manifest, verification = export(plan, DataSource.of(options), out, force=options.force)
    if options.json:
        fields = ("name", "recipe", "size_bytes", "cost", "calibration", "verification", "measurement")
        show_json({"artifact": str(out), **{name: getattr(manifest, name) for name in fields}})
    else:
        show(f"{verification_table(manifest.name, verification)}\n\n{paper_table(manifest)}\n")
        verdict = "NOT VERIFIED" if verification.failures else "verified"
        show(f"{verdict}: {out / manifest.model_file} ({manifest.size_bytes / 1e6:.2f} MB, {manifest.recipe})")
    if verification.failures:
        raise AnswerIsNo(f"{out} is not verified: {'; '.join(verification.failures)}")


def verification_table(name: str, verification: Verification) -> str:
    """The artifact in every runtime against the float model."""
    answers, by_class = verification.answers, verification.judged_by_class

    def closeness(reference: str, model: str) -> list[str]:
        return [f"{100 * answers.agreement(reference, model):.1f} %", f"{answers.snr_db(reference, model):.1f} dB"]

    rows = [["float model (TensorFlow)", str(answers.score("float")) if by_class else "random weights", "", ""]]
    for runtime in verification.runtimes:
        accuracy = str(answers.score(runtime)) if by_class else ""
        rows.append([f"{name} in {runtime}", accuracy, *closeness("float", runtime)])
    first, *others = verification.runtimes
    rows += [[f"{other} against {first}", "", *closeness(first, other)] for other in others]
    rows += [[f"{runtime}: not installed", "", "", ""] for runtime in verification.missing]
    return format_table(
        ["model", "accuracy [95 % interval]", "agreement", "logits' SNR"],
        rows,
        title=f"Verification on {verification.recordings} held-out recordings",
    )


def paper_table(manifest: Manifest) -> str:
    """The artifact beside its row of the paper's Table 1."""
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
