"""Devices without a phone: this machine, a board over ssh (with substitutes for its programs), and their files."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import threading
import time
from importlib.metadata import version

import pytest
from kit.android_fixtures import fake_tool, program

from android_bench.device.connection import (
    CommandTimeout,
    DeviceLost,
    LocalConnection,
    Outcome,
    SshConnection,
    marked,
    run_client,
    unmarked,
)
from android_bench.device.workspace import DeviceFile, workspace
from android_bench.run import connect
from android_bench.tools.benchmark_model import BenchmarkModel
from android_bench.tools.binaries import (
    build_har_run,
    find_binary,
    litert_of_this_machine,
    litert_version,
)
from android_bench.tools.har_run import HarRun
from preprocess.errors import DataError, MissingComponentError, UsageError
from runtime.manifest import file_sha256


@pytest.fixture
def local():
    target = LocalConnection()
    yield target
    target.close()


@pytest.fixture
def board(tmp_path, monkeypatch):
    """`ssh` and `scp` that work on a folder of this machine; they work while the file `up` exists."""
    root = tmp_path / "board"
    (root / "tmp").mkdir(parents=True)
    (root / "up").touch()
    gone = f'[ -e {root}/up ] || {{ echo "ssh: connect to host b port 22: No route to host" >&2; exit 255; }}'
    place = f"sed s,/tmp/pocket-har,{root}/tmp/pocket-har,g"
    program(tmp_path / "bin/ssh", f'{gone}\nfor last; do :; done\nexec sh -c "$(echo "$last" | {place})"')
    copy = f'from=$to; to=$(echo "$word" | sed s,^me@b:,, | {place})'
    program(tmp_path / "bin/scp", f'{gone}\nfor word; do {copy}; done\nexec cp "$from" "$to"')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return root


def test_a_run_on_this_machine(measure, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    code, out, _ = measure("--json", on=["local://"])
    assert (code, json.loads(out)["measurements"][0]["inference"]["samples_ms"]) == (0, [8.0, 8.0])
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_run_on_a_board(measure, board):
    assert measure(on=["ssh://me@b"])[0] == 0
    assert list((board / "tmp").iterdir()) == []
    (board / "up").unlink()
    code, _, err = measure(on=["ssh://me@b"])
    assert code == 3
    assert "ssh://me@b cannot be reached: 'ssh: connect to host b port 22: No route to host'; try" in err


def test_a_board_gives_files_back(board, tmp_path):
    target = SshConnection("me@b")
    (board / "tmp/pocket-har").mkdir()
    (board / "tmp/pocket-har/x").write_text("text")
    target.pull(f"{target.root}/x", tmp_path / "x", timeout_s=20)
    assert (tmp_path / "x").read_text() == "text"
    with pytest.raises(DataError, match="could not be copied from the board"):
        target.pull(f"{target.root}/none", tmp_path / "y", timeout_s=20)
    assert target.run("exit 255", timeout_s=20).exit_code == 255
    (board / "up").unlink()
    with pytest.raises(DeviceLost, match="cannot be reached"):
        target.push(tmp_path / "x", f"{target.root}/x", timeout_s=20)
    assert not target.reconnect()


def test_addresses():
    for text in ("phone", "usb://x", "ssh://", "ssh://-oProxyCommand=x", "local://x", "ssh://me@b:x"):
        with pytest.raises(UsageError, match=f"--target is '{text}'; write"):
            connect(text)


def test_a_command_has_two_streams_and_an_exit_code_and_is_killed_with_its_children_when_it_hangs(local):
    assert local.run("echo out; echo err >&2; exit 7", timeout_s=20) == Outcome("out\n", "err\n", 7)
    start = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"this did not end within 0\.3 s"):
        run_client(["sh", "-c", "sleep 4321 & sleep 4321"], timeout_s=0.3, what="this")
    assert time.monotonic() - start < 10
    assert not subprocess.run(["pgrep", "-f", "sleep 4321"], capture_output=True, check=False).stdout


@pytest.mark.parametrize(
    ("script", "stdout"),
    [("printf a; exit 3", "a"), ("echo a; exit 3", "a\n"), ("exec sh -c 'exit 3'", ""), ("exit 3", "")],
)
def test_the_mark_shows_how_a_script_ended(script, stdout):
    text, mark = marked(script)
    outcome = run_client(["sh", "-c", text], timeout_s=20, what="script")
    assert outcome.exit_code == 0
    assert unmarked(outcome, mark, "x") == Outcome(stdout, "", 3)
    for length in range(len(outcome.stdout)):
        with pytest.raises(DeviceLost, match="x went away while a command ran"):
            unmarked(Outcome(outcome.stdout[:length], "", 0), mark, "x")


def test_a_workspace_goes_away_after_an_error_and_a_running_tool_with_it(local, tmp_path):
    (tmp_path / "a").write_text("1")
    with contextlib.suppress(ZeroDivisionError), workspace(local, [DeviceFile(tmp_path / "a", "sub/a")]) as place:
        assert place.read("sub/a") == "1"
        runner = threading.Thread(target=lambda: place.run_tool(["sleep", "300"], {}, timeout_s=60))
        runner.start()
        while not local.run(f"cat {place.folder}/tool.pid", timeout_s=20).stdout:
            time.sleep(0.05)
        time.sleep(0.2)
        raise ZeroDivisionError
    runner.join(timeout=20)
    assert not runner.is_alive()
    assert local.run(f"ls {local.root}", timeout_s=20).exit_code != 0


def elf(path, machine: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(10))
    return path


def test_the_program_for_the_device_out_of_a_folder(tmp_path):
    tool, phone = BenchmarkModel(), {"architecture": "aarch64", "android": True, "here": False}
    with pytest.raises(MissingComponentError, match="holds none of android_aarch64_benchmark_model, "):
        find_binary(tool, tmp_path, **phone)
    plain = elf(tmp_path / "benchmark_model", 0xB7)
    assert find_binary(tool, tmp_path, **phone) == (plain, ())
    named = elf(tmp_path / "android_aarch64" / "benchmark_model", 0xB7)
    library = elf(tmp_path / "android_aarch64" / "libQnnHtp.so", 0xB7)
    assert find_binary(tool, tmp_path, **phone) == (named, (library,))
    assert find_binary(tool, named, **phone) == (named, ())
    assert find_binary(tool, tmp_path, architecture="aarch64", android=False, here=False)[0] == plain
    with pytest.raises(UsageError, match="x is for x86-64, but the device is aarch64; download it"):
        find_binary(tool, elf(tmp_path / "x", 0x3E), **phone)
    # 32-bit programs run on 64-bit phones, and scripts everywhere.
    for other in (elf(tmp_path / "y", 0x28), fake_tool(tmp_path / "z", "")):
        assert find_binary(tool, other, **phone) == (other, ())


def test_the_projects_own_tool_is_built_and_gets_the_library_of_this_machine(tmp_path, monkeypatch):
    machine = platform.machine()
    monkeypatch.setattr("android_bench.tools.binaries.build_har_run", lambda *_, android: tmp_path / "har_run")
    (tmp_path / "har_run").write_text("#!/bin/sh")
    here = {"architecture": machine, "android": False, "here": True}
    library = litert_of_this_machine(machine, android=False)
    assert find_binary(HarRun(), None, **here) == (tmp_path / "har_run", (library,))
    assert find_binary(HarRun(), None, **{**here, "android": True, "here": False})[1] == ()
    assert find_binary(HarRun(), None, **{**here, "architecture": "riscv64", "here": False})[1] == ()
    (tmp_path / "libLiteRt.so").write_text("the user's")
    assert find_binary(HarRun(), tmp_path, **here)[1] == (tmp_path / "libLiteRt.so",)


def test_har_run_for_android_is_built_with_the_ndk(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("android_bench.tools.binaries._cmake", lambda *words: calls.append(words))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    for name in ("ANDROID_NDK_ROOT", "ANDROID_NDK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANDROID_NDK_HOME", "/ndk")
    first = build_har_run("aarch64", android=True)
    assert first.name == "har_run"
    configure, compile_ = calls
    assert "-DCMAKE_TOOLCHAIN_FILE=/ndk/build/cmake/android.toolchain.cmake" in configure
    assert {"-DANDROID_ABI=arm64-v8a", "-DANDROID_PLATFORM=android-26"} <= set(configure)
    assert compile_[-2:] == ("--target", "har_run")
    # Other sources and another compiler get another folder.
    assert build_har_run("aarch64", android=True) == first
    monkeypatch.setenv("ANDROID_NDK_HOME", "/newer-ndk")
    second = build_har_run("aarch64", android=True)
    (tmp_path / "CMakeLists.txt").touch()
    monkeypatch.setattr("android_bench.tools.binaries.SOURCE", tmp_path)
    assert len({first, second, build_har_run("aarch64", android=True)}) == 3
    monkeypatch.delenv("ANDROID_NDK_HOME")
    with pytest.raises(MissingComponentError, match="aarch64 needs Google's NDK; name its folder in ANDROID_NDK_HOME"):
        build_har_run("aarch64", android=True)
    with pytest.raises(MissingComponentError, match="har_run cannot be built here for riscv64; build it there"):
        build_har_run("riscv64", android=False)


def test_a_missing_program_of_the_build_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    machine = platform.machine()
    with pytest.raises(MissingComponentError, match=r"is built with CMake; run `apt install cmake`"):
        build_har_run(machine, android=False)
    program(tmp_path / "cmake", "echo no generator >&2; exit 1")
    for architecture, package in ((machine, r"g\+\+"), ("aarch64", r"g\+\+-aarch64-linux-gnu")):
        with pytest.raises(MissingComponentError, match=f"run `apt install {package}`"):
            build_har_run(architecture, android=False)
    program(tmp_path / "g++", "exit 1")
    with pytest.raises(DataError, match="har_run could not be built: 'no generator'"):
        build_har_run(machine, android=False)


def test_the_wheels_library_has_a_version_and_another_keeps_its_id():
    library = litert_of_this_machine(platform.machine(), android=False)
    assert litert_version(f"libLiteRt.so {file_sha256(library)[:12]}") == version("ai-edge-litert")
    assert litert_version("libLiteRt.so 0123456789ab") == "libLiteRt.so 0123456789ab"
