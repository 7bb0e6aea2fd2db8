"""Accuracy of artefacts on corrupted recordings: `python -m benchmarks robustness [NAME=]DIR...`.

All artefacts get the same tensors, so that they can be compared recording by recording. What a condition changes is
in `benchmarks.studies.conditions`, how in `recordings.corruptions`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from console.plot import new_figure, require_matplotlib, save_png, style
from console.program import show, show_json
from console.table import format_table
from runtime.metrics import agreement, score

from ..measure.provenance import provenance
from ..measure.result_files import PACKAGES, data_words, interval_text, refuse_png, write_result
from .artifacts import Answers, Artifact, answer_as_asked, artifact_words, open_artifacts
from .conditions import ALL_CONDITIONS, CLEAN, KINDS, Condition

SCHEMA_VERSION = 1

_DODGE = 0.14  # between the markers of two artefacts, in steps of the axis
# Title, label of the axis and how a severity is written there; the clean recordings stand at the given label.
_PANELS = {
    "noise": ("Background noise", "SNR over the active sound, dB", "{:g}", "clean"),
    "reverberation": ("Reverberation added", "RT60, s", "{:g}", "none"),
    "joints": ("Hidden joints", "joints lost for the whole recording, %", "{:g}", "0"),
    "misalignment": ("Sound against skeleton", "sound early (−) or late (+), s", "{:+g}", "0"),
}
_FAILURES = ("clean", "no skeleton", "no sound")


def robustness_command(options: argparse.Namespace) -> None:
    """Handler: measures, writes the JSON file and the plot, shows the table.

    Raises:
        UsageError, DataError, MissingComponentError: as `open_artifacts` and `answer_as_asked`.
    """
    refuse_png(options.out)
    require_matplotlib()
    artifacts = open_artifacts(options.artifacts)
    held_out, answers = answer_as_asked(options, artifacts, ALL_CONDITIONS, label="robustness")
    command = f"python -m benchmarks robustness {artifact_words(artifacts)} {data_words(options)}"
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "robustness",
        "provenance": provenance(command, packages=PACKAGES),
        "seed": options.seed,
        "data": held_out.origin,
        "recordings": len(answers.labels),
        "skipped": list(answers.skipped),
        "classes": len(artifacts[0].manifest.codes),
        "artifacts": [own.to_dict() for own in artifacts],
        "conditions": condition_entries(ALL_CONDITIONS, artifacts, answers),
    }
    write_result(document, options.out)
    draw(document, options.out.with_suffix(".png"))
    if options.json:
        show_json(document)
    else:
        show(robustness_table(document))


def condition_entries(
    conditions: Sequence[Condition], artifacts: Sequence[Artifact], answers: Answers
) -> list[dict[str, Any]]:
    """For each condition kind, severity, unit and, by artefact, score and agreement with the first artefact.

    Raises:
        AnswerIsNo: a logit is not finite.
    """
    entries = []
    for index, condition in enumerate(conditions):
        logits = answers.logits[:, index]
        results = {
            own.name: {**score(rows, answers.labels).to_dict(), "agreement": agreement(logits[0], rows)}
            for own, rows in zip(artifacts, logits, strict=True)
        }
        entries.append(
            {
                "name": condition.name,
                "kind": condition.kind,
                "severity": condition.severity,
                "unit": KINDS[condition.kind].unit,
                "results": results,
            }
        )
    return entries


def robustness_table(document: dict[str, Any]) -> str:
    """A row for every condition: accuracy of each artefact, and how often the others choose as the first does."""
    first, *others = [own["name"] for own in document["artifacts"]]
    header = ["condition", f"{first} [95 %]"]
    for name in others:
        header += [f"{name} [95 %]", "agreement"]
    rows = []
    for entry in document["conditions"]:
        row = [entry["name"], interval_text(entry["results"][first])]
        for name in others:
            result = entry["results"][name]
            row += [interval_text(result), f"{100 * result['agreement']:.1f} %"]
        rows.append(row)
    count = document["recordings"]
    return format_table(header, rows, title=f"Accuracy on {count} recordings ({document['data']})")


def draw(document: dict[str, Any], path: Path) -> None:
    """PNG: accuracy with 95 % intervals, a panel for every kind of corruption, all artefacts in each."""
    figure = new_figure(13, 7.6)
    panels = list(figure.subplot_mosaic([[0, 1, 2], [3, 3, 4]], sharey=True).values())
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for entry in document["conditions"]:
        by_kind.setdefault(entry["kind"], []).append(entry)
    clean = by_kind[CLEAN.kind][0]
    for axes, (kind, (title, label, pattern, at_clean)) in zip(panels, _PANELS.items(), strict=False):
        corrupted = by_kind[kind]
        place = sum(entry["severity"] < 0 for entry in corrupted)  # the clean ones lie between early and late
        entries = [*corrupted[:place], clean, *corrupted[place:]]
        ticks = [at_clean if entry is clean else pattern.format(entry["severity"]) for entry in entries]
        _draw_panel(axes, document, entries, [tick.replace("-", "−") for tick in ticks], joined=True)
        axes.set_title(title)
        axes.set_xlabel(label)
    failures = [by_kind[kind][0] for kind in _FAILURES]
    _draw_panel(panels[4], document, failures, ["both inputs", "no skeleton", "no sound"], joined=False)
    panels[4].set_title("A sensor fails")
    panels[4].set_xlabel("what is missing")
    for axes in (panels[0], panels[3]):
        axes.set_ylabel("accuracy, %")
    # The intervals' markers before the line of chance.
    handles, labels = panels[0].get_legend_handles_labels()
    title = f"{document['recordings']} recordings ({document['data']}); bars: 95 % intervals (Wilson)"
    figure.legend(
        [*handles[1:], handles[0]],
        [*labels[1:], labels[0]],
        loc="outside upper center",
        ncols=min(len(labels), 5),
        frameon=False,
        title=title,
    )
    figure.get_layout_engine().set(h_pad=0.08, hspace=0.06)
    save_png(figure, path)


def _draw_panel(
    axes: Any, document: dict[str, Any], entries: Sequence[dict[str, Any]], ticks: Sequence[str], *, joined: bool
) -> None:
    """Evenly spaced conditions; the artefacts' markers stand side by side, so that their bars stay readable."""
    names = [own["name"] for own in document["artifacts"]]
    dodge = min(_DODGE, 0.5 / len(names))
    for index, name in enumerate(names):
        results = [entry["results"][name] for entry in entries]
        places = [at + dodge * (index - (len(names) - 1) / 2) for at in range(len(entries))]
        accuracy = [100 * result["accuracy"] for result in results]
        bars = [[100 * abs(result["accuracy"] - result["interval95"][end]) for result in results] for end in (0, 1)]
        own = style(index)
        axes.errorbar(
            places,
            accuracy,
            bars,
            color=own.colour,
            marker=own.marker,
            linestyle=own.line if joined else "none",
            markersize=6,
            linewidth=1.4,
            elinewidth=0.9,
            capsize=2,
            label=name,
        )
    axes.axhline(100 / document["classes"], color="#777777", linestyle=(0, (1, 2)), linewidth=1, label="chance")
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes.set_ylim(0, 102)
    axes.tick_params(labelleft=True)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
