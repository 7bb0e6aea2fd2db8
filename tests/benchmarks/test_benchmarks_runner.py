"""Measuring artifacts side by side: the complete model on real recordings is timed, and no failure hangs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from kit.fakes import describe
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
from onnx import TensorProto, helper, numpy_helper

from benchmarks.__main__ import main
from benchmarks.measure.records import read_record
from benchmarks.measure.runner import (
    WARMUP,
    Contender,
    _rank_among_siblings,
    artifact_contenders,
    drawn_recordings,
    golden_recordings,
    memory_of,
    pick_cores,
    time_in_turn,
)
from preprocess.errors import DataError, UsageError
from runtime.artifact import Artifact
from runtime.manifest import read_artifact

SAME_FLOAT = 1e-3  # logits of some tens, sums of a thousand products in another order


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    both = ("skeleton", "audio")
    for name, inputs in {"tiny-tflite": both, "tiny-onnx": both, "tiny-sound": ("audio",)}.items():
        (folder / name).mkdir()
        model = "model.tflite" if name == "tiny-tflite" else "model.onnx"
        (write_tflite if name == "tiny-tflite" else write_onnx)(folder / name / model, inputs)
        write_artifact(folder / name, model, names=inputs)
    return folder


def contender(folder: Path, runtime: str | None = None, **changes) -> Contender:
    artifact = Artifact.open(folder, runtime=runtime)
    return replace(Contender(artifact, inputs=golden_recordings(folder, artifact.manifest)), **changes)


# --- one process


@pytest.mark.parametrize(
    ("name", "runtime"), [("tiny-tflite", "litert"), ("tiny-tflite", "tflite-runtime"), ("tiny-onnx", "onnxruntime")]
)
def test_the_complete_model_is_timed_on_the_recordings(artifacts, name, runtime):
    with contender(artifacts / name, runtime).start() as process:
        for round_ in (0, 1, 2):
            preprocessing_ms, inference_ms, output = process.ask(round_)
            np.testing.assert_allclose(output, expected_logits(raw_recording(round_ % 2)), atol=SAME_FLOAT)
            assert preprocessing_ms > 0
            assert inference_ms > 0


def test_a_single_stream_gets_its_input_and_a_model_without_recordings_random_tensors(artifacts):
    sound = contender(artifacts / "tiny-sound")
    assert sound.subject.stream == "audio"
    with sound.start() as process:
        assert process.ask(0)[2].shape == (CLASSES,)
    with replace(sound, inputs=()).start() as process:
        first, second = process.ask(0), process.ask(1)
    assert first[0] is None
    assert first[2].tolist() == second[2].tolist()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system cannot pin a process")
def test_a_process_is_pinned_to_cores_of_those_allowed(artifacts):
    for threads in (1, 2):
        with contender(artifacts / "tiny-onnx", threads=threads).start() as process:
            assert os.sched_getaffinity(process.pid) == set(pick_cores(threads))
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


def test_a_process_that_dies_or_hangs_is_named_and_ended(artifacts):
    tiny = contender(artifacts / "tiny-onnx")
    named = r"tiny-onnx \(onnxruntime, threads: 1\)"
    with tiny.start() as process:
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(DataError, match=rf"the process of {named} ended by signal SIGKILL"):
            process.ask(1)
    with tiny.start() as process:
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(DataError, match=rf"{named} gave no answer for 0\.5 s"):
            process.ask(0, 0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def onnx_artifact(folder: Path, graph: onnx.GraphProto) -> Contender:
    """An artifact of any graph, fed with random tensors."""
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return Contender(Artifact.open(describe(folder / "model.onnx")))


def values(**shapes: tuple[int, ...]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]


def test_a_damaged_file_a_recording_without_sound_and_an_output_of_nan_are_refused(artifacts, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.tflite").write_bytes(b"no model")
    broken = Contender(Artifact.open(describe(tmp_path / "broken" / "model.tflite")))
    with pytest.raises(DataError, match=r"broken \(litert, threads: 1\) failed: "):
        time_in_turn([broken], rounds=1, seed=0)
    tiny = contender(artifacts / "tiny-onnx")
    silent = replace(tiny.inputs[0], waveform=np.zeros(0, np.float32))
    with pytest.raises(DataError, match=r"tiny-onnx .* failed: S0: the recording has no sound"):
        time_in_turn([replace(tiny, inputs=(silent,))], rounds=1, seed=0)
    graph = helper.make_graph(
        [helper.make_node("Div", ["x", "zero"], ["y"])], "odd", values(x=(1, 2)), values(y=(1, 2))
    )
    graph.initializer.append(helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]))
    with pytest.raises(DataError, match=r"odd .* gives an output that is not finite"):
        time_in_turn([onnx_artifact(tmp_path / "odd", graph)], rounds=1, seed=0)


# --- rounds


def test_every_contender_runs_once_a_round_in_a_new_order(artifacts, monkeypatch):
    calls = []

    class Recorded:
        def __init__(self, name):
            self.name = name

        def ask(self, round_, timeout_s):
            calls.append((round_, self.name))
            return 1.0 + round_, 2.0 + round_, np.zeros(1, np.float32)

    monkeypatch.setattr(Contender, "start", lambda self: contextlib.nullcontext(Recorded(self.artifact.name)))
    tiny = Artifact.open(artifacts / "tiny-onnx")
    contenders = [Contender(replace(tiny, name=name)) for name in "abc"]
    times = time_in_turn(contenders, rounds=12, seed=3)
    orders = [tuple(name for number, name in calls if number == round_) for round_ in range(WARMUP + 12)]
    assert [number for number, _ in calls] == sorted(number for number, _ in calls)
    assert {tuple(sorted(order)) for order in orders} == {("a", "b", "c")}
    assert len(set(orders)) >= 4
    # The samples do not include the warm-up.
    counted = range(WARMUP, WARMUP + 12)
    assert times == [([1.0 + i for i in counted], [2.0 + i for i in counted])] * 3
    first = list(calls)
    calls.clear()
    time_in_turn(contenders, rounds=12, seed=3)
    assert calls == first


def test_artifacts_of_one_rate_share_recordings(artifacts):
    tflite = Artifact.open(artifacts / "tiny-tflite")
    second, other = replace(tflite, runtime="tflite-runtime"), Artifact.open(artifacts / "tiny-onnx", name="x")
    contenders = artifact_contenders([tflite, second, other], [1, 2])
    assert [contender.subject.label for contender in contenders] == [
        f"{name}, threads: {threads})"
        for name in ("tiny-tflite (litert", "tiny-tflite (tflite-runtime", "x (onnxruntime")
        for threads in (1, 2)
    ]
    assert all(contender.inputs is contenders[0].inputs for contender in contenders)
    with pytest.raises(UsageError, match="two artifacts are called 'x'; write NAME=DIR for one of them"):
        artifact_contenders([other, other], [1])


def test_recordings_of_a_folder_are_read_at_the_rate(recordings_folder):
    rate_hz = SPEC.audio.sample_rate_hz
    drawn, again = (drawn_recordings(recordings_folder, rate_hz, limit=3, seed=1) for _ in range(2))
    names = [recording.name for recording in drawn]
    assert len(set(names)) == 3
    assert names == [recording.name for recording in again]
    assert {recording.sample_rate_hz for recording in drawn} == {rate_hz}
    assert {name: array.shape for name, array in drawn[0].tensors(SPEC).items()} == SHAPES


def test_missing_golden_recordings_are_an_error(artifacts, tmp_path):
    manifest, _ = read_artifact(artifacts / "tiny-onnx")
    with pytest.raises(DataError, match="no golden recordings; name a folder of recordings with --data"):
        golden_recordings(tmp_path, replace(manifest, golden=()))


# --- memory


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime", "onnxruntime"])
def test_memory_is_measured_in_every_runtime(artifacts, runtime):
    folder = artifacts / ("tiny-onnx" if runtime == "onnxruntime" else "tiny-tflite")
    memory = memory_of(contender(folder, runtime))
    # The tiny model has 300 weights: the rest is the memory that a runtime needs to load and run any file.
    assert -1e6 < memory.peak_bytes < 30e6
    assert (memory.mapped_peak_bytes is not None) == (runtime == "litert")


def test_memory_includes_the_weights_of_the_model(tmp_path):
    weights = np.random.default_rng(0).random((2048, 4096), np.float32)  # 34 MB
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    constants = [numpy_helper.from_array(weights, "w")]
    graph = helper.make_graph([node], "big", values(x=(1, 2048)), values(y=(1, 4096)), constants)
    assert weights.nbytes < memory_of(onnx_artifact(tmp_path / "big", graph)).peak_bytes < 4 * weights.nbytes


# --- the command


def test_latency_writes_its_record_and_shows_a_table(artifacts, tmp_path, capsys):
    out = tmp_path / "new" / "a.json"
    words = [str(artifacts / "tiny-tflite"), f"other={artifacts / 'tiny-onnx'}"]
    assert main(["latency", *words, "--rounds", "10", "--seed", "4", "--out", str(out)]) == 0
    record = read_record(out)
    assert (record.seed, record.rounds) == (4, 10)
    labels = [measurement.subject.label for measurement in record.measurements]
    assert labels == ["tiny-tflite (litert, threads: 1)", "other (onnxruntime, threads: 1)"]
    for measurement in record.measurements:
        assert len(measurement.inference.samples_ms) == len(measurement.preprocessing.samples_ms) == 10
        assert measurement.subject.stream == "fused"
        assert measurement.subject.runtime_version
        assert measurement.conditions["inputs"] == "2 recordings: S0, S1"
    command = "python -m benchmarks latency tiny-tflite=DIR other=DIR --rounds 10 --seed 4"
    assert record.environment.command == command
    assert str(tmp_path.parent) not in out.read_text(encoding="utf-8")
    _, header, _, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["artifact", "runtime", "threads", "preprocessing"]
    assert first.split()[:3] == ["tiny-tflite", "litert", "1"]
    assert first.endswith("first")
    assert second.endswith(("faster", "slower", "no difference seen"))


def test_one_file_in_two_runtimes_as_json(artifacts, capsys):
    runtimes = ["--runtime", "tflite-runtime", "litert", "--threads", "2"]
    assert main(["latency", str(artifacts / "tiny-tflite"), *runtimes, "--rounds", "10", "--json"]) == 0
    subjects = [entry["subject"] for entry in json.loads(capsys.readouterr().out)["measurements"]]
    assert [(subject["runtime"], subject["threads"]) for subject in subjects] == [("litert", 2), ("tflite-runtime", 2)]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["=X"], 2, "'=X' has no name or no path; write PATH or NAME=PATH"),
        (["no"], 4, "no has no manifest.json"),
        (["tiny-onnx", "--runtime", "litert"], 2, "--runtime is litert, but tiny-onnx is onnx; add onnxruntime"),
    ],
)
def test_wrong_options_are_refused(artifacts, words, code, message, capsys, monkeypatch):
    monkeypatch.chdir(artifacts)
    assert main(["latency", *words]) == code
    assert f"error: {message}" in capsys.readouterr().err
