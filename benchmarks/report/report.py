"""`python -m benchmarks report`: everything about a checkpoint's files on one page that needs no network.

Each part is one of the project's own commands; the page is made of the JSON and PNG files that they leave beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from console.files import atomic_file
from console.plot import require_matplotlib
from console.program import log, show, show_json
from runtime.manifest import read_artifact

from ..commands import call
from ..graph.layer_time import LayerTime, layer_times
from ..measure.result_files import write_result
from ..studies import robustness, table1
from ..studies.ablation import ablation_table
from ..studies.variants import Variant, make_variants
from .page import Cell, Page
from .plots import block_shares, draw_blocks, draw_pareto

RESULTS = Path(__file__).parents[1] / "results"
PAGE = "index.html"
_ANALYZED = {"nano": 32, "paper": 4}  # recordings of the noise analysis, which runs the model once for every block


def report_command(options: argparse.Namespace) -> None:
    """Handler: measures what is not in the folder of artefacts, writes the page.

    Raises:
        UsageError, DataError, MissingComponentError: as `table1`, `robustness` and `ablation`.
    """
    require_matplotlib()
    table1.check_options(options)
    variants = make_variants(options)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    costs = table1.measure_table1(variants, options, table1.command_of(options))
    write_result(costs, out / "table1.json")
    fused = {own.precision: own.folder for own in variants if own.stream == "fused"}
    times = {name: layer_times(read_artifact(folder)[1], table1.RUNTIME) for name, folder in fused.items()}
    write_result({name: [asdict(own) for own in rows] for name, rows in times.items()}, out / "layers.json")
    judged = costs["rows"][0]["accuracy"] is not None
    answers = _answers(options, fused, out) if judged else {}
    page = _page(options, variants, costs, times, answers, out)
    with atomic_file(out / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    if options.json:
        show_json({"page": str(out / PAGE), "table1": costs, **answers})
    else:
        show(f"report: {out / PAGE}")


def _answers(options: argparse.Namespace, fused: dict[str, Path], out: Path) -> dict[str, Any]:
    """What needs trained weights: robustness, ablation, noise."""
    data = ["--data", str(options.data)] if options.data else []
    split = ["--protocol", options.protocol] if options.protocol else []
    words = [*data, *split, "--recordings", str(options.corrupted), "--seed", str(options.seed)]
    found = {
        "robustness": call(
            "benchmarks",
            "robustness",
            *(f"{name}={folder}" for name, folder in fused.items()),
            *words,
            *("--out", str(out / "robustness.json")),
        ),
        "ablation": call(
            "benchmarks", "ablation", f"INT8={fused['INT8']}", *words, "--out", str(out / "ablation.json")
        ),
    }
    checkpoint = ["--checkpoint", str(options.checkpoint)] if options.checkpoint else []
    calibration = ["--calibration", str(options.calibration)] if options.calibration else []
    analyzed = str(_ANALYZED[read_artifact(fused["INT8"])[0].preset])
    found["noise"] = call(
        "quantize", "analyze", *checkpoint, *data, *calibration, "--recordings", analyzed, "--out", str(out / "noise")
    )
    return found


def _page(
    options: argparse.Namespace,
    variants: Sequence[Variant],
    costs: dict[str, Any],
    times: dict[str, list[LayerTime]],
    answers: dict[str, Any],
    out: Path,
) -> str:
    environment = costs["record"]["environment"]
    machine = environment["machine"]
    page = Page("From the paper's recogniser to a phone", table1.lead(costs))
    page.section("Table 1: cost, size, memory, time")
    _table1(page, costs)
    if answers:
        page.section("What is given for what is gained")
        draw_pareto(costs["rows"], out / "pareto.png")
        page.picture(
            out / "pareto.png",
            "Accuracy against latency and against file size, for every stream and precision",
            f"Accuracy on the recordings of the verification, with 95 % intervals; latency on {machine['cpu']}.",
        )
        _answer_sections(page, answers, out)
    noise = answers.get("noise")
    page.section("Where the time and the noise are" if noise else "Where the time is")
    draw_blocks(times, noise, out / "blocks.png")
    page.picture(
        out / "blocks.png",
        f"Inference time{' and share of the quantization noise' if noise else ''} by block",
        "Time of every block as LiteRT's own profiler has it, one thread."
        + (" Noise: what the block adds to the logits when it alone is quantized." if noise else ""),
    )
    _block_table(page, times, noise)
    _curve(page, options)
    page.section("How these numbers came about")
    page.code(environment["command"])
    page.text(
        f"{environment['date']}, commit {environment['commit'] or 'unknown'}, on {machine['cpu']} with "
        f"{machine['cores']} cores ({machine['architecture']}, {machine['system']}; 8-bit instructions: "
        f"{', '.join(machine['instructions'] or ()) or 'none known'})."
    )
    page.table(
        ["package", "version"], [[name, own or "not installed"] for name, own in environment["versions"].items()]
    )
    page.notes(costs["record"]["warnings"])
    page.text(
        "The folder of this page holds every number as JSON: table1.json with all samples, layers.json and others."
    )
    return page.html


def _table1(page: Page, costs: dict[str, Any]) -> None:
    header, rows = table1.table1_rows(costs)
    marked = [[Cell(own, "quoted") if own.endswith(" q") else own for own in row] for row in rows]
    page.table(header, marked, table1.title_of(costs))
    page.notes(table1.NOTES)


def _answer_sections(page: Page, answers: dict[str, Any], out: Path) -> None:
    page.section("Bad microphones, rooms and views")
    page.picture(
        out / "robustness.png",
        "Accuracy under noise, reverberation, hidden joints, misalignment and failing sensors",
        "All files answer on the same corrupted recordings.",
    )
    page.code(robustness.robustness_table(answers["robustness"]))
    page.section("What each sense knows")
    page.picture(out / "ablation.png", "Accuracy of every class with both inputs, without sound, without skeleton")
    page.code(ablation_table(answers["ablation"]))
    page.row(
        [
            (out / f"ablation-{condition.replace(' ', '-')}.png", f"Confusion matrix, {condition}")
            for condition in answers["ablation"]["conditions"]
        ]
    )


def _block_table(page: Page, times: dict[str, list[LayerTime]], noise: dict[str, Any] | None) -> None:
    shares = {name: block_shares(rows) for name, rows in times.items()}
    noises = {own["name"]: own for own in noise["blocks"]} if noise else {}
    order = sorted(shares["INT8"], key=lambda block: -shares["INT8"][block][0])
    rows = []
    for block in order:
        row = [block]
        for name in times:
            us, share = shares[name].get(block, (0.0, 0.0))
            row.append(f"{us / 1e3:.3f} ms ({share:.1%})")
        if noise:
            own = noises.get(block)
            row.append(f"{own['logits_snr_db']:.1f} dB ({own['share']:.1%})" if own else "")
        rows.append(row)
    header = ["block", *(f"time, {name}" for name in times)]
    if noise:
        header.append("logits' SNR (share of the noise)")
    page.table(header, rows, "Blocks of the fused model, slowest in INT8 first")


def _curve(page: Page, options: argparse.Namespace) -> None:
    """The committed pruning curve of the demo, beside its own measurements."""
    result, plot = RESULTS / "pruning.json", RESULTS / "pruning.png"
    if options.checkpoint or options.preset or not plot.exists():
        return
    from ..studies.pruning import pruning_table

    document = json.loads(result.read_text(encoding="utf-8"))
    own = document["provenance"]
    page.section("Smaller and smaller")
    page.picture(plot, "Accuracy against MACs, file size and latency for several shares of pruning")
    page.code(pruning_table(document))
    page.text(f"Measured on {own['machine']['cpu']}, {own['date'][:10]}; not measured again for this page.")
    log(f"the pruning curve is that of {own['date'][:10]}")
