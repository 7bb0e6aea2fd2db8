"""The frame of all studies, with a study that measures nothing; the commands; the tables of the committed results."""

from __future__ import annotations

import getpass
import json
import shlex
import socket
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.__main__ import COMMANDS, build_parser, main
from benchmarks.measure.provenance import environment, instructions
from benchmarks.report.readme import STUDIES, command_today, pages, render
from benchmarks.studies.study import RESULTS, Study, write_result
from console.options import positive
from console.program import Command, make_program
from preprocess.errors import DataError, UsageError

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(path for path in RESULTS.glob("*.json") if path.stem != "gate-baseline")


def add_options(parser):
    parser.add_argument("--value", type=positive, default=3)
    parser.add_argument("--folder", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path)


def parse(*words):
    program = make_program("benchmarks", "", [Command("fake", "measures nothing", "json:loads", add_options)])
    return program.parse_args(["fake", *map(str, words)])


def fake(measure=lambda options: {"value": options.value}, **more):
    return Study("fake", measure, lambda document: f"the value is {document['value']}", ("numpy", "no-such"), **more)


def test_a_study_writes_its_result_with_its_origin_and_shows_the_table(tmp_path, capsys):
    out = tmp_path / "new" / "fake.json"
    fake()(parse("--value", 7, "--folder", tmp_path, "--out", out))
    assert capsys.readouterr().out == "the value is 7\n"
    document = json.loads(out.read_text(encoding="utf-8"))
    assert list(document) == ["schema_version", "benchmark", "provenance", "value"]
    assert (document["schema_version"], document["benchmark"], document["value"]) == (1, "fake", 7)
    assert document["provenance"]["command"] == "python -m benchmarks fake --value 7"
    assert document["provenance"]["versions"]["no-such"] is None
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
    fake()(parse("--value", 7, "--json"))
    printed = json.loads(capsys.readouterr().out)
    assert {**printed, "provenance": None} == {**document, "provenance": None}
    of_times = fake(lambda options: {"value": 1, "record": {"environment": {}}})  # the record has its origin
    assert list(of_times.document(parse())) == ["schema_version", "benchmark", "value", "record"]


def test_pictures_are_drawn_beside_the_result_and_never_in_its_place(tmp_path):
    drawn = []
    study = fake(draw=lambda document, path: drawn.append((document["value"], path)))
    study(parse("--out", tmp_path / "a.json"))
    assert drawn == [(3, tmp_path / "a.json")]
    with pytest.raises(UsageError, match="name a JSON file"):
        study(parse("--out", tmp_path / "a.png"))
    assert len(drawn) == 1


def test_a_result_that_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result({"value": float("nan")}, tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_provenance_names_versions_and_machine_but_nobody():
    record = asdict(environment("python -m something", packages=("numpy",)))
    assert set(record) == {"command", "date", "commit", "machine", "versions"}
    assert record["versions"]["numpy"]
    assert record["machine"]["cores"] >= 1
    text = json.dumps(record)
    for secret in (str(ROOT), str(Path.home()), f'"{socket.gethostname()}"', f'"{getpass.getuser()}"'):
        assert secret not in text


def test_instructions_are_those_of_the_processor(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    assert instructions(cpuinfo) is None
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimddp neon i8mm\n", encoding="utf-8")
    assert instructions(cpuinfo) == ("asimddp", "i8mm")


# The commands


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_handler_exists_and_a_study_has_the_name_of_its_command(command):
    module, _, name = command.handler.partition(":")
    handler = getattr(import_module(module), name)
    assert callable(handler)
    if command.name in STUDIES:
        assert STUDIES[command.name] is handler


# The committed results


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_a_committed_result_has_a_command_that_works_today_and_its_study_draws_it(path, tmp_path):
    document = json.loads(path.read_text(encoding="utf-8"))
    command = command_today((document.get("provenance") or document["record"]["environment"])["command"])
    options = build_parser().parse_args(shlex.split(command)[3:])
    study = STUDIES[options.command]
    assert study.table(document)
    if study.draw:
        study.draw(document, tmp_path / path.name)
        drawn = {picture.name for picture in tmp_path.iterdir()}
        assert drawn == {picture.name for picture in RESULTS.glob(f"{path.stem}*.png")} - (
            {"pruning-paper.png"} if path.stem == "pruning" else set()
        )


def test_documents_show_the_committed_results_and_the_check_writes_nothing(capsys):
    before = [page.stat().st_mtime_ns for page in pages()]
    assert main(["readme", "--check"]) == 0
    assert "docs/results.md: " in capsys.readouterr().out
    assert [page.stat().st_mtime_ns for page in pages()] == before
    shown = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        again, names = render(page.name, text)
        assert again == text, f"{page.name}: run `python -m benchmarks readme`"
        shown += names
    assert sorted(shown) == sorted([*(path.stem for path in DOCUMENTS), "headline"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table1 -->\nold", "needs a begin and an end"),
        ("<!-- table1 -->\nold\n<!-- /table1 -->\n<!-- table1 -->\nold\n<!-- /table1 -->", "needs a begin and an end"),
        ("<!-- nothing -->\nold\n<!-- /nothing -->", "a.md has a table 'nothing'"),
    ],
)
def test_a_document_with_a_broken_block_is_an_error(text, message):
    with pytest.raises(DataError, match=message):
        render("a.md", text)
