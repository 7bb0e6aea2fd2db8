"""`python -m benchmarks robustness` and `ablation`: accuracy on corrupted recordings, and the worth of each input.

All artifacts get the same tensors, so that they can be compared recording by recording. The conditions are in
`benchmarks.studies.conditions`, the corruptions in `recordings.corruptions`. The ablation is the accuracy of every
class with both inputs, without sound and without skeleton, as in the paper's Figure 7, and the confusion matrices, as
in its Figures 5 and 6. A missing input is the tensor of a sensor that fails.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from console.plot import draw_confusion_matrix, new_figure, save_png, style
from console.table import format_table
from runtime.answers import Answers
from runtime.artifact import open_artifacts
from runtime.metrics import Labels, Logits, Score, confusion_matrix, score

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
_FILLS = ("#56b4e9", "#e69f00", "#d9d9d9")  # of the bars of the ablation
ABLATION_CONDITIONS = {
    "both inputs": CLEAN,
    "without sound": Condition("no sound"),
    "without skeleton": Condition("no skeleton"),
}


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


def measure_ablation(options: argparse.Namespace) -> dict[str, Any]:
    """Asks one artifact with both inputs and with each alone. Raises as `open_artifacts` and `ask_under_conditions`."""
    artifacts = open_artifacts(options.artifacts)
    (artifact,) = artifacts
    answers, data = ask_under_conditions(options, artifacts, tuple(ABLATION_CONDITIONS.values()), title="ablation")
    return {
        **data,
        "artifact": artifact.to_dict(),
        "labels": [asdict(label) for label in artifact.manifest.labels],
        "conditions": {
            name: per_class(answers.logits[artifact.name, condition], answers.labels)
            for name, condition in ABLATION_CONDITIONS.items()
        },
    }


def per_class(logits: Logits, labels: Labels) -> dict[str, Any]:
    """Score over all recordings; score of each class, None where it has no recording; the confusion matrix.

    Args:
        logits: [N, classes].
        labels: [N].

    Raises:
        AnswerIsNo: a logit is not finite.
    """
    confusion = confusion_matrix(logits, labels)
    classes = [
        Score(int(row[index]), int(row.sum())).to_dict() if row.any() else None for index, row in enumerate(confusion)
    ]
    return {**score(logits, labels).to_dict(), "classes": classes, "confusion": confusion.tolist()}


def ablation_table(document: dict[str, Any]) -> str:
    """A row for every class that has recordings, one for all; accuracy under each condition."""
    conditions = document["conditions"]
    rows = []
    for index, label in enumerate(document["labels"]):
        entries = [condition["classes"][index] for condition in conditions.values()]
        if entries[0]:
            accuracies = [f"{100 * entry['accuracy']:.1f} %" for entry in entries]
            rows.append([f"{label['code']} {label['name']}", str(entries[0]["count"]), *accuracies])
    scores = {name: score_of(condition) for name, condition in conditions.items()}
    rows.append(["all", str(document["recordings"]), *(f"{100 * score.accuracy:.1f} %" for score in scores.values())])
    title = f"{document['artifact']['name']} on {document['recordings']} recordings ({document['data']})"
    intervals = textwrap.fill(f"all [95 %]: {'; '.join(f'{name} {score}' for name, score in scores.items())}", 100)
    return f"{format_table(['class', 'recordings', *conditions], rows, title=title)}\n{intervals}"


def draw_ablation(document: dict[str, Any], path: Path) -> None:
    """PNG files: grouped bars, and a confusion matrix for each condition, such as `ablation-without-sound.png`."""
    _draw_bars(document, path.with_suffix(".png"))
    names = [label["name"] for label in document["labels"]]
    for name, condition in document["conditions"].items():
        title = f"{document['artifact']['name']}, {name}\n{score_of(condition)}"
        target = path.with_name(f"{path.stem}-{name.replace(' ', '-')}.png")
        draw_confusion_matrix(np.array(condition["confusion"]), names, target, title=title)


def _draw_bars(document: dict[str, Any], path: Path) -> None:
    """Accuracy of every class that has recordings under each condition, with 95 % intervals."""
    conditions = document["conditions"]
    shown = [i for i, entry in enumerate(next(iter(conditions.values()))["classes"]) if entry]
    names = [document["labels"][i]["name"] for i in shown]
    figure = new_figure(max(7.0, 0.75 * len(names) + 1.5), 5.6)
    axes = figure.subplots()
    width = 0.8 / len(conditions)
    for index, (name, condition) in enumerate(conditions.items()):
        entries = [condition["classes"][i] for i in shown]
        accuracy = [100 * entry["accuracy"] for entry in entries]
        bars = [[100 * abs(entry["accuracy"] - entry["interval95"][end]) for entry in entries] for end in (0, 1)]
        places = np.arange(len(names)) + width * (index - (len(conditions) - 1) / 2)
        axes.bar(
            places,
            accuracy,
            width,
            color=_FILLS[index],
            hatch=style(index).hatch,
            edgecolor="black",
            linewidth=0.6,
            label=f"{name}: {score_of(condition)}",
        )
        axes.errorbar(places, accuracy, bars, linestyle="none", color="black", elinewidth=1, capsize=2)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(0, 104)
    axes.set_ylabel("accuracy, %")
    axes.spines[["top", "right"]].set_visible(False)
    title = f"{document['artifact']['name']}, {document['recordings']} recordings; whiskers: 95 % intervals (Wilson)"
    figure.legend(loc="outside upper center", ncols=len(conditions), frameon=False, title=title)
    save_png(figure, path)


ABLATION = Study("ablation", measure_ablation, ablation_table, draw=draw_ablation)
ROBUSTNESS = Study("robustness", measure_robustness, robustness_table, draw=draw_robustness)
