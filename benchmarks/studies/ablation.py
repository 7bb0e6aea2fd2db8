"""What each input is worth: `python -m benchmarks ablation [NAME=]DIR`.

Accuracy of every class with both inputs, without sound and without skeleton, as in the paper's Figure 7, and the
confusion matrices, as in its Figures 5 and 6. A missing input is what arrives where the sensor fails.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from console.plot import draw_confusion_matrix, new_figure, require_matplotlib, save_png, style
from console.program import show, show_json
from console.table import format_table
from runtime.metrics import Labels, Logits, Score, confusion_matrix, score

from ..measure.provenance import provenance
from ..measure.result_files import PACKAGES, data_words, interval_text, refuse_png, write_result
from .artifacts import answer_as_asked, artifact_words, open_artifacts
from .conditions import CLEAN, Condition

SCHEMA_VERSION = 1
_FILLS = ("#56b4e9", "#e69f00", "#d9d9d9")
CONDITIONS = {
    "both inputs": CLEAN,
    "without sound": Condition("no sound"),
    "without skeleton": Condition("no skeleton"),
}


def ablation_command(options: argparse.Namespace) -> None:
    """Handler: measures, writes the JSON file and the plots, shows the table.

    Raises:
        UsageError, DataError, MissingComponentError: as `open_artifacts` and `answer_as_asked`.
    """
    refuse_png(options.out)
    require_matplotlib()
    artifacts = open_artifacts(options.artifacts)
    (artifact,) = artifacts
    held_out, answers = answer_as_asked(options, artifacts, tuple(CONDITIONS.values()), label="ablation")
    command = f"python -m benchmarks ablation {artifact_words(artifacts)} {data_words(options)}"
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "ablation",
        "provenance": provenance(command, packages=PACKAGES),
        "seed": options.seed,
        "data": held_out.origin,
        "recordings": len(answers.labels),
        "skipped": list(answers.skipped),
        "artifact": artifact.to_dict(),
        "labels": [asdict(label) for label in artifact.manifest.labels],
        "conditions": {
            name: per_class(logits, answers.labels) for name, logits in zip(CONDITIONS, answers.logits[0], strict=True)
        },
    }
    write_result(document, options.out)
    draw(document, options.out.with_suffix(".png"))
    draw_confusions(document, options.out)
    if options.json:
        show_json(document)
    else:
        show(ablation_table(document))


def per_class(logits: Logits, labels: Labels) -> dict[str, Any]:
    """Score over all recordings; of each class its own, None where it has no recording; the confusion matrix.

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
        entries = [own["classes"][index] for own in conditions.values()]
        if entries[0]:
            accuracies = [f"{100 * entry['accuracy']:.1f} %" for entry in entries]
            rows.append([f"{label['code']} {label['name']}", str(entries[0]["count"]), *accuracies])
    rows.append(["all [95 %]", str(document["recordings"]), *map(interval_text, conditions.values())])
    title = f"{document['artifact']['name']} on {document['recordings']} recordings ({document['data']})"
    return format_table(["class", "recordings", *conditions], rows, title=title)


def draw(document: dict[str, Any], path: Path) -> None:
    """PNG: grouped bars, accuracy of every class that has recordings under each condition, with 95 % intervals."""
    conditions = document["conditions"]
    shown = [i for i, entry in enumerate(next(iter(conditions.values()))["classes"]) if entry]
    names = [document["labels"][i]["name"] for i in shown]
    figure = new_figure(max(7.0, 0.75 * len(names) + 1.5), 5.6)
    axes = figure.subplots()
    width = 0.8 / len(conditions)
    for index, (condition, own) in enumerate(conditions.items()):
        entries = [own["classes"][i] for i in shown]
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
            label=f"{condition}: {interval_text(own)}",
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


def draw_confusions(document: dict[str, Any], out: Path) -> list[Path]:
    """A confusion matrix for each condition, in PNG files beside `out`: `ablation-without-sound.png` and so on."""
    names = [label["name"] for label in document["labels"]]
    paths = []
    for condition, own in document["conditions"].items():
        path = out.with_name(f"{out.stem}-{condition.replace(' ', '-')}.png")
        title = f"{document['artifact']['name']}, {condition}\n{interval_text(own)}"
        draw_confusion_matrix(np.array(own["confusion"]), names, path, title=title)
        paths.append(path)
    return paths
