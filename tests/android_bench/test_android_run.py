"""Complete runs on a device behind the real adb."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from kit.android_fixtures import DATA, PLACE, SHORT, fake_log, fake_tool, left_on, needs_adb
from kit.fakes import describe

from android_bench.__main__ import main
from benchmarks.measure.records import read_record
from runtime.manifest import read_artifact

pytestmark = needs_adb
ONCE = replace(SHORT, processes=1)
# Prints times only if the libraries and their paths are there.
ORT_SCRIPT = """#!/bin/sh
test "$ADSP_LIBRARY_PATH" = "$PWD" && test "$LD_LIBRARY_PATH" = "$PWD" && cat libQnnHtpV75Skel.so > /dev/null || exit 9
while [ "$1" != -r ]; do shift; done; runs=$2
for i in $(seq 0 $((runs - 1))); do echo "m,0.008,271122432,11,$i"; done >> times.csv
sleep 0.1
echo "Total inference requests: $runs"
echo "Average inference time cost: 8.01 ms"
echo "Peak working set size: 271122432 bytes"
"""


def test_devices_shows_facts_and_temperature(connect, capsys):
    phone = connect()
    assert main(["devices", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["devices"]
    model = {"model": "Acme Phone 9", "soc": "SM8650", "hexagon": "v75", "soc_model": 57, "android": "14"}
    cores = {"clusters": ["03: 2265 MHz", "7c: 3187 MHz", "80: 3302 MHz"], "governors": ["walt"]}
    battery = {"battery_percent": 84, "battery_c": 28.7, "charging": True, "thermal_status": 0}
    # The skin's, from the block of the hardware; the cached one says 37 °C.
    temperature = {"sensor": "skin", "celsius": 28.348001, "source": "thermalservice"}
    state = {"serial": phone.serial, "state": "device", "remedy": None, "machine": listed["machine"]}
    assert listed == {**state, **model, **cores, **battery, "temperature": temperature}
    assert listed["machine"]["memory_bytes"] == 11587420 * 1024
    assert listed["machine"]["instructions"] == ["asimddp", "i8mm"]
    assert main(["devices"]) == 0
    assert "Acme Phone 9  SM8650      v75       14" in capsys.readouterr().out


def test_a_run_leaves_a_record_and_nothing_on_the_phone(measure, connect, artifact, tmp_path, capsys):
    phone = connect()
    out, faster = tmp_path / "out" / "a.json", tmp_path / "b.json"
    before = 'echo "$@" > ../../arguments; sleep 0.1'
    code, text, _ = measure("--threads", "4", "--out", str(out), on=[phone.address], before=before)
    assert code == 0
    assert all(part in text for part in ("fused, paper", "55 ms", "Acme Phone 9, cpu", "8.00 ms", "49 of 49"))
    assert left_on(phone) == ["data/local/tmp/arguments"]
    arguments = (phone.root / "data/local/tmp/arguments").read_text()
    assert "--graph=model.tflite --num_threads=4 --warmup_runs=1 --num_runs=20 --min_secs=0.1" in arguments
    assert (phone.root / "masks").read_text().split() == ["f0", "f0"]
    record = read_record(out)
    (measurement,) = record.measurements
    subject, run = measurement.subject, measurement.device_run
    assert subject.sha256 == read_artifact(artifact)[0].sha256
    assert (subject.runtime, subject.accelerator, subject.threads) == ("benchmark_model", "cpu", 4)
    assert measurement.inference.samples_ms == (8.0, 8.0)
    assert measurement.memory.peak_bytes == round(99.2031 * 2**20)
    assert measurement.preprocessing is None
    assert run.valid, run.reasons_against
    assert (run.sample, run.protocol, run.core_mask, run.sensor) == ("process", "quick", "f0", "skin")
    assert (run.delegated_ops, run.total_ops, run.requested_accelerator) == (49, 49, "cpu")
    assert [process.exit_code for process in run.runs] == [0, 0]
    assert all("Inference timings in us" in process.stdout for process in run.runs)
    assert run.runs[0].temperature_before_c == 28.348001
    assert run.readings[0].frequencies_khz == (1804800,) * 8
    assert (record.environment.machine.cpu, record.rounds) == ("Snapdragon 8 Gen 3 (SM8650)", 40)
    assert record.environment.command == (
        "python -m android_bench run --target adb://DEVICE --artifact DIR --tool benchmark_model "
        "--tool-path benchmark_model"
    )
    assert phone.serial not in out.read_text()
    assert measure("--out", str(faster), on=[phone.address], log=fake_log(mean_us=6000))[0] == 0
    assert main(["compare", str(out), str(faster)]) == 0
    assert "0.75× [0.75, 0.75] faster, but noisy" in capsys.readouterr().out  # two processes are too few


def test_only_changed_files_are_copied(measure, connect, monkeypatch):
    monkeypatch.setattr("android_bench.run.QUICK", ONCE)
    phone = connect()

    def pushed(*words: str, **changes) -> list[str]:
        phone.pushed.clear()
        assert measure(*words, on=[phone.address], **changes)[0] == 0
        return sorted(name.rsplit("/", 1)[1].removesuffix(".part") for name in phone.pushed)

    assert pushed("--keep") == ["benchmark_model", "model.tflite"]
    (folder,) = (phone.root / PLACE[1:]).iterdir()
    (folder / "model.tflite").write_text("damaged")
    assert pushed("--keep") == ["model.tflite"]
    # Another program: the next run uses the model of the kept folder and removes files that it does not need.
    (folder / "old").write_text("of an earlier run")
    changed = {"log": fake_log(mean_us=6000)}
    assert pushed("--keep", **changed) == ["benchmark_model"]
    (renamed,) = (phone.root / PLACE[1:]).iterdir()
    assert renamed != folder
    assert not (renamed / "old").exists()
    assert pushed(**changed) == []
    assert left_on(phone) == []


def test_devices_one_after_another_also_if_one_fails(measure, connect, artifact, tmp_path, capsys):
    phones = [connect(), connect()]
    addresses = [phone.address for phone in phones]
    code, text, err = measure(
        "--out", str(tmp_path / "r.json"), "--json", on=[addresses[0], "adb://gone", addresses[1]]
    )
    assert (code, len(json.loads(text)["records"])) == (3, 2)
    assert "1 of 3 devices were not measured, the first: device 'gone' is not connected" in err
    records = sorted(tmp_path.glob("*.json"))
    assert [path.name for path in records] == ["r-1.json", "r-3.json"]
    assert [read_record(path).device.model for path in records] == ["Acme Phone 9"] * 2
    assert [left_on(phone) for phone in phones] == [[], []]
    assert main(["run", "--target", "adb://", "--artifact", str(artifact)]) == 2
    assert "several devices are connected" in capsys.readouterr().err
    code, _, err = measure(on=addresses[:1] * 2)
    assert code == 2
    assert "twice; name every device once" in err


def compiled_artifact(folder, soc: str):
    folder.mkdir()
    (folder / "model.onnx").write_text("0")
    placement = {"npu_ops": 186, "total_ops": 186, "partitions": 1, "fallback": [], "profile": {}, "full": True}
    return describe(folder / "model.onnx", name=folder.name, npu={"soc": soc, "placement": placement})


def test_a_compiled_file_goes_to_its_chip_with_its_libraries(connect, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("android_bench.run.QUICK", ONCE)
    phone = connect()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("libQnnHtp.so", "libQnnSystem.so", "libQnnHtpV75Stub.so", "libQnnHtpV75Skel.so"):
        (tools / name).write_text(name)
    (tools / "onnxruntime_perf_test").write_text(ORT_SCRIPT)
    compiled = compiled_artifact(tmp_path / "compiled", "SM8650")
    options = ["run", "--target", phone.address, "--tool-path", str(tools), "--json"]
    on_npu = [*options, "--accelerator", "npu", "--artifact"]
    assert main([*on_npu, str(compiled)]) == 0
    (measurement,) = json.loads(capsys.readouterr().out)["measurements"]
    run = measurement["device_run"]
    assert (measurement["subject"]["accelerator"], run["delegated_ops"], run["total_ops"]) == ("npu", 186, 186)
    assert "session.disable_cpu_ep_fallback|1" in run["tool_command"]
    assert measurement["inference"]["samples_ms"] == [8.0] * 20
    assert (run["sample"], measurement["memory"]["peak_bytes"]) == ("inference", 271122432)
    assert "times.csv:\nm,0.008" in run["runs"][0]["stdout"]
    assert left_on(phone) == []
    assert main([*on_npu, str(compiled_artifact(tmp_path / "other", "SM8750"))]) == 2
    assert "other is compiled for SM8750, but the device has SM8650" in capsys.readouterr().err
    assert main([*options, "--artifact", str(compiled)]) == 2
    assert "is compiled for SM8650's NPU; use --accelerator npu, not cpu" in capsys.readouterr().err
    (tools / "libQnnHtpV75Skel.so").unlink()
    assert main([*on_npu, str(compiled)]) == 3
    assert "needs libQnnHtpV75Skel.so beside the tool" in capsys.readouterr().err


def test_answers_of_har_run_are_compared_with_the_golden_ones(connect, artifact, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("android_bench.run.QUICK", ONCE)
    manifest, _ = read_artifact(artifact)
    (artifact / "golden").mkdir()
    np.savez(artifact / "golden/S1.npz", logits=np.array([[0.0, 2.0, 1.0]]))
    np.savez(artifact / "golden/S2.npz", logits=np.array([[3.0, 2.0, 1.0]]))
    describe(artifact / "model.tflite", golden=("golden/S1.npz", "golden/S2.npz"))
    logits = [0.1, 1.9, 1.0]
    samples = {"preprocessing": {"samples_ms": [2.0] * 20}, "inference": {"samples_ms": [7.0] * 20}}
    result = {"accelerator": "cpu", "delegated_ops": 3, "total_ops": 4, **samples}
    memory = {"vm_hwm_bytes": 50_000_000, "vm_hwm_start_bytes": 10_000_000}
    events = [
        {"event": "start", "schema": 1, "runtime": "litert", "runtime_version": "2.1", "model_sha256": manifest.sha256},
        *({"event": "prediction", "recording": name, "logits": logits} for name in ("S1", "S2")),
        {"event": "result", **result, **memory},
    ]
    tool = fake_tool(tmp_path / "har_run", "\n".join(map(json.dumps, events)))
    options = ["run", "--target", connect().address, "--artifact", str(artifact), "--tool-path", str(tool)]
    assert main([*options, "--json"]) == 0
    captured = capsys.readouterr()
    (measurement,) = json.loads(captured.out)["measurements"]
    subject = measurement["subject"]
    assert (subject["runtime"], subject["runtime_version"]) == ("har_run/litert", "2.1")
    assert measurement["inference"]["samples_ms"] == [7.0] * 20
    assert measurement["preprocessing"]["samples_ms"] == [2.0] * 20
    assert measurement["memory"]["peak_bytes"] == 40_000_000
    assert measurement["conditions"]["answers"].startswith("1 of 2 classes as on export, logits' SNR 2.2 dB")
    assert measurement["device_run"]["reasons_against"] == ["the device gives another class than the artifact on S2"]
    assert "does not count: the device gives another class" in captured.err


def test_a_sustained_run_shows_its_curve_and_a_profile_comes_from_another_process(
    measure, connect, tmp_path, monkeypatch
):
    schedule = replace(SHORT, name="sustained", duration_s=60.0)
    monkeypatch.setattr("android_bench.run.sustained", lambda text: schedule)
    phone, out = connect(), tmp_path / "a.json"
    log = f"{fake_log()}\n{(DATA / 'benchmark_model_nnapi_profile_mi11.log').read_text()}"
    words = ["--sustained", "30m", "--profile", "--out", str(out)]
    code, text, _ = measure(*words, on=[phone.address], log=log, before='echo "$@" >> ../../arguments; sleep 0.1')
    assert code == 0
    curve = text.split("Acme Phone 9, sustained\n")[1].splitlines()
    assert len(curve) == 4
    assert curve[2].split() == ["0.0", "min", "8.00", "ms", "1.00×", "28.3", "°C", "1.80", "GHz"]
    (measurement,) = read_record(out).measurements
    profile = "TfLiteNnapiDelegate ×3: 149.483 ms; STRIDED_SLICE ×6: 8.347 ms; "
    assert measurement.conditions["profile"].startswith(profile)
    assert "profiling" not in measurement.device_run.tool_command
    arguments = (phone.root / "data/local/tmp/arguments").read_text().splitlines()
    assert ["--enable_op_profiling=true" in line for line in arguments] == [False, False, True]
