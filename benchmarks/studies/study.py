"""The frame of a study: measure, write a JSON file with its provenance, draw pictures beside it, show a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from console.files import atomic_file
from console.options import command_line
from console.plot import require_matplotlib
from console.program import show, show_json, warn
from preprocess.errors import UsageError
from runtime.artifact import Artifact
from runtime.metrics import Score

from ..measure.latency import doubts
from ..measure.provenance import environment
from ..measure.records import Record
from ..measure.runner import artifact_contenders, measure_all

SCHEMA_VERSION = 1
RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Study:
    """A measurement that ends as a result file. An instance is the handler of its command.

    Attributes:
        name: of the command, `benchmark` in the result file.
        measure: takes the parsed options and returns the result file without its first fields: JSON values. Where
            times are measured, `record` in it has the provenance (`timed`).
        table: takes a result file and returns the text for people.
        packages: distributions whose versions matter.
        draw: takes a result file and its path, and writes PNG files beside it.
    """

    name: str
    measure: Callable[[argparse.Namespace], dict[str, Any]]
    table: Callable[[dict[str, Any]], str]
    packages: tuple[str, ...] = ("numpy", "ai-edge-litert", "onnxruntime")
    draw: Callable[[dict[str, Any], Path], None] | None = None

    def __call__(self, options: argparse.Namespace) -> None:
        """Handler: measures, writes and draws where there is an --out, and shows the table or, with --json, the file.

        Raises:
            UsageError: --out is a PNG file, which a plot would replace; and as `measure`.
            MissingComponentError: there is a picture to draw and matplotlib is not installed; and as `measure`.
        """
        if self.draw:
            if options.out.suffix.lower() == ".png":
                raise UsageError(f"--out is {options.out}; name a JSON file, the plots go beside it")
            require_matplotlib()
        document = self.document(options)
        if options.out:
            write_result(document, options.out)
        if self.draw:
            self.draw(document, options.out)
        if options.json:
            show_json(document)
        else:
            show(self.table(document))

    def document(self, options: argparse.Namespace) -> dict[str, Any]:
        """The result file. Raises as `measure`."""
        result = self.measure(options)
        head: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "benchmark": self.name}
        if "record" not in result:
            head["provenance"] = asdict(environment(command_line(options), packages=self.packages))
        return {**head, **result}


def timed(artifacts: Sequence[Artifact], options: argparse.Namespace, *, packages: Sequence[str]) -> Record:
    """Times the artifacts in turn on their golden recordings, and measures their memory; warns of unsteady times.

    Args:
        artifacts: with different names.
        options: --threads, --rounds and --seed, which seeds the order.

    Returns:
        A record with one measurement for each artifact, in order.

    Raises:
        DataError: an artifact cannot be measured.
    """
    contenders = artifact_contenders(artifacts, [options.threads])
    measurements = measure_all(contenders, rounds=options.rounds, seed=options.seed)
    warnings = doubts(measurements)
    for warning in warnings[:1]:
        warn(f"times are unsteady, leave the machine alone and measure again: {warning}")
    origin = environment(command_line(options), packages=packages)
    return Record(origin, options.seed, options.rounds, measurements, warnings)


def write_result(document: Any, path: Path) -> None:
    """Writes JSON, completely or not at all. Non-finite numbers are refused."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def claim_folder(folder: Path, options: dict[str, object]) -> None:
    """Marks a folder of intermediate results with the options that they depend on.

    Raises:
        UsageError: it has results of other options.
    """
    path = folder / "options.json"
    if not path.exists():
        write_result(options, path)
    elif json.loads(path.read_text(encoding="utf-8")) != options:
        raise UsageError(f"{folder} holds results of other options; choose another --folder")


def score_of(entry: dict[str, Any]) -> Score:
    """The score in a result file, from its `accuracy` and `count`."""
    return Score(round(entry["accuracy"] * entry["count"]), entry["count"])
