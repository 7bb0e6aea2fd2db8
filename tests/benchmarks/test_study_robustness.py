"""Artifacts on corrupted recordings: each gets the corrupted recording, preprocessed; counts, tables, pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.fakes import FakeRunner, describe, fake_artifact
from kit.tiny import tiny_spec
from kit.tiny_artifact import write_onnx

from benchmarks.__main__ import build_parser, main
from benchmarks.studies.conditions import ALL_CONDITIONS, CLEAN, KINDS, Condition, ask_under_conditions
from benchmarks.studies.robustness import condition_entries, per_class
from preprocess.errors import AnswerIsNo, DataError
from preprocess.heatmaps import skeleton_to_heatmaps
from preprocess.logmel import waveform_to_logmel
from recordings.actions import action_code
from recordings.batches import recording_rng
from recordings.catalogue import scan
from recordings.corruptions import add_noise, drop_joints, reverberate, shift_audio, without
from recordings.reading import read_recording
from runtime.answers import Answers
from runtime.artifact import open_artifacts
from runtime.manifest import Label
from runtime.metrics import wilson_interval
from runtime.runners import open_model

SEED = 4


@pytest.fixture
def fake_runner(monkeypatch):
    monkeypatch.setattr("runtime.artifact.open_model", FakeRunner)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two artifacts of different answers."""
    folder = tmp_path_factory.mktemp("fakes")
    return [str(fake_artifact(folder / name, seed=seed)) for seed, name in enumerate(("float", "int8"))]


@pytest.fixture(scope="module")
def few(recordings_folder, tmp_path_factory):
    """Three recordings."""
    folder = tmp_path_factory.mktemp("few") / "recordings"
    folder.mkdir()
    for ref in scan(recordings_folder).refs[::26]:
        for path in (ref.skeleton_path, ref.audio_path):
            shutil.copy(path, folder)
    return folder


def asked(artifacts, data, conditions=ALL_CONDITIONS, *more):
    words = ["robustness", *artifacts, "--data", data, "--seed", SEED, "--workers", 0, *more]
    options = build_parser().parse_args(list(map(str, words)))
    return ask_under_conditions(options, open_artifacts(options.artifacts), conditions, title="test")


def test_the_conditions_begin_with_the_clean_one_and_have_different_names():
    assert ALL_CONDITIONS[0] == CLEAN
    assert {condition.kind for condition in ALL_CONDITIONS} == set(KINDS)
    assert Condition("misalignment", -0.25).name == "sound 0.25 s early"
    assert Condition("misalignment", 1).name == "sound 1 s late"
    assert len({condition.name for condition in ALL_CONDITIONS}) == len(ALL_CONDITIONS)


# A recording under a condition, written out once more.
CORRUPTED = {
    CLEAN: lambda recording, rng: recording,
    Condition("noise", 10): lambda recording, rng: add_noise(recording, 10, rng),
    Condition("reverberation", 0.8): lambda recording, rng: reverberate(recording, 0.8, rng),
    Condition("joints", 25): lambda recording, rng: drop_joints(recording, 0.25, rng),
    Condition("misalignment", -0.5): lambda recording, rng: shift_audio(recording, -0.5),
    Condition("no skeleton"): lambda recording, rng: without(recording, "skeleton"),
    Condition("no sound"): lambda recording, rng: without(recording, "audio"),
}


def test_every_artifact_gets_the_corrupted_recording_preprocessed(pair, few, fake_runner):
    spec, refs = tiny_spec(), scan(few).refs
    answers, data = asked(pair, few)
    assert answers.names == tuple(ref.name for ref in refs)
    assert data == {"seed": SEED, "data": "given", "recordings": len(refs), "skipped": []}
    runners = {Path(folder).name: FakeRunner(Path(folder) / "model.tflite", "litert") for folder in pair}
    assert set(answers.logits) == {(name, condition) for name in runners for condition in ALL_CONDITIONS}
    for condition, corrupt in CORRUPTED.items():
        for n, ref in enumerate(refs):
            recording = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz)
            corrupted = corrupt(recording, recording_rng(SEED, list(KINDS).index(condition.kind), ref.name))
            joints, confidence = corrupted.joints, corrupted.confidence
            heatmaps = skeleton_to_heatmaps(joints, confidence, spec.skeleton, layout=corrupted.layout).tensor
            tensors = {"skeleton": heatmaps[None], "audio": waveform_to_logmel(corrupted.waveform, spec.audio)[None]}
            for name, runner in runners.items():
                logits = answers.logits[name, condition][n]
                np.testing.assert_allclose(logits, runner(tensors), rtol=1e-4, atol=1e-3)
    flat = [answers.logits["float", condition].ravel() for condition in ALL_CONDITIONS]
    assert len(np.unique(flat, axis=0)) == len(ALL_CONDITIONS)


def test_workers_do_not_change_an_answer(pair, few, fake_runner):
    here, pool = (asked(pair, few, tuple(CORRUPTED), "--workers", workers)[0] for workers in (0, 2))
    for key, logits in here.logits.items():
        np.testing.assert_array_equal(logits, pool.logits[key])


def test_a_bad_recording_ends_the_run_or_is_left_out(pair, few, tmp_path, fake_runner, capsys):
    shutil.copytree(few, tmp_path / "data")
    refs = scan(tmp_path / "data").refs
    refs[1].audio_path.write_bytes(refs[1].audio_path.read_bytes()[:5000])
    for workers in ("0", "1"):
        with pytest.raises(DataError, match="truncated"):
            asked(pair, tmp_path / "data", (CLEAN,), "--workers", workers)
        answers, data = asked(pair, tmp_path / "data", (CLEAN,), "--workers", workers, "--on-error", "skip")
        assert data["skipped"] == [refs[1].name]
        assert answers.names == (refs[0].name, refs[2].name)
        assert "1 recording(s) were left out" in capsys.readouterr().err
    for ref in refs:
        ref.audio_path.write_bytes(ref.audio_path.read_bytes()[:5000])
    with pytest.raises(DataError, match="none of the 3 recordings can be used"):
        asked(pair, tmp_path / "data", (CLEAN,), "--on-error", "skip")


def test_entries_equal_naive_counts():
    rng = np.random.default_rng(0)
    conditions = (CLEAN, Condition("noise", 10))
    labels = rng.integers(0, 4, 30)
    choices = {(name, condition): rng.integers(0, 4, 30) for name in ("a", "b") for condition in conditions}
    logits = {key: np.eye(4, dtype=np.float32)[rows] for key, rows in choices.items()}
    entries = condition_entries(conditions, ("a", "b"), Answers(("r",) * 30, labels.astype(np.int32), logits))
    assert [(e["name"], e["severity"], e["unit"]) for e in entries] == [
        ("clean", 0, ""),
        ("noise, SNR 10 dB", 10, "dB"),
    ]
    for condition, entry in zip(conditions, entries, strict=True):
        for name, result in entry["results"].items():
            correct = sum(int(a == b) for a, b in zip(choices[name, condition], labels, strict=True))
            same = sum(int(a == b) for a, b in zip(choices[name, condition], choices["a", condition], strict=True))
            assert (result["correct"], result["count"]) == (correct, 30)
            assert result["interval95"] == pytest.approx(wilson_interval(correct, 30))
            assert result["agreement"] == same / 30


# The ablation


CASES = st.integers(1, 25).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 2), min_size=n, max_size=n), st.lists(st.integers(0, 2), min_size=n, max_size=n)
    )
)


@given(CASES)
def test_classes_equal_a_naive_count(case):
    truth, answers = case
    result = per_class(np.eye(3, dtype=np.float32)[answers], np.array(truth))
    assert result["correct"] == sum(a == t for a, t in zip(answers, truth, strict=True))
    for index, entry in enumerate(result["classes"]):
        chosen = [a for t, a in zip(truth, answers, strict=True) if t == index]
        assert result["confusion"][index] == [chosen.count(other) for other in range(3)]
        if not chosen:
            assert entry is None
            continue
        assert (entry["correct"], entry["count"]) == (chosen.count(index), len(chosen))
        assert entry["interval95"] == pytest.approx(wilson_interval(chosen.count(index), len(chosen)))


def test_a_logit_that_is_not_finite_is_a_failure():
    with pytest.raises(AnswerIsNo, match="1 of 2 logits are not finite"):
        per_class(np.array([[np.nan, 0]]), np.array([0]))


# The commands


def test_ablation_and_table_2_ask_the_same_question(pair, few, tmp_path, fake_runner, capsys):
    data = ["--data", str(few), "--workers", "0"]
    out = tmp_path / "a.json"
    assert main(["ablation", pair[0], *data, "--out", str(out), "--json"]) == 0
    ablation = json.loads(capsys.readouterr().out)
    assert ablation["conditions"].keys() == {"both inputs", "without sound", "without skeleton"}
    answers, _ = asked(pair[:1], few, (CLEAN, Condition("no sound")))
    assert ablation["conditions"]["both inputs"] == per_class(answers.logits["float", CLEAN], answers.labels)
    conditions = ("both-inputs", "without-skeleton", "without-sound")
    pictures = ["a.png", *(f"a-{condition}.png" for condition in conditions)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.json", *pictures])
    assert main(["ablation", pair[0], *data, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "float on 3 recordings (given)"
    assert lines[6].startswith("all ")  # below the three classes that have recordings
    assert {line.split()[-7] for line in lines[3:6]} == {"1"}
    assert main(["table2", *pair, *data, "--out", str(tmp_path / "t.json"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == ["float", "int8"]
    assert rows[0]["accuracy"] == ablation["conditions"]["both inputs"]["accuracy"]


def test_a_real_file_in_a_real_runtime(few, tmp_path, capsys):
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    write_onnx(tiny / "model.onnx")
    runner = open_model(tiny / "model.onnx", "onnxruntime")
    codes = [action_code(ref.format, ref.action) for ref in scan(few).refs]
    describe(
        tiny / "model.onnx",
        labels=tuple(Label(code, code) for code in codes),
        inputs=runner.inputs,
        outputs=runner.outputs,
    )
    words = ["robustness", str(tiny), f"my twin={tiny}", "--data", str(few)]
    words += ["--workers", "0", "--seed", "3", "--out", str(tmp_path / "r.json"), "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [artifact["name"] for artifact in document["artifacts"]] == ["tiny", "my twin"]
    assert document["artifacts"][0]["runtime"].startswith("onnxruntime 1.")
    assert [entry["name"] for entry in document["conditions"]] == [condition.name for condition in ALL_CONDITIONS]
    for entry in document["conditions"]:
        assert entry["results"]["tiny"] == entry["results"]["my twin"]
        assert (entry["results"]["my twin"]["agreement"], entry["results"]["my twin"]["count"]) == (1, 3)
    command = document["provenance"]["command"]
    assert command == "python -m benchmarks robustness tiny=DIR 'my twin=DIR' --data DIR --seed 3"
    for path in (tmp_path, few):
        assert str(path) not in json.dumps(document)
