"""Exit codes and streams of a program, files that appear whole or not at all, tables and progress."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from console.files import atomic_file, atomic_folder
from console.program import add_common_options, make_program, run_program, show, show_json
from preprocess.errors import AnswerIsNo, DataError, MissingComponentError, UsageError

ROOT = Path(__file__).resolve().parents[2]


def run(handler, *arguments):
    parser = make_program("demo", "A program.", [])
    add_common_options(parser)
    parser.set_defaults(handler=handler)
    return run_program(parser, list(arguments))


def raising(error):
    def handler(options):
        raise error

    return handler


@pytest.fixture
def start():
    """Starts child processes that run some code in the project; none outlives the test."""
    children = []

    def start_child(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        children.append(subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True))
        return children[-1]

    yield start_child
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


ERRORS = {
    "no": (AnswerIsNo("accuracy 0.5\n is below 0.9"), 1, "no: accuracy 0.5 is below 0.9"),
    "usage": (UsageError("size is 3; use 4"), 2, "error: size is 3; use 4"),
    "missing component": (MissingComponentError("no adb; install it"), 3, "error: no adb; install it"),
    "data": (DataError("a.wav is empty"), 4, "error: a.wav is empty"),
    "file": (FileNotFoundError(2, "No such file", "x.wav"), 4, "error: No such file: x.wav"),
    "full disk": (OSError(28, "No space left on device"), 4, "error: No space left on device"),
    "package": (ModuleNotFoundError("No module", name="librosa"), 3, "error: Python package 'librosa' is not"),
    "plots": (
        ModuleNotFoundError("No module", name="matplotlib.figure"),
        3,
        "error: Python package 'matplotlib.figure' is not installed; run `pip install -e \".[plots]\"`",
    ),
    "defect": (ZeroDivisionError("division by zero"), 70, "defect: ZeroDivisionError: division by zero; run again"),
    "interrupt": (KeyboardInterrupt(), 130, "interrupted: nothing half-written was left behind"),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_an_error_is_one_line_on_stderr_and_an_exit_code(capsys, case, option):
    error, code, message = ERRORS[case]
    assert run(raising(error), *option) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize("case", ["usage", "missing component", "data", "file", "package", "defect"])
def test_debug_adds_the_traceback_and_keeps_the_exit_code(capsys, case):
    error, code, message = ERRORS[case]
    assert run(raising(error), "--debug") == code
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "in handler" in err
    assert err.splitlines()[-1].startswith(message)


@pytest.mark.parametrize("place", ["__path__", "__file__"])
def test_a_folder_or_file_that_hides_a_package_is_named(tmp_path, monkeypatch, capsys, place):
    (tmp_path / "model").mkdir()
    other = ModuleType("model")
    setattr(other, place, [str(tmp_path / "model")] if place == "__path__" else str(tmp_path / "model"))
    monkeypatch.setitem(sys.modules, "model", other)
    assert run(raising(ModuleNotFoundError("No module", name="model.checkpoint"))) == 3
    message = capsys.readouterr().err
    assert f"{tmp_path / 'model'} hides the package 'model'" in message
    assert "run `pocket-har`" in message


def test_an_answer_of_no_has_no_traceback(capsys):
    assert run(raising(AnswerIsNo("the gate failed")), "--debug") == 1
    assert capsys.readouterr().err == "no: the gate failed\n"


def test_success_prints_the_result_to_stdout_only(capsys):
    assert run(lambda options: show("result")) == 0
    assert capsys.readouterr() == ("result\n", "")


def test_an_unknown_option_is_wrong_usage(capsys):
    assert run(lambda options: None, "--colour") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: unrecognized arguments: --colour (see `python -m demo --help`)\n"


def test_json_with_a_non_finite_number_is_a_defect(capsys):
    assert run(lambda options: show_json({"accuracy": float("nan")})) == 70
    assert capsys.readouterr().out == ""


def test_a_reader_that_went_away_is_no_error_message(start):
    code = """
import sys
from console.program import make_program, run_as_main, show
parser = make_program("demo", "", [])
parser.set_defaults(handler=lambda options: [show("x" * 1000) for _ in range(1000)])
run_as_main(parser)
"""
    child = start(code)
    child.stdout.read(10)
    child.stdout.close()
    assert child.wait(20) == 130
    assert child.stderr.read() == ""


NOISE = """
import os, sys, logging, warnings
from console.program import add_common_options, log, make_program, run_as_main
def handler(options):
    os.write(2, b"native noise\\n")
    warnings.warn("python noise")
    logging.getLogger("library").warning("logged noise")
    log("progress")
parser = make_program("demo", "", [])
add_common_options(parser)
parser.set_defaults(handler=handler)
run_as_main(parser)
"""


def test_native_libraries_are_quiet_and_our_own_lines_are_not(start):
    _, err = start(NOISE).communicate(timeout=20)
    assert err == "progress\n"


def test_debug_lets_native_libraries_speak(start):
    _, err = start(NOISE, "--debug").communicate(timeout=20)
    for line in ("native noise", "python noise", "logged noise", "progress"):
        assert line in err


INTERRUPTED = """
import sys, time
from pathlib import Path
from console.files import atomic_file, atomic_folder
from console.program import make_program, run_as_main, show
root = Path(sys.argv.pop())
def handler(options):
    with atomic_folder(root / "folder") as folder, atomic_file(root / "file.bin") as file:
        (folder / "part").write_bytes(b"new")
        file.write_bytes(b"new")
        print("ready", flush=True)
        time.sleep(60)
parser = make_program("demo", "", [])
parser.set_defaults(handler=handler)
run_as_main(parser)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_130_and_leaves_nothing_behind(start, tmp_path, number):
    child = start(INTERRUPTED, tmp_path)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert (out, err) == ("", "interrupted: nothing half-written was left behind\n")
    assert list(tmp_path.iterdir()) == []


def test_killed_while_writing_nothing_looks_finished(start, tmp_path):
    child = start(INTERRUPTED, tmp_path)
    assert child.stdout.readline() == "ready\n"
    child.kill()
    child.communicate(timeout=20)
    assert not (tmp_path / "file.bin").exists()
    assert not (tmp_path / "folder").exists()
    assert all(path.name.startswith(".tmp-") for path in tmp_path.iterdir())


REWRITING = """
import sys
from pathlib import Path
from console.files import atomic_file, atomic_folder
root = Path(sys.argv[1])
for version in range(10**9):
    with atomic_file(root / "file") as file, atomic_folder(root / "folder", force=True) as folder:
        for path in (file, folder / "a", folder / "b"):
            path.write_text(f"{version:09d}" * 5000)
    if version == 3:
        print("ready", flush=True)
"""


def test_killed_at_any_moment_a_file_is_old_or_new_but_whole(start, tmp_path):
    rng = random.Random(7)
    for attempt in range(6):
        root = tmp_path / str(attempt)
        child = start(REWRITING, root)
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.05))
        child.kill()
        child.communicate(timeout=20)
        texts = [(root / "file").read_text()]
        if (root / "folder").exists():
            texts += [(root / "folder/a").read_text(), (root / "folder/b").read_text()]
            assert texts[1] == texts[2]
        for text in texts:
            assert text == text[:9] * 5000


def test_an_error_inside_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with contextlib.suppress(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_takes_its_place_with_the_usual_permissions(tmp_path):
    path = tmp_path / "new" / "file.json"
    with atomic_file(path) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("new")
    plain = tmp_path / "plain"
    plain.touch()
    assert path.read_text() == "new"
    assert path.stat().st_mode == plain.stat().st_mode
    assert list(path.parent.iterdir()) == [path]


def test_an_error_inside_leaves_the_old_folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with contextlib.suppress(RuntimeError), atomic_folder(path, force=True) as temporary:
        (temporary / "new").touch()
        raise RuntimeError
    assert [item.name for item in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "content").touch()
    with (
        pytest.raises(UsageError, match=r"exists; choose another --out or replace it with --force"),
        atomic_folder(tmp_path),
    ):
        pytest.fail("work was done")


def test_a_folder_that_appeared_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "folder"

    def another_appears():
        with atomic_folder(path) as temporary:
            (temporary / "new").touch()
            path.mkdir()
            (path / "other").touch()

    with pytest.raises(UsageError, match="exists"):
        another_appears()
    assert [item.name for item in path.iterdir()] == ["other"]


@pytest.mark.parametrize("content", ["folder", "empty folder", "file"])
def test_force_replaces_what_is_there(tmp_path, content):
    path = tmp_path / "target"
    if content == "file":
        path.touch()
    else:
        path.mkdir()
    if content == "folder":
        (path / "old").touch()
    with atomic_folder(path, force=True) as temporary:
        (temporary / "new").touch()
    assert [item.name for item in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", [1, 2])
def test_interrupted_between_the_renames_the_old_folder_comes_back(tmp_path, monkeypatch, failing):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    rename, calls = Path.rename, []

    def interrupted(self, target):
        calls.append(target)
        if len(calls) == failing:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(path, force=True):
        pass
    assert [item.name for item in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_one_document(capsys):
    show_json({"name": "σ", "values": [1, 2.5, None]})
    assert json.loads(capsys.readouterr().out) == {"name": "σ", "values": [1, 2.5, None]}


def test_atomic_file_reports_a_folder_it_may_not_write(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.touch()

    def handler(options):
        with atomic_file(blocked / "inside"):
            pass

    assert run(handler) == 4
    assert os.fspath(blocked) in capsys.readouterr().err
