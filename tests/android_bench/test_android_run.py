"""Whole runs on a device behind the real adb."""

from __future__ import annotations

import json

import pytest
from kit.adb_device import AdbDevice
from kit.android_fixtures import (  # noqa: F401
    DATA,
    PLACE,
    SHORT,
    adb_server,
    artifact,
    connect,
    fake_log,
    fake_tool,
    left_on,
    needs_adb,
)

from android_bench.__main__ import main
from benchmarks.measure.records import read_record
from runtime.manifest import read_artifact

pytestmark = needs_adb


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr("android_bench.run.QUICK", SHORT)


def words(phone: AdbDevice, artifact, tool, *more: str) -> list[str]:  # noqa: F811
    target = ["run", "--target", f"adb://{phone.serial}", "--artifact", str(artifact)]
    return [*target, "--tool", "benchmark_model", "--tool-path", str(tool), *more]


def test_devices_shows_what_the_phone_is(connect, capsys):  # noqa: F811
    phone = connect()
    assert main(["devices", "--json"]) == 0
    (own,) = json.loads(capsys.readouterr().out)["devices"]
    assert own["serial"] == phone.serial
    assert (own["model"], own["soc"], own["hexagon"], own["soc_model"]) == ("Acme Phone 9", "SM8650", "v75", 57)
    assert own["clusters"] == ["03: 2265 MHz", "7c: 3187 MHz", "80: 3302 MHz"]
    assert (own["governors"], own["android"], own["thermal_status"]) == (["walt"], "14", 0)
    assert (own["battery_percent"], own["battery_c"], own["charging"]) == (84, 28.7, True)
    assert own["machine"]["memory_bytes"] == 11587420 * 1024
    assert own["machine"]["instructions"] == ["asimddp", "i8mm"]
    # The skin's, from the block of the hardware; the cached one says 37 °C.
    assert own["temperature"] == {"sensor": "skin", "celsius": 28.348001, "source": "thermalservice"}
    assert main(["devices"]) == 0
    assert "Acme Phone 9  SM8650      v75       14" in capsys.readouterr().out


def test_a_run_leaves_a_record_and_nothing_on_the_phone(connect, artifact, tmp_path, capsys):  # noqa: F811
    phone = connect()
    tool = fake_tool(tmp_path / "benchmark_model", fake_log(), before='echo "$@" > ../../arguments; sleep 0.25')
    out = tmp_path / "out" / "a.json"
    assert main(words(phone, artifact, tool, "--threads", "4", "--out", str(out))) == 0
    text = capsys.readouterr().out
    assert "fused, paper" in text
    assert "55 ms q" in text
    assert "Acme Phone 9, cpu" in text
    assert "8.00 ms m" in text
    assert "49 of 49" in text
    assert left_on(phone) == ["data/local/tmp/arguments"]
    arguments = (phone.root / "data/local/tmp/arguments").read_text()
    assert "--graph=model.tflite --num_threads=4 --warmup_runs=1 --num_runs=20 --min_secs=0.1" in arguments
    assert (phone.root / "masks").read_text().split() == ["f0", "f0"]
    record = read_record(out)
    (own,) = record.measurements
    assert own.subject.sha256 == read_artifact(artifact)[0].sha256
    assert (own.subject.runtime, own.subject.accelerator, own.subject.threads) == ("benchmark_model", "cpu", 4)
    assert own.inference.samples_ms == (8.0, 8.0)
    assert own.memory.peak_bytes == round(99.2031 * 2**20)
    assert own.preprocessing is None
    run = own.device_run
    assert run.valid, run.reasons_against
    assert (run.sample, run.protocol, run.core_mask, run.sensor) == ("process", "quick", "f0", "skin")
    assert (run.delegated_ops, run.total_ops, run.requested_accelerator) == (49, 49, "cpu")
    assert [own.exit_code for own in run.runs] == [0, 0]
    assert all("Inference timings in us" in own.stdout for own in run.runs)
    assert run.runs[0].temperature_before_c == 28.348001
    assert run.readings
    assert run.readings[0].frequencies_khz == (1804800,) * 8
    assert (record.environment.machine.cpu, record.rounds) == ("Snapdragon 8 Gen 3 (SM8650)", 40)
    assert phone.serial not in out.read_text()
    assert str(tmp_path) not in record.environment.command


def test_two_records_are_compared(connect, artifact, tmp_path, capsys):  # noqa: F811
    phone = connect()
    for name, mean_us in {"a": 8000, "b": 6000}.items():
        tool = fake_tool(tmp_path / "benchmark_model", fake_log(mean_us=mean_us))
        assert main(words(phone, artifact, tool, "--out", str(tmp_path / f"{name}.json"))) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert "0.75× [0.75, 0.75] faster, but noisy" in capsys.readouterr().out  # two processes each tell little


def test_only_what_changed_is_copied(connect, artifact, tmp_path):  # noqa: F811
    phone = connect()
    tool = fake_tool(tmp_path / "benchmark_model", fake_log())
    assert main(words(phone, artifact, tool, "--keep")) == 0
    assert sorted(name.rsplit("/", 1)[1] for name in phone.pushed) == ["benchmark_model.part", "model.tflite.part"]
    phone.pushed.clear()
    (folder,) = (phone.root / PLACE[1:]).iterdir()
    (folder / "model.tflite").write_text("damaged")
    assert main(words(phone, artifact, tool, "--keep")) == 0
    assert [name.rsplit("/", 1)[1] for name in phone.pushed] == ["model.tflite.part"]
    # Another program: the model of the kept folder is taken over, and what is not needed goes.
    phone.pushed.clear()
    (folder / "old").write_text("of a run before")
    (tmp_path / "newer").mkdir()
    changed = fake_tool(tmp_path / "newer" / "benchmark_model", fake_log(mean_us=6000))
    assert main(words(phone, artifact, changed, "--keep")) == 0
    assert [name.rsplit("/", 1)[1] for name in phone.pushed] == ["benchmark_model.part"]
    (taken,) = (phone.root / PLACE[1:]).iterdir()
    assert taken != folder
    assert not (taken / "old").exists()
    assert main(words(phone, artifact, changed)) == 0
    assert left_on(phone) == []


def test_two_devices_one_after_another(connect, artifact, tmp_path, capsys):  # noqa: F811
    phones = [connect(), connect()]
    tool = fake_tool(tmp_path / "benchmark_model", fake_log())
    targets = [f"adb://{phone.serial}" for phone in phones]
    options = ["--artifact", str(artifact), "--tool", "benchmark_model", "--tool-path", str(tool)]
    assert main(["run", "--target", *targets, *options, "--out", str(tmp_path / "r.json"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["records"]) == 2
    assert [read_record(tmp_path / f"r-{i}.json").device.model for i in (1, 2)] == ["Acme Phone 9"] * 2
    assert [left_on(phone) for phone in phones] == [[], []]
    # Without a serial it is not clear which.
    assert main(["run", "--target", "adb://", *options]) == 2
    assert "several devices are connected" in capsys.readouterr().err
    assert main(["run", "--target", targets[0], targets[0], *options]) == 2
    assert "twice; name every device once" in capsys.readouterr().err


def test_a_device_that_fails_does_not_keep_the_other_from_being_measured(connect, artifact, tmp_path, capsys):  # noqa: F811
    phone = connect()
    tool = fake_tool(tmp_path / "benchmark_model", fake_log())
    options = ["--artifact", str(artifact), "--tool", "benchmark_model", "--tool-path", str(tool)]
    code = main(["run", "--target", "adb://gone", f"adb://{phone.serial}", *options, "--out", str(tmp_path / "r.json")])
    captured = capsys.readouterr()
    assert code == 3
    assert "Acme Phone 9" in captured.out
    assert "1 of 2 devices were not measured, the first: device 'gone' is not connected" in captured.err
    assert [path.name for path in tmp_path.glob("*.json")] == ["r-2.json"]


def test_onnxruntime_perf_test_and_its_file(connect, tmp_path, capsys):  # noqa: F811
    from kit.fakes import describe

    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "model.onnx").write_text("0")
    artifact = describe(folder / "model.onnx", name="onnx")  # noqa: F811
    phone = connect()
    script = """
while [ "$1" != -r ]; do shift; done; runs=$2
for i in $(seq 0 $((runs - 1))); do echo "m,0.008,271122432,11,$i"; done >> times.csv
sleep 0.3
echo "Total inference requests: $runs"
echo "Average inference time cost: 8.01 ms"
echo "Peak working set size: 271122432 bytes"
"""
    tool = tmp_path / "onnxruntime_perf_test"
    tool.write_text(f"#!/bin/sh\n{script}")
    options = ["run", "--target", f"adb://{phone.serial}", "--artifact", str(artifact), "--tool-path", str(tool)]
    assert main([*options, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    own = document["measurements"][0]
    assert own["inference"]["samples_ms"] == [8.0] * 40
    assert own["memory"]["peak_bytes"] == 271122432
    assert own["device_run"]["sample"] == "inference"
    assert "times.csv:\nm,0.008" in own["device_run"]["runs"][0]["stdout"]
    assert left_on(phone) == []


def compiled_artifact(folder, soc: str):
    from kit.fakes import describe

    folder.mkdir()
    (folder / "model.onnx").write_text("0")
    placement = {"npu_ops": 186, "total_ops": 186, "partitions": 1, "fallback": [], "profile": {}, "full": True}
    return describe(folder / "model.onnx", name=folder.name, npu={"soc": soc, "placement": placement})


def test_a_compiled_file_goes_to_its_chip_with_its_libraries(connect, tmp_path, capsys):  # noqa: F811
    phone = connect()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("libQnnHtp.so", "libQnnSystem.so", "libQnnHtpV75Stub.so", "libQnnHtpV75Skel.so"):
        (tools / name).write_text(name)
    # The script stands for the tool: it tells of times only where everything that it was promised is there.
    (tools / "onnxruntime_perf_test").write_text("""#!/bin/sh
test "$ADSP_LIBRARY_PATH" = "$PWD" && test "$LD_LIBRARY_PATH" = "$PWD" && cat libQnnHtpV75Skel.so > /dev/null || exit 9
while [ "$1" != -r ]; do shift; done; runs=$2
for i in $(seq 0 $((runs - 1))); do echo "m,0.008,271122432,11,$i"; done >> times.csv
sleep 0.3
echo "Total inference requests: $runs"
echo "Average inference time cost: 8.01 ms"
""")
    own = compiled_artifact(tmp_path / "own", "SM8650")
    options = ["run", "--target", f"adb://{phone.serial}", "--tool-path", str(tools), "--accelerator", "npu", "--json"]
    assert main([*options, "--artifact", str(own)]) == 0
    found = json.loads(capsys.readouterr().out)["measurements"][0]
    assert found["subject"]["accelerator"] == "npu"
    assert (found["device_run"]["delegated_ops"], found["device_run"]["total_ops"]) == (186, 186)
    assert "session.disable_cpu_ep_fallback|1" in found["device_run"]["tool_command"]
    assert left_on(phone) == []
    other = compiled_artifact(tmp_path / "other", "SM8750")
    assert main([*options, "--artifact", str(other)]) == 2
    assert "other is compiled for SM8750, but the device has SM8650; use the artefact of" in capsys.readouterr().err
    (tools / "libQnnHtpV75Skel.so").unlink()
    assert main([*options, "--artifact", str(own)]) == 3
    assert "needs libQnnHtpV75Skel.so beside the tool" in capsys.readouterr().err


def test_a_compiled_file_runs_on_the_npu_alone(connect, tmp_path, capsys):  # noqa: F811
    own = compiled_artifact(tmp_path / "own", "SM8650")
    assert main(["run", "--target", f"adb://{connect().serial}", "--artifact", str(own)]) == 2
    assert "is compiled for SM8650's NPU; use --accelerator npu, not cpu" in capsys.readouterr().err


def test_har_run_answers_are_compared_with_the_golden_ones(connect, artifact, tmp_path, capsys):  # noqa: F811
    import numpy as np

    manifest, _ = read_artifact(artifact)
    (artifact / "golden").mkdir()
    np.savez(artifact / "golden/S1.npz", logits=np.array([[0.0, 2.0, 1.0]]))
    np.savez(artifact / "golden/S2.npz", logits=np.array([[3.0, 2.0, 1.0]]))
    text = (artifact / "manifest.json").read_text()
    text = text.replace('"golden": []', '"golden": ["golden/S1.npz", "golden/S2.npz"]')
    (artifact / "manifest.json").write_text(text)
    events = [
        {"event": "start", "schema": 1, "runtime": "litert", "runtime_version": "2.1", "model_sha256": manifest.sha256},
        {"event": "prediction", "recording": "S1", "logits": [0.1, 1.9, 1.0]},
        {"event": "prediction", "recording": "S2", "logits": [0.1, 1.9, 1.0]},
        {
            "event": "result",
            "accelerator": "cpu",
            "delegated_ops": 3,
            "total_ops": 4,
            "preprocessing": {"samples_ms": [2.0] * 20},
            "inference": {"samples_ms": [7.0] * 20},
            "vm_hwm_bytes": 50_000_000,
            "vm_hwm_start_bytes": 10_000_000,
        },
    ]
    tool = fake_tool(tmp_path / "har_run", "\n".join(map(json.dumps, events)))
    phone = connect()
    options = ["run", "--target", f"adb://{phone.serial}", "--artifact", str(artifact), "--tool-path", str(tool)]
    assert main([*options, "--json"]) == 0
    captured = capsys.readouterr()
    (own,) = json.loads(captured.out)["measurements"]
    assert own["subject"]["runtime"] == "har_run/litert"
    assert own["subject"]["runtime_version"] == "2.1"
    assert own["inference"]["samples_ms"] == [7.0] * 40
    assert own["preprocessing"]["samples_ms"] == [2.0] * 40
    assert own["memory"]["peak_bytes"] == 40_000_000
    assert own["conditions"]["answers"].startswith("1 of 2 classes as on export")
    assert own["device_run"]["reasons_against"] == ["the device gives another class than the artefact on S2"]
    assert "does not count: the device gives another class" in captured.err


def test_a_profile_comes_from_a_process_of_its_own(connect, artifact, tmp_path, capsys):  # noqa: F811
    phone = connect()
    profile = (DATA / "benchmark_model_nnapi_profile_mi11.log").read_text()
    tool = fake_tool(
        tmp_path / "benchmark_model", f"{fake_log()}\n{profile}", before='echo "$@" >> ../../arguments; sleep 0.25'
    )
    assert main(words(phone, artifact, tool, "--profile", "--json")) == 0
    (own,) = json.loads(capsys.readouterr().out)["measurements"]
    assert own["conditions"]["profile"].startswith("TfLiteNnapiDelegate ×3: 149.483 ms; STRIDED_SLICE ×6: 8.347 ms; ")
    asked = (phone.root / "data/local/tmp/arguments").read_text().splitlines()
    assert ["--enable_op_profiling=true" in line for line in asked] == [False, False, True]


def test_a_sustained_run_shows_its_curve(connect, artifact, tmp_path, capsys, monkeypatch):  # noqa: F811
    from dataclasses import replace

    protocol = replace(SHORT, name="sustained", processes=3, duration_s=60.0)
    monkeypatch.setattr("android_bench.run.sustained", lambda text: protocol)
    phone = connect()
    tool = fake_tool(tmp_path / "benchmark_model", fake_log())
    assert main(words(phone, artifact, tool, "--sustained", "30m")) == 0
    curve = capsys.readouterr().out.split("Acme Phone 9, sustained\n")[1].splitlines()
    assert len(curve) == 5
    assert curve[2].split() == ["0.0", "min", "8.00", "ms", "1.00×", "28.3", "°C", "1.80", "GHz"]
