"""Types and groups of options, and the command line that repeats a result."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import options as groups
from console.options import amount, command_line, forward, points, positive, seed, share, whole
from console.program import Command, make_program, run_program


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (whole, {"0": 0, "7": 7}, ["-1", "1.5", "x", "", "nan"]),
        (positive, {"1": 1, "12": 12}, ["0", "-3", "1e3", "²"]),
        (seed, {"0": 0, "4294967295": 2**32 - 1}, ["-1", "4294967296", "9" * 400]),
        (share, {"0.25": 0.25, "1": 1.0}, ["0", "1.01", "nan", "-0.5", "half"]),
        (points, {"0": 0.0, "1.5": 1.5}, ["-0.1", "101", "inf", "nan", "1 point"]),
        (amount, {"0.1": 0.1, "3": 3.0}, ["0", "inf", "nan", "-1"]),
    ],
)
def test_types_accept_their_range_only(kind, good, bad):
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=" is not a "):
            kind(text)


def _options(parser):
    groups.add_checkpoint(parser)
    groups.add_recordings(parser)
    groups.add_calibration(parser, count=32)
    groups.add_settings(parser, "visual.epochs=3")
    parser.add_argument("artifacts", nargs="*", metavar="[NAME=]DIR")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--shares", type=share, nargs="+", default=(0.5, 0.25))
    parser.add_argument("--out", type=Path, metavar="FILE")


def parsed(text: str) -> argparse.Namespace:
    program = make_program("demo", "", [Command("do", "Work.", "demo:do", _options)])
    return program.parse_args(["do", *shlex.split(text)])


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", ""),
        ("--int8 --seed 0 --out x.json --workers 8 --resume --json", "--int8"),
        ("--checkpoint /home/me/runs/a.npz --data /home/me/ntu", "--checkpoint a.npz --data DIR"),
        ("--on-error skip --missing-list l/missing.txt", "--missing-list missing.txt --on-error skip"),
        ("--shares 0.5 0.125 --calibration 8", "--calibration 8 --shares 0.5 0.125"),
        ("--set a.b=1 --set 'a.c=x y'", "--set a.b=1 --set 'a.c=x y'"),
        ("float=/tmp/f /tmp/int8", "float=DIR int8=DIR"),
    ],
)
def test_the_command_line_has_the_options_that_change_the_result_and_no_path(words, kept):
    assert command_line(parsed(words)) == f"python -m demo do {kept}".strip()


VALUES = {
    "--seed": st.integers(0, 2**32 - 1),
    "--calibration": st.integers(1, 99),
    "--protocol": st.sampled_from(["x-sub", "60/20/20", "a b"]),
    "--calibrate-by": st.sampled_from(["minmax", "mse"]),
}


@given(st.fixed_dictionaries({}, optional=VALUES), st.booleans())
def test_the_command_line_parses_to_the_same_options(values, int8):
    words = [word for name, value in values.items() for word in (name, str(value))] + ["--int8"] * int8
    first = parsed(shlex.join(words))
    again = parsed(command_line(first).removeprefix("python -m demo do"))
    same = {"handler": None, "parser": None}
    assert vars(again) | same == vars(first) | same


def test_options_are_forwarded_with_their_paths():
    options = parsed("--data /d --audio /a --seed 3 --int8 --set x.y=1")
    assert forward(options, "data", "seed", "set", "protocol") == ["--data", "/d", "--seed", "3", "--set", "x.y=1"]


def test_a_handler_is_loaded_when_its_command_runs_with_numbers_in_range(monkeypatch, capsys):
    calls = []
    program = make_program("demo", "", [Command("do", "Work.", "kit_handlers:do", groups.add_timing)])
    monkeypatch.setitem(sys.modules, "kit_handlers", SimpleNamespace(do=lambda options: calls.append(options.threads)))
    assert run_program(program, ["do", "--threads", "3"]) == 0
    assert calls == [3]
    assert run_program(program, ["do", "--rounds", "0"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: argument --rounds: '0' is not a whole number, 10 or more")
    assert message.count("\n") == 1


def test_the_console_script_gives_programs_its_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pocket-har", "demo"])
    assert make_program("demo", "", []).prog == "pocket-har demo"
    assert make_program("pocket_har", "", []).prog == "pocket-har"
