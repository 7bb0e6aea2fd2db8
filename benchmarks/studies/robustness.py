"""`python -m benchmarks robustness`: accuracy of artifacts on corrupted recordings.

All artifacts get the same tensors, so that they can be compared recording by recording. The conditions are in
`benchmarks.studies.conditions`, the corruptions in `recordings.corruptions`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from console.plot import new_figure, save_png, style
from console.table import format_table
from runtime.answers import Answers
from runtime.artifact import open_artifacts

from .conditions import ALL_CONDITIONS, CLEAN, KINDS, Condition, ask_under_conditions
from .study import Study, score_of

_DODGE = 0.14  # between the markers of two artifacts, in steps of the axis
# Title, label of the axis, format of a severity on it, and the label of the clean recordings.
_PANELS = {
    "noise": ("Background noise", "SNR over the active sound, dB", "{:g}", "clean"),
    "reverberation": ("Reverberation added", "RT60, s", "{:g}", "none"),
    "joints": ("Hidden joints", "joints lost for the whole recording, %", "{:g}", "0"),
    "misalignment": ("Sound against skeleton", "sound early (−) or late (+), s", "{:+g}", "0"),
}
_FAILURES = ("clean", "no skeleton", "no sound")


def measure_robustness(options: argparse.Namespace) -> dict[str, Any]:
    """Asks every artifact under every condition. Raises as `open_artifacts` and `ask_under_conditions`."""
    artifacts = open_artifacts(options.artifacts)
    answers, data = ask_under_conditions(options, artifacts, ALL_CONDITIONS, title="robustness")
    return {
        **data,
        "classes": len(artifacts[0].manifest.codes),
        "artifacts": [artifact.to_dict() for artifact in artifacts],
        "conditions": condition_entries(ALL_CONDITIONS, [artifact.name for artifact in artifacts], answers),
    }


def condition_entries(conditions: Sequence[Condition], names: Sequence[str], answers: Answers) -> list[dict[str, Any]]:
    """For each condition kind, severity, unit and, by artifact, score and agreement with the first artifact.

    Raises:
        AnswerIsNo: a logit is not finite.
    """
    return [
        {
            "name": condition.name,
            "kind": condition.kind,
            "severity": condition.severity,
            "unit": KINDS[condition.kind].unit,
            "results": {
                name: {
                    **answers.score((name, condition)).to_dict(),
                    "agreement": answers.agreement((names[0], condition), (name, condition)),
                }
                for name in names
            },
        }
        for condition in conditions
    ]


def robustness_table(document: dict[str, Any]) -> str:
    """A row for every condition: accuracy of each artifact, and how often the others choose as the first does."""
    first, *others = [artifact["name"] for artifact in document["artifacts"]]
    header = ["condition", f"{first} [95 %]"]
    for name in others:
        header += [f"{name} [95 %]", "agree"]
    rows = []
    for entry in document["conditions"]:
        row = [entry["name"], _interval(entry["results"][first])]
        for name in others:
            result = entry["results"][name]
            row += [_interval(result), f"{100 * result['agreement']:.1f} %"]
        rows.append(row)
    title = f"Accuracy in % on {document['recordings']} recordings ({document['data']})"
    return format_table(header, rows, title=title)


def _interval(result: dict[str, Any]) -> str:
    """`96.3 [93.6, 97.9]`, in per cent."""
    return str(score_of(result)).replace(" %", "")


def draw_robustness(document: dict[str, Any], path: Path) -> None:
    """PNG: accuracy with 95 % intervals, a panel for every kind of corruption, all artifacts in each."""
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
    panels[4].set_xlabel("missing input")
    for axes in (panels[0], panels[3]):
        axes.set_ylabel("accuracy, %")
    # The intervals' markers before the line of chance.
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        [*handles[1:], handles[0]],
        [*labels[1:], labels[0]],
        loc="outside upper center",
        ncols=min(len(labels), 5),
        frameon=False,
        title=f"{document['recordings']} recordings ({document['data']}); bars: 95 % intervals (Wilson)",
    )
    figure.get_layout_engine().set(h_pad=0.08, hspace=0.06)
    save_png(figure, path.with_suffix(".png"))


def _draw_panel(
    axes: Any, document: dict[str, Any], entries: Sequence[dict[str, Any]], ticks: Sequence[str], *, joined: bool
) -> None:
    """Evenly spaced conditions; the artifacts' markers stand side by side, so that their bars stay readable."""
    names = [artifact["name"] for artifact in document["artifacts"]]
    dodge = min(_DODGE, 0.5 / len(names))
    for index, name in enumerate(names):
        results = [entry["results"][name] for entry in entries]
        look = style(index)
        axes.errorbar(
            [at + dodge * (index - (len(names) - 1) / 2) for at in range(len(entries))],
            [100 * result["accuracy"] for result in results],
            [[100 * abs(result["accuracy"] - result["interval95"][end]) for result in results] for end in (0, 1)],
            color=look.colour,
            marker=look.marker,
            linestyle=look.line if joined else "none",
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


STUDY = Study("robustness", measure_robustness, robustness_table, draw=draw_robustness)
