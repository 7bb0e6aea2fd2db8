"""`python -m benchmarks ablation`: the worth of each input.

Accuracy of every class with both inputs, without sound and without skeleton, as in the paper's Figure 7, and the
confusion matrices, as in its Figures 5 and 6. A missing input is the tensor of a sensor that fails.
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from console.plot import draw_confusion_matrix, new_figure, save_png, style
from console.table import format_table
from runtime.artifact import open_artifacts
from runtime.metrics import Labels, Logits, Score, confusion_matrix, score

from .conditions import CLEAN, Condition, ask_under_conditions
from .study import Study, score_of

_FILLS = ("#56b4e9", "#e69f00", "#d9d9d9")
CONDITIONS = {
    "both inputs": CLEAN,
    "without sound": Condition("no sound"),
    "without skeleton": Condition("no skeleton"),
}


def measure_ablation(options: argparse.Namespace) -> dict[str, Any]:
    """Asks one artifact with both inputs and with each alone. Raises as `open_artifacts` and `ask_under_conditions`."""
    artifacts = open_artifacts(options.artifacts)
    (artifact,) = artifacts
    answers, data = ask_under_conditions(options, artifacts, tuple(CONDITIONS.values()), title="ablation")
    return {
        **data,
        "artifact": artifact.to_dict(),
        "labels": [asdict(label) for label in artifact.manifest.labels],
        "conditions": {
            name: per_class(answers.logits[artifact.name, condition], answers.labels)
            for name, condition in CONDITIONS.items()
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


STUDY = Study("ablation", measure_ablation, ablation_table, draw=draw_ablation)
