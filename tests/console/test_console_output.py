"""Tables, progress and colours."""

from __future__ import annotations

import io
import re
import sys

import pytest

from console import progress as progress_module
from console.program import paint
from console.progress import Progress, format_duration, track
from console.table import format_table


def test_table_columns_are_aligned():
    table = format_table(["class", "n"], [["drink", "7"], ["café", "12"], ["cafe\u0301", "3"], ["", "100"]], title="T")
    assert table == "T\nclass    n\n-----  ---\ndrink    7\ncafé    12\ncafe\u0301     3\n       100"
    assert format_table(["a", "bc"], []) == "a  bc\n-  --"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that `Progress` sees; tests move it."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def test_progress_without_a_terminal_writes_a_line_now_and_then(capsys, clock):
    with Progress("epoch 1", 100) as bar:
        for step in range(100):
            clock[0] = step + 1.0
            bar.advance(note=f"loss {step}")
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[0]) == (6, "epoch 1 15/100 15 s, 1:25 min left  loss 14")
    assert not any("\r" in line or "\033" in line for line in lines)


def test_progress_on_a_terminal_draws_one_line_over_itself(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("work", 4) as bar:
        for step in range(4):
            clock[0] = step + 1.0
            bar.advance()
    drawn = terminal.getvalue()
    assert drawn.count("\n") == 1
    frames = re.split(r"\r\033\[K", drawn)
    assert frames[1] == "[#####...............] work 1/4 1 s, 3 s left"
    assert frames[-1] == "[####################] work 4/4 4 s\n"
    with Progress("nothing", 0):
        pass
    assert "[####################] nothing 0/0 0 s\n" in terminal.getvalue()
    assert list(track(iter("abc"), "letters", 3)) == ["a", "b", "c"]


def test_durations():
    texts = {0: "0 s", 7.4: "7 s", 59.6: "1:00 min", 185: "3:05 min", 3599.7: "1:00 h", 7800: "2:10 h"}
    assert {seconds: format_duration(seconds) for seconds in texts} == texts


@pytest.mark.parametrize(
    ("no_color", "terminal", "text"),
    [(None, True, "\033[31mno\033[0m"), ("", True, "\033[31mno\033[0m"), ("1", True, "no"), (None, False, "no")],
)
def test_colour_only_on_a_terminal_that_wants_it(monkeypatch, no_color, terminal, text):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert paint("no", "red", Terminal() if terminal else io.StringIO()) == text
