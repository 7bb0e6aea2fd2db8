"""Measuring model files side by side: what is timed is the whole model on real recordings, and no failure hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit.tiny_artifact import (
    CLASSES,
    SHAPES,
    SPEC,
    expected_logits,
    raw_recording,
    write_artifact,
    write_onnx,
    write_tflite,
)

from benchmarks.__main__ import main
from benchmarks.measure.records import read_record
from benchmarks.measure.runner import (
    Contender,
    _rank_among_siblings,
    artifact_contenders,
    contender_process,
    drawn_recordings,
    golden_recordings,
    memory_of,
    pick_cores,
    time_in_turn,
)
from preprocess.errors import DataError, UsageError
from runtime.manifest import read_artifact

ROOT = Path(__file__).resolve().parents[2]
SAME_FLOAT = 1e-3  # logits of some tens, sums of a thousand products in another order
LINUX = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system cannot pin a process")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    for name in ("tiny-tflite", "tiny-onnx", "tiny-sound"):
        (folder / name).mkdir()
    write_tflite(folder / "tiny-tflite" / "model.tflite")
    write_onnx(folder / "tiny-onnx" / "model.onnx")
    write_onnx(folder / "tiny-sound" / "model.onnx", ("audio",))
    write_artifact(folder / "tiny-tflite", "model.tflite")
    write_artifact(folder / "tiny-onnx", "model.onnx")
    write_artifact(folder / "tiny-sound", "model.onnx", names=("audio",))
    return folder


def contender(folder: Path, runtime: str, **changes) -> Contender:
    manifest, model = read_artifact(folder)
    return replace(
        Contender(folder.name, model, runtime, manifest=manifest, inputs=golden_recordings(folder, manifest)), **changes
    )


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


# --- one process


@pytest.mark.parametrize(
    ("name", "runtime"),
    [("tiny-tflite", "litert"), ("tiny-tflite", "tflite-runtime"), ("tiny-onnx", "onnxruntime")],
)
def test_what_is_timed_is_the_model_on_the_recordings(artifacts, name, runtime):
    with contender_process(contender(artifacts / name, runtime)) as process:
        for index in (0, 1, 2):
            answer = process.answer(index)
            np.testing.assert_allclose(answer.output, expected_logits(raw_recording(index % 2)), atol=SAME_FLOAT)
            assert answer.preprocessing_ms > 0
            assert answer.inference_ms > 0


def test_a_stream_alone_gets_its_own_input(artifacts):
    own = contender(artifacts / "tiny-sound", "onnxruntime")
    assert own.subject().stream == "audio"
    with contender_process(own) as process:
        assert process.answer(0).output.shape == (CLASSES,)


def test_a_model_file_alone_gets_random_tensors(artifacts):
    own = Contender("plain", artifacts / "tiny-onnx" / "model.onnx", "onnxruntime")
    with contender_process(own) as process:
        first, second = process.answer(0), process.answer(1)
    assert first.preprocessing_ms is None
    assert first.output.tolist() == second.output.tolist()
    subject = own.subject()
    assert (subject.recipe, subject.preset, subject.stream) == (None, None, None)
    assert (subject.format, subject.size_bytes) == ("onnx", own.model.stat().st_size)


@LINUX
def test_a_process_uses_so_many_cores_and_rests_while_it_waits(artifacts):
    with contender_process(contender(artifacts / "tiny-onnx", "onnxruntime", threads=2)) as process:
        assert os.sched_getaffinity(process.pid) == set(pick_cores(2))
        process.answer(0)
        before = cpu_seconds(process.pid)
        time.sleep(0.3)
        # ONNX Runtime's own setting would spin for some 30 ms; the clock of /proc ticks every 10.
        assert cpu_seconds(process.pid) - before <= 0.01
    with contender_process(contender(artifacts / "tiny-onnx", "onnxruntime")) as process:
        assert os.sched_getaffinity(process.pid) == set(pick_cores(1))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@LINUX
def test_cores_are_picked_from_those_allowed():
    allowed = os.sched_getaffinity(0)
    assert set(pick_cores(1)) < allowed or len(allowed) == 1
    assert set(pick_cores(10_000)) == allowed


@pytest.mark.parametrize(
    ("text", "ranks"), [("0\n", {0: 0}), ("2-3\n", {2: 0, 3: 1}), ("1,5\n", {1: 0, 5: 1}), (None, {7: 0})]
)
def test_second_threads_of_a_core_come_last(tmp_path, text, ranks):
    for core, rank in ranks.items():
        if text:
            topology = tmp_path / f"cpu{core}" / "topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text(text)
        assert _rank_among_siblings(core, tmp_path) == rank


# --- failures


def test_a_process_that_dies_is_named(artifacts):
    own = contender(artifacts / "tiny-onnx", "onnxruntime")
    message = r"the process of tiny-onnx \(onnxruntime, threads: 1\) ended by signal SIGKILL"
    with contender_process(own) as process:
        process.answer(0)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(DataError, match=message):
            process.answer(1)


def test_a_process_that_hangs_is_given_up_and_ended(artifacts):
    with contender_process(contender(artifacts / "tiny-onnx", "onnxruntime")) as process:
        process._timeout_s = 0.5
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(DataError, match=r"tiny-onnx \(onnxruntime, threads: 1\) gave no answer for 0\.5 s"):
            process.answer(0)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"no model")
    with pytest.raises(DataError, match=r"broken \(litert, threads: 1\) failed: "):
        time_in_turn([Contender("broken", tmp_path / "model.tflite", "litert")], rounds=1, seed=0)


def test_a_recording_that_cannot_be_preprocessed_is_an_error(artifacts):
    own = contender(artifacts / "tiny-onnx", "onnxruntime")
    silent = replace(own.inputs[0], waveform=np.zeros(0, np.float32))
    with (
        contender_process(replace(own, inputs=(silent,))) as process,
        pytest.raises(DataError, match=r"tiny-onnx .* failed: S0: the recording has no sound"),
    ):
        process.answer(0)


def test_times_of_an_output_that_is_not_finite_are_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 2)) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Div", ["x", "zero"], ["y"])], "odd", values[:1], values[1:])
    graph.initializer.append(helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(DataError, match="gives an output that is not finite"):
        time_in_turn([Contender("odd", tmp_path / "model.onnx", "onnxruntime")], rounds=1, seed=0)


# --- rounds


def test_every_contender_runs_once_a_round_in_a_new_order(artifacts, monkeypatch):
    calls = []

    class Recorded:
        def __init__(self, own):
            self.name = own.name

        def answer(self, index):
            from benchmarks.measure.worker import Answer

            calls.append((index, self.name))
            return Answer(1.0 + index, 2.0 + index, np.zeros(1, np.float32))

    import contextlib

    @contextlib.contextmanager
    def process(own, *, timeout_s):
        yield Recorded(own)

    monkeypatch.setattr("benchmarks.measure.runner.contender_process", process)
    contenders = [Contender(name, Path("a.onnx"), "onnxruntime") for name in "abc"]
    times = time_in_turn(contenders, rounds=12, seed=3, warmup=2)
    orders = [tuple(name for index, name in calls if index == round_) for round_ in range(14)]
    assert [index for index, _ in calls] == sorted(index for index, _ in calls)
    assert {tuple(sorted(order)) for order in orders} == {("a", "b", "c")}
    assert len(set(orders)) >= 4
    # The warm-up is not in the samples.
    assert all(own.inference_ms == [4.0 + i for i in range(12)] for own in times)
    assert all(own.preprocessing_ms == [3.0 + i for i in range(12)] for own in times)
    first = list(calls)
    calls.clear()
    time_in_turn(contenders, rounds=12, seed=3, warmup=2)
    assert calls == first


def test_artifacts_of_one_rate_share_recordings(artifacts):
    folders = [(None, artifacts / "tiny-tflite"), ("x", artifacts / "tiny-onnx")]
    found = artifact_contenders(
        folders, [("litert", "tflite-runtime"), ("onnxruntime",)], [1, 2], data=None, recordings=1, seed=0
    )
    assert [(own.name, own.runtime, own.threads) for own in found] == [
        ("tiny-tflite", "litert", 1),
        ("tiny-tflite", "litert", 2),
        ("tiny-tflite", "tflite-runtime", 1),
        ("tiny-tflite", "tflite-runtime", 2),
        ("x", "onnxruntime", 1),
        ("x", "onnxruntime", 2),
    ]
    assert all(own.inputs is found[0].inputs for own in found)
    with pytest.raises(UsageError, match="two artefacts are called 'tiny-onnx'; write NAME=DIR for one of them"):
        artifact_contenders(
            [(None, artifacts / "tiny-onnx")] * 2, [("onnxruntime",)] * 2, [1], data=None, recordings=1, seed=0
        )


def test_recordings_of_a_folder_are_read_at_the_rate(tmp_path):
    from recordings.synthetic.generate import synthesize

    synthesize(tmp_path / "data", count=4, seed=5, workers=1)
    rate_hz = SPEC.audio.sample_rate_hz
    found = drawn_recordings(tmp_path / "data", rate_hz, limit=3, seed=1)
    assert len({raw.name for raw in found}) == 3
    assert {raw.sample_rate_hz for raw in found} == {rate_hz}
    tensors = found[0].tensors(SPEC)
    assert {name: array.shape for name, array in tensors.items()} == SHAPES
    assert [raw.name for raw in drawn_recordings(tmp_path / "data", rate_hz, limit=3, seed=1)] == [
        r.name for r in found
    ]


def test_golden_recordings_that_are_not_there_are_an_error(artifacts, tmp_path):
    manifest, _ = read_artifact(artifacts / "tiny-onnx")
    with pytest.raises(DataError, match="no golden recordings; name a folder of recordings with --data"):
        golden_recordings(tmp_path, replace(manifest, golden=()))
    with pytest.raises(DataError, match=r"S0\.npz is missing or damaged"):
        golden_recordings(tmp_path, manifest)


# --- memory


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime", "onnxruntime"])
def test_memory_is_measured_in_every_runtime(artifacts, runtime):
    folder = artifacts / ("tiny-onnx" if runtime == "onnxruntime" else "tiny-tflite")
    found = memory_of(contender(folder, runtime))
    # The tiny model has 300 weights: all that remains is what a runtime needs to load and run anything.
    assert -1e6 < found.peak_bytes < 30e6
    assert found.arena_bytes is None
    assert (found.mapped_peak_bytes is not None) == (runtime == "litert")


def test_memory_has_the_weights_of_the_model_in_it(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).random((2048, 4096), np.float32)  # 34 MB
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "big",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2048))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4096))],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    peak = memory_of(Contender("big", tmp_path / "model.onnx", "onnxruntime")).peak_bytes
    assert weights.nbytes < peak < 4 * weights.nbytes


# --- the command


def test_latency_writes_what_it_shows(artifacts, tmp_path):
    out = tmp_path / "new" / "a.json"
    words = [str(artifacts / "tiny-tflite"), f"other={artifacts / 'tiny-onnx'}"]
    result = run("latency", *words, "--rounds", "10", "--seed", "4", "--out", str(out), "--json")
    assert result.returncode == 0, result.stderr
    record = read_record(out)
    assert json.loads(result.stdout) == record.to_dict()
    assert (record.seed, record.rounds) == (4, 10)
    assert [own.subject.label for own in record.measurements] == [
        "tiny-tflite (litert, threads: 1)",
        "other (onnxruntime, threads: 1)",
    ]
    for own in record.measurements:
        assert len(own.inference.samples_ms) == len(own.preprocessing.samples_ms) == 10
        assert own.subject.stream == "fused"
        assert own.subject.runtime_version
        assert own.conditions["inputs"] == "2 recordings: S0, S1"
    command = "python -m benchmarks latency tiny-tflite=DIR other=DIR --rounds 10 --seed 4"
    assert record.environment.command == command
    text = out.read_text(encoding="utf-8")
    assert str(artifacts) not in text
    assert str(tmp_path) not in text


def test_latency_shows_a_table(artifacts):
    result = run("latency", str(artifacts / "tiny-tflite"), "--runtime", "litert", "tflite-runtime", "--rounds", "10")
    assert result.returncode == 0, result.stderr
    _, header, _, first, second = result.stdout.splitlines()
    assert header.split()[:4] == ["artefact", "runtime", "threads", "preprocessing"]
    assert first.split()[:3] == ["tiny-tflite", "litert", "1"]
    assert first.endswith("first")
    assert second.split()[:3] == ["tiny-tflite", "tflite-runtime", "1"]
    assert second.endswith(("faster", "slower", "no difference seen"))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["X", "--rounds", "9"], 2, "argument --rounds"),
        (["X", "--threads", "1", "0"], 2, "argument --threads"),
        (["=X"], 2, "error: '=X' has no name or no path; write PATH or NAME=PATH"),
        (
            ["no"],
            4,
            "error: no holds no manifest.json",
        ),
    ],
)
def test_wrong_options_are_refused(words, code, message, capsys):
    assert main(["latency", *words]) == code
    assert message in capsys.readouterr().err


def test_a_runtime_that_cannot_read_the_file_is_refused(artifacts):
    result = run("latency", str(artifacts / "tiny-onnx"), "--runtime", "litert")
    assert result.returncode == 2
    assert result.stderr.startswith("error: --runtime is litert, but ")
    assert result.stderr.strip().endswith("is onnx; add onnxruntime")
