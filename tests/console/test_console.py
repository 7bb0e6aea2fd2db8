"""Exit codes and streams of a program, files that appear whole or not at all, tables and progress."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from unittest import mock

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
        with child:
            child.kill()


ERRORS = {
    "no": (AnswerIsNo("accuracy 0.5\n is below 0.9"), 1, "no: accuracy 0.5 is below 0.9"),
    "usage": (UsageError("size is 3; use 4"), 2, "error: size is 3; use 4"),
    "missing component": (MissingComponentError("no adb; install it"), 3, "error: no adb; install it"),
    "data": (DataError("a.wav is empty"), 4, "error: a.wav is empty"),
    "file": (FileNotFoundError(2, "No such file", "x.wav"), 4, "error: No such file: x.wav"),
    "full disk": (OSError(28, "No space left on device"), 4, "error: No space left on device"),
    "package": (ModuleNotFoundError("No module", name="librosa"), 3, "error: Python package 'librosa' is not"),
    "plots": (ModuleNotFoundError("No module", name="matplotlib.figure"), 3, 'run `pip install -e ".[plots]"`'),
    "defect": (ZeroDivisionError("division by zero"), 70, "defect: ZeroDivisionError: division by zero; run again"),
    "interrupt": (KeyboardInterrupt(), 130, "interrupted: nothing half-written was left behind"),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("option", ["--json", "--debug"])
def test_an_error_is_one_line_on_stderr_and_an_exit_code(capsys, case, option):
    error, code, message = ERRORS[case]
    assert run(raising(error), option) == code
    out, err = capsys.readouterr()
    *traceback, line = err.splitlines()
    assert out == ""
    assert message in line
    assert bool(traceback) == (option == "--debug" and case not in ("no", "interrupt"))
    assert traceback[:1] in ([], ["Traceback (most recent call last):"])


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


@pytest.mark.parametrize(
    ("handler", "option", "code", "out", "err"),
    [
        (lambda options: show("result"), "--json", 0, "result\n", ""),
        (show, "--colour", 2, "", "error: unrecognized arguments: --colour (see `python -m demo --help`)\n"),
        (lambda options: show_json(["σ", 1.5, None]), "--json", 0, '[\n  "\\u03c3",\n  1.5,\n  null\n]\n', ""),
        (lambda options: show_json(float("nan")), "--json", 70, "", "defect: ValueError: "),
    ],
    ids=["success", "unknown option", "JSON", "JSON with a number that is not finite"],
)
def test_results_go_to_stdout_and_messages_to_stderr(capsys, handler, option, code, out, err):
    assert run(handler, option) == code
    captured = capsys.readouterr()
    assert captured.out == out
    assert captured.err.startswith(err)


PROGRAM = """
from console.program import add_common_options, log, make_program, run_as_main, show
parser = make_program("demo", "", [])
add_common_options(parser)
parser.set_defaults(handler=handler)
run_as_main(parser)
"""


def test_a_reader_that_went_away_is_no_error_message(start):
    child = start("handler = lambda options: [show('x' * 1000) for _ in range(1000)]" + PROGRAM)
    child.stdout.read(10)
    child.stdout.close()
    assert child.wait(20) == 130
    assert child.stderr.read() == ""


NOISE = """
import os, sys, logging, warnings
def handler(options):
    os.write(2, b"native noise\\n")
    warnings.warn("python noise")
    logging.getLogger("library").warning("logged noise")
    log("progress")
"""


def test_native_libraries_are_quiet_without_debug(start):
    quiet, loud = start(NOISE + PROGRAM), start(NOISE + PROGRAM, "--debug")
    assert quiet.communicate(timeout=20)[1] == "progress\n"
    err = loud.communicate(timeout=20)[1]
    assert all(line in err for line in ("native noise", "python noise", "logged noise", "progress"))


INTERRUPTED = """
import sys, time
from pathlib import Path
from console.files import atomic_file, atomic_folder
root = Path(sys.argv.pop())
def handler(options):
    with atomic_folder(root / "folder") as folder, atomic_file(root / "file.bin") as file:
        (folder / "part").write_bytes(b"new")
        file.write_bytes(b"new")
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_with_130_and_leaves_nothing_that_looks_finished(start, tmp_path, number):
    child = start(INTERRUPTED + PROGRAM, tmp_path)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    streams = child.communicate(timeout=20)
    if number == signal.SIGKILL:
        assert all(path.name.startswith(".tmp-") for path in tmp_path.iterdir())
        return
    assert child.returncode == 130
    assert streams == ("", "interrupted: nothing half-written was left behind\n")
    assert list(tmp_path.iterdir()) == []


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
    for attempt in range(4):
        root = tmp_path / str(attempt)
        child = start(REWRITING, root)
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.05))
        child.kill()
        child.communicate(timeout=20)
        folder = [path.read_text() for path in root.glob("folder/?")]
        assert folder in ([], folder[:1] * 2)
        for text in ((root / "file").read_text(), *folder):
            assert text == text[:9] * 5000


def test_an_error_inside_leaves_the_old_file_and_the_old_folder(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    (folder / "old").touch()
    with contextlib.suppress(RuntimeError), atomic_file(file) as part, atomic_folder(folder, force=True) as parts:
        part.write_text("new")
        (parts / "new").touch()
        raise RuntimeError
    assert file.read_text() == "old"
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert sorted(tmp_path.iterdir()) == [file, folder]


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


def test_an_existing_folder_is_refused_before_any_work_or_after_it(tmp_path):
    path = tmp_path / "folder"

    def write(*, folder_appears: bool):
        with atomic_folder(path):
            assert folder_appears, "work was done"
            path.mkdir()
            (path / "other").touch()

    for folder_appears in (True, False):
        with pytest.raises(UsageError, match="exists; choose another --out or replace it with --force"):
            write(folder_appears=folder_appears)
    assert [item.name for item in path.iterdir()] == ["other"]


@pytest.mark.parametrize("content", ["folder", "empty folder", "file"])
def test_force_replaces_what_is_there(tmp_path, content):
    path = tmp_path / "target"
    if content != "file":
        path.mkdir()
    if content != "empty folder":
        (path / "old" if content == "folder" else path).touch()
    with atomic_folder(path, force=True) as temporary:
        (temporary / "new").touch()
    assert [item.name for item in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", [1, 2])
def test_interrupted_between_the_renames_the_old_folder_comes_back(tmp_path, monkeypatch, failing):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    renames = iter([Path.rename] * (failing - 1) + [mock.Mock(side_effect=KeyboardInterrupt)] + [Path.rename] * 2)
    monkeypatch.setattr(Path, "rename", lambda self, target: next(renames)(self, target))
    with pytest.raises(KeyboardInterrupt), atomic_folder(path, force=True):
        pass
    assert [item.name for item in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]
