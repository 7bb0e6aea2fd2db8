"""What goes wrong on devices: one line and an exit code, nothing stays there, nothing is half written here."""

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
from kit.android_fixtures import (  # noqa: F401
    PLACE,
    SHORT,
    adb_server,
    artifact,
    connect,
    connect_to,
    fake_log,
    fake_tool,
    left_on,
    needs_adb,
    program,
)

from android_bench.__main__ import main
from android_bench.protocol import Protocol
from benchmarks.measure.records import read_record

pytestmark = needs_adb
ROOT = Path(__file__).resolve().parents[2]
BIG = 1_500_000  # bytes of a model file that takes several packets


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr("android_bench.run.QUICK", SHORT)
    monkeypatch.setattr("android_bench.device.workspace.RECONNECT_S", 3.0)


@pytest.fixture
def run(connect, artifact, tmp_path, capsys):  # noqa: F811
    """Runs on a new phone; gives exit code, standard error and the phone. Checks that nothing was written here."""

    def on_phone(stdout: str, *more: str, before: str = "sleep 0.25", after: str = "", phone=None, out: bool = False):
        phone = phone or connect()
        tool = fake_tool(tmp_path / "benchmark_model", stdout, before=before, after=after)
        folder = tmp_path / "out"
        words = ["run", "--target", f"adb://{phone.serial}", "--artifact", str(artifact), "--tool", "benchmark_model"]
        code = main([*words, "--tool-path", str(tool), "--out", str(folder / "a.json"), *more])
        if not out:
            assert not folder.exists()
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("adb://")]
        return code, "\n".join(lines), phone

    return on_phone


def no_tool_runs(phone) -> bool:
    """Whether no process of the phone's folder is left."""
    return not subprocess.run(["pgrep", "-f", f"{phone.root}{PLACE}"], capture_output=True, check=False).stdout


@pytest.mark.parametrize("absent_s", [0.5, 60.0], ids=["comes back", "stays away"])
@pytest.mark.parametrize("when", ["push", "run"])
def test_unplugged(run, connect, artifact, when, absent_s):  # noqa: F811
    phone = connect()
    (artifact / "model.tflite").write_bytes(bytes(BIG))
    rewrite_manifest(artifact)
    phone.absent_s = absent_s
    if when == "push":
        phone.unplug_push_after = BIG // 2
    else:
        phone.unplug_at = "exec taskset"
    code, err, _ = run(fake_log(), phone=phone, before="sleep 1")
    assert code == 3
    assert f"adb://{phone.serial} went away" in err
    assert err.splitlines()[-1].endswith("connect it and run again")
    if absent_s > 10:
        assert f"is still on adb://{phone.serial}, which does not answer; the next run removes it" in err
        phone._back_at = 0.0
        connect_to(phone)
        assert left_on(phone)
        phone.unplug_push_after = phone.unplug_at = None
        (artifact / "model.tflite").write_bytes(b"0")  # another folder
        rewrite_manifest(artifact)
        assert run(fake_log(), phone=phone, out=True)[0] == 0
    assert left_on(phone) == []
    assert no_tool_runs(phone)


def rewrite_manifest(folder: Path) -> None:
    from kit.fakes import describe

    describe(folder / "model.tflite", name="nano-int8")


def test_a_full_device(run, connect, artifact):  # noqa: F811
    phone = connect()
    (artifact / "model.tflite").write_bytes(bytes(BIG))
    rewrite_manifest(artifact)
    phone.space_bytes = BIG // 2
    code, err, _ = run(fake_log(), phone=phone)
    assert code == 4
    assert err.startswith("error: model.tflite could not be copied to the device: its storage is full; free some")
    assert left_on(phone) == []


def test_a_tool_that_is_not_there(connect, artifact, tmp_path, capsys):  # noqa: F811
    phone = connect()
    words = ["run", "--target", f"adb://{phone.serial}", "--artifact", str(artifact), "--tool", "benchmark_model"]
    assert main(words) == 3
    assert "benchmark_model is not named; download it for your device from https://" in capsys.readouterr().err
    assert main([*words, "--tool-path", str(tmp_path / "none")]) == 3
    assert "none does not exist; download it" in capsys.readouterr().err
    assert main([*words, "--tool-path", str(tmp_path)]) == 3
    err = capsys.readouterr().err
    assert "holds none of android_x86-64_benchmark_model, android_x86-64/benchmark_model, benchmark_model" in err
    assert left_on(phone) == []


def test_a_tool_that_the_device_cannot_run(run, artifact, tmp_path):  # noqa: F811
    code, err, phone = run("", before="#", after="exec ./not-there")
    assert code == 4
    assert "benchmark_model ended with exit code 127" in err
    assert "not-there" in err
    assert left_on(phone) == []


@pytest.mark.parametrize(
    ("how", "said"), [("kill -SEGV $$", "was killed by signal 11"), ("exit 1", "ended with exit code 1")]
)
def test_a_tool_that_crashes(run, how, said):
    log = fake_log()
    code, err, phone = run(log[: log.index("Running benchmark")], after=f"echo 'ERROR: no such op' >&2; {how}")
    assert code == 4
    assert f"error: benchmark_model {said}: " in err
    assert "ERROR: no such op" in err
    assert left_on(phone) == []


def test_output_that_is_cut_by_the_tool(run):
    code, err, phone = run(fake_log()[:1000])
    assert code == 4
    assert err.startswith("error: benchmark_model gave no result, its output is cut off or of another kind: '… ")
    assert left_on(phone) == []


def test_output_that_is_cut_by_the_connection_although_adb_exits_with_0(run, connect):  # noqa: F811
    phone = connect()
    phone.cut_at = "exec taskset"
    code, err, _ = run(fake_log(), phone=phone)
    assert code == 3
    assert "went away while a command ran and its output is cut off" in err
    assert left_on(phone) == []


def test_a_clock_that_jumps_makes_the_measurement_count_for_nothing(run, connect, tmp_path):  # noqa: F811
    phone = connect()
    # Every look at the clock finds it a minute further.
    program(phone.root / "bin/date", f"echo . >> {phone.root}/looks; echo $(($(wc -l < {phone.root}/looks) * 60))")
    code, err, _ = run(fake_log(), phone=phone, out=True)
    assert code == 0
    assert "does not count: the device's clock went" in err
    run_ = read_record(tmp_path / "out/a.json").measurements[0].device_run
    assert len([own for own in run_.reasons_against if "clock" in own]) == 2
    assert left_on(phone) == []


def test_times_that_cannot_be_are_an_error(run):
    code, err, phone = run(fake_log(mean_us=8e6))
    assert code == 4
    assert "told 20 inferences of 8000 ms in a process of 0." in err
    assert err.endswith("the device's clock jumped, run again")
    assert left_on(phone) == []


def test_an_unauthorised_device(connect, artifact, capsys):  # noqa: F811
    phone = connect(unauthorised=True)
    words = ["run", "--target", f"adb://{phone.serial}", "--artifact", str(artifact)]
    for command in (words, ["devices"]):
        assert main(command) == 3
        err = capsys.readouterr().err
        # adb tries again and again, and says `authorizing` meanwhile.
        assert re.search(rf"{phone.serial} is (unauthorized|authorizing): unlock the phone, tick `Always allow", err)


def test_a_hanging_tool_is_ended(run, monkeypatch):
    monkeypatch.setattr(Protocol, "process_timeout_s", 1.0)
    code, err, phone = run(fake_log(), before="exec sleep 300")
    assert code == 4
    assert err == f"error: the tool did not end within 1 s on adb://{phone.serial} and was ended; try another one"
    assert left_on(phone) == []
    assert no_tool_runs(phone)


def test_a_device_that_is_warm_and_does_not_cool(run, connect, monkeypatch):  # noqa: F811
    monkeypatch.setattr("android_bench.device.watching.COOL_TIMEOUT_S", 0.0)
    phone = connect()
    thermal = phone.root / "thermalservice"
    thermal.write_text(thermal.read_text().replace("Thermal Status: 0", "Thermal Status: 2"))
    code, err, _ = run(fake_log(), phone=phone, out=True)
    assert code == 0
    assert "does not count: process 1 started warm: Android throttled (thermal status 2)" in err


def test_an_interrupt_leaves_nothing(connect, artifact, tmp_path):  # noqa: F811
    phone = connect()
    tool = fake_tool(tmp_path / "benchmark_model", fake_log(), before="touch ../../running; exec sleep 300")
    words = ["run", "--target", f"adb://{phone.serial}", "--artifact", str(artifact), "--tool", "benchmark_model"]
    command = [
        sys.executable,
        "-m",
        "android_bench",
        *words,
        "--tool-path",
        str(tool),
        "--out",
        str(tmp_path / "a.json"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    running = phone.root / "data/local/tmp/running"
    for _ in range(600):
        if running.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted: nothing half-written was left behind"
    assert left_on(phone) == ["data/local/tmp/running"]
    assert no_tool_runs(phone)
    assert not (tmp_path / "a.json").exists()


def test_two_runs_on_one_device_do_not_mix(connect, artifact, tmp_path, capsys):  # noqa: F811
    from android_bench.device.workspace import _only_run_on

    phone = connect()
    tool = fake_tool(tmp_path / "benchmark_model", fake_log())
    words = ["run", "--target", f"adb://{phone.serial}", "--artifact", str(artifact), "--tool", "benchmark_model"]
    with _only_run_on(f"adb://{phone.serial}"):
        assert main([*words, "--tool-path", str(tool)]) == 2
    assert "is being measured by another run; wait until that ends" in capsys.readouterr().err


def test_without_adb_the_message_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["devices"]) == 3
    assert capsys.readouterr().err.startswith("error: adb is not installed; run `apt install adb`, or get Google's ")


def test_what_a_protocol_asks_is_checked(run, tmp_path, monkeypatch):
    monkeypatch.setattr("android_bench.run.OFFICIAL", replace(SHORT, processes=1, fewest_s=60.0, needs_p90=True))
    code, err, _ = run(fake_log(count=10), "--official", out=True)
    assert code == 1
    assert err.splitlines()[-1] == (
        "no: no official figure: benchmark_model does not tell the 90th percentile, which an official figure is"
    )
    reasons = read_record(tmp_path / "out/a.json").measurements[0].device_run.reasons_against
    assert reasons == (
        "benchmark_model does not tell the 90th percentile, which an official figure is",
        "process 1 has 10 inferences instead of 20",
        "process 1 measured 0.1 s instead of 60 s",
    )
    assert err.count("does not count") == 3
