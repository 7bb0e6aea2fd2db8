"""Faults of devices: one line and an exit code, nothing stays there, no incomplete file here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from kit.android_fixtures import PLACE, SHORT, connect_to, fake_log, fake_tool, left_on, needs_adb, program
from kit.fakes import describe

from android_bench.__main__ import main
from android_bench.device.workspace import _only_run_on
from android_bench.protocol import Schedule
from benchmarks.measure.records import read_record

pytestmark = needs_adb
ROOT = Path(__file__).resolve().parents[2]
BIG = 1_500_000  # bytes of a model file that needs several packets


@pytest.fixture
def run(measure, connect, tmp_path, monkeypatch):
    """Runs on a new phone; gives exit code, standard error and the phone. A failing run writes no record."""
    monkeypatch.setattr("android_bench.run.QUICK", replace(SHORT, processes=1))
    monkeypatch.setattr("android_bench.device.workspace.RECONNECT_S", 1.0)

    def on_phone(stdout: str, *more: str, phone=None, **script: str):
        phone = phone or connect()
        folder = tmp_path / "out"
        code, _, err = measure("--out", str(folder / "a.json"), *more, on=[phone.address], log=stdout, **script)
        assert folder.exists() == (code <= 1)
        assert no_tool_runs(phone)
        lines = [line for line in err.splitlines() if not line.startswith("adb://")]
        return code, "\n".join(lines), phone

    return on_phone


def no_tool_runs(phone) -> bool:
    """Whether no process of the phone's folder is left, or the phone is away."""
    away = time.monotonic() < phone._back_at
    return away or not subprocess.run(["pgrep", "-f", f"{phone.root}{PLACE}"], capture_output=True, check=False).stdout


def write_model(folder: Path, size: int) -> None:
    (folder / "model.tflite").write_bytes(bytes(size))
    describe(folder / "model.tflite", name="nano-int8")


@pytest.mark.parametrize("absent_s", [0.3, 60.0], ids=["comes back", "stays away"])
@pytest.mark.parametrize("when", ["push", "run"])
def test_unplugged(run, connect, artifact, when, absent_s):
    phone = connect()
    write_model(artifact, BIG)
    phone.absent_s = absent_s
    if when == "push":
        phone.unplug_push_after = BIG // 2
    else:
        phone.unplug_at = "exec taskset"
    code, err, _ = run(fake_log(), phone=phone, before="sleep 0.4")
    assert code == 3
    assert f"adb://{phone.serial} went away" in err
    assert err.splitlines()[-1].endswith("connect it and run again")
    if absent_s > 10:
        assert f"is still on adb://{phone.serial}, which does not answer; the next run removes it" in err
        phone._back_at = 0.0
        connect_to(phone)
        assert left_on(phone)
        phone.unplug_push_after = phone.unplug_at = None
        write_model(artifact, 1)  # another folder
        assert run(fake_log(), phone=phone)[0] == 0
    assert left_on(phone) == []


def test_a_full_device_a_cut_output_and_a_missing_tool(run, connect, artifact, tmp_path, capsys):
    phone = connect()
    write_model(artifact, BIG)
    phone.space_bytes = BIG // 2
    code, err, _ = run(fake_log(), phone=phone)
    assert code == 4
    assert err.startswith("error: model.tflite could not be copied to the device: its storage is full; free some")
    assert left_on(phone) == []
    phone.space_bytes = None
    phone.cut_at = "exec taskset"  # adb exits with 0 all the same
    code, err, _ = run(fake_log(), phone=phone)
    assert code == 3
    assert "went away while a command ran and its output is cut off" in err
    (tmp_path / "benchmark_model").unlink()
    words = ["run", "--target", phone.address, "--artifact", str(artifact), "--tool", "benchmark_model"]
    for more, message in (
        ([], "benchmark_model is not named; download it for your device from https://"),
        (["--tool-path", str(tmp_path / "none")], "none does not exist; download it"),
        (["--tool-path", str(tmp_path)], "holds none of android_x86-64_benchmark_model, android_x86-64/benchmark_mod"),
    ):
        assert main([*words, *more]) == 3
        assert message in capsys.readouterr().err
    assert left_on(phone) == []


CUT = fake_log()[: fake_log().index("Running benchmark")]


NO_OP = "echo 'ERROR: no op' >&2;"
FAILURES = [
    ("", {"before": "#", "after": "exec ./not-there"}, ["benchmark_model ended with exit code 127", "not-there"]),
    (CUT, {"after": f"{NO_OP} kill -SEGV $$"}, ["was killed by signal 11: ", "ERROR: no op"]),
    (CUT, {"after": f"{NO_OP} exit 1"}, ["ended with exit code 1: ", "ERROR: no op"]),
    (fake_log()[:1000], {}, ["benchmark_model gave no result, its output is cut off or of another kind: '… "]),
    (fake_log(mean_us=8e6), {}, ["reported 20 inferences of 8000 ms in a process of ", "clock jumped, run again"]),
]


def test_a_tool_that_fails(run, connect):
    phone = connect()
    for stdout, script, messages in FAILURES:
        code, err, _ = run(stdout, phone=phone, **script)
        assert code == 4
        assert all(message in err for message in messages), err
        assert left_on(phone) == []


def test_a_clock_that_jumps_and_a_warm_device_invalidate_the_measurement(run, connect, tmp_path, monkeypatch):
    monkeypatch.setattr("android_bench.device.watch.COOL_TIMEOUT_S", 0.0)
    phone = connect()
    thermal = phone.root / "thermalservice"
    thermal.write_text(thermal.read_text().replace("Thermal Status: 0", "Thermal Status: 2"))
    # Every call of `date` is a minute later.
    program(phone.root / "bin/date", f"echo . >> {phone.root}/looks; echo $(($(wc -l < {phone.root}/looks) * 60))")
    code, err, _ = run(fake_log(), phone=phone)
    assert code == 0
    assert err.count("does not count") == 2
    warm, clock = read_record(tmp_path / "out/a.json").measurements[0].device_run.reasons_against
    assert warm == "process 1 started warm: Android throttled (thermal status 2)"
    assert clock.startswith("the device's clock went ")
    assert left_on(phone) == []


def test_an_unauthorised_device(connect, artifact, capsys):
    phone = connect(unauthorised=True)
    words = ["run", "--target", phone.address, "--artifact", str(artifact)]
    for command in (words, ["devices"]):
        assert main(command) == 3
        err = capsys.readouterr().err
        # adb tries again and again, and says `authorizing` meanwhile.
        assert re.search(rf"{phone.serial} is (unauthorized|authorizing): unlock the phone, tick `Always allow", err)


def test_a_tool_without_an_end_is_ended(run, monkeypatch):
    monkeypatch.setattr(Schedule, "process_timeout_s", 0.5)
    code, err, phone = run(fake_log(), before="exec sleep 300")
    assert code == 4
    assert err == f"error: the tool did not end within 0.5 s on adb://{phone.serial} and was ended; try another one"
    assert left_on(phone) == []


def test_an_interrupt_leaves_nothing(connect, artifact, tmp_path):
    phone = connect()
    tool = fake_tool(tmp_path / "benchmark_model", fake_log(), before="touch ../../running; exec sleep 300")
    words = ["run", "--target", phone.address, "--artifact", str(artifact), "--tool", "benchmark_model"]
    out = tmp_path / "a.json"
    command = [sys.executable, "-m", "android_bench", *words, "--tool-path", str(tool), "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    running = phone.root / "data/local/tmp/running"
    while not running.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted: nothing half-written was left behind"
    assert left_on(phone) == ["data/local/tmp/running"]
    assert no_tool_runs(phone)
    assert not out.exists()


def test_two_runs_on_one_device_do_not_mix(run, connect):
    phone = connect()
    with _only_run_on(phone.address):
        code, err, _ = run(fake_log(), phone=phone)
    assert code == 2
    assert "is being measured by another run; wait until that ends" in err


def test_without_adb_the_message_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["devices"]) == 3
    assert capsys.readouterr().err.startswith("error: adb is not installed; run `apt install adb`, or get Google's ")


def test_an_official_figure_must_meet_its_schedule(run, tmp_path, monkeypatch):
    monkeypatch.setattr("android_bench.run.OFFICIAL", replace(SHORT, processes=1, fewest_s=60.0, needs_p90=True))
    code, err, _ = run(fake_log(count=10), "--official")
    assert code == 1
    reasons = read_record(tmp_path / "out/a.json").measurements[0].device_run.reasons_against
    parts = ("90th percentile", "10 inferences instead of 20", "0.1 s instead of 60 s")
    assert all(part in reason for part, reason in zip(parts, reasons, strict=True))
    assert err.splitlines()[-1] == f"no: no official figure: {reasons[0]}"
    assert err.count("does not count") == 3
