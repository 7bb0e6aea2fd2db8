"""Child processes: results, failures, endings."""

from __future__ import annotations

import os
import time

import pytest

from console.child import Server, run_command, run_function
from preprocess.errors import DataError


def test_a_function_runs_in_another_process_and_returns_json():
    assert run_function("os:getpid", what="asking") != os.getpid()
    assert run_function("math:prod", [2, 3, 4], what="multiplying") == 24


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        ("math:sqrt", [-1], "taking a root failed: .*domain|taking a root failed: expected"),
        ("math:no_such", [], "no_such"),
        ("os:_exit", [3], "exit code 3"),
        ("os:abort", [], "SIGABRT"),
        ("time:sleep", [30], "stopped after 0.3 s"),
    ],
)
def test_a_function_that_fails_is_named_with_its_reason(function, arguments, reason):
    with pytest.raises(DataError, match=reason) as error:
        run_function(function, *arguments, what="taking a root", timeout_s=0.3 if "sleep" in function else None)
    assert str(error.value).startswith("taking a root ")


def test_a_package_is_found_whatever_lies_in_the_working_directory(tmp_path, monkeypatch):
    for package in ("runtime", "console"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert run_function("runtime.blocks:block_of", "logits", what="naming") == "fusion/head"


def test_a_command_returns_its_json_and_reports_its_end(tmp_path):
    folder = tmp_path / "recordings"
    document = run_command("recordings", "synthesize", "--out", str(folder), "--count", "1")
    assert document["recordings"] == 1
    with pytest.raises(DataError, match=r"python -m recordings inspect ended with exit code 4"):
        run_command("recordings", "inspect", str(tmp_path / "nothing"))


def test_a_server_answers_until_it_is_closed():
    with Server("operator:methodcaller", "upper", what="the server") as server:
        server.ready()
        assert server.ask("abc") == "ABC"
        assert server.pid != os.getpid()
        with pytest.raises(DataError, match=r"the server failed|the server ended"):
            server.ask(3)
    with pytest.raises((DataError, OSError)):
        server.ask("abc")


@pytest.mark.parametrize(
    ("function", "argument", "reason"), [("builtins:int", "x", "failed"), ("os:_exit", 7, "ended with exit code 7")]
)
def test_a_server_that_cannot_start_is_reported(function, argument, reason):
    with pytest.raises(DataError, match=f"the server {reason}"):
        Server(function, argument, what="the server").ready()


def test_a_server_without_an_answer_is_killed():
    with Server("functools:partial", time.sleep, what="the server") as server:
        server.ready()
        with pytest.raises(DataError, match=r"no answer for 0\.2 s"):
            server.ask(60, timeout_s=0.2)
