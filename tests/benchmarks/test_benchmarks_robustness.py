"""Robustness: every artefact gets the corrupted recording, preprocessed; counts, documents, tables and plots."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit.fakes import SYNTHETIC_LABELS, FakeRunner, describe, fake_artifact
from kit.tiny import tiny_config, tiny_spec
from matplotlib.image import imread

from benchmarks.__main__ import build_parser, main
from benchmarks.studies import artifacts as artifacts_module
from benchmarks.studies.artifacts import Answers, HeldOut, answer, choose_recordings, open_artifacts
from benchmarks.studies.conditions import ALL_CONDITIONS, CLEAN, KINDS, Condition
from benchmarks.studies.robustness import condition_entries, draw, robustness_table
from console.plot import style
from preprocess.errors import DataError, UsageError
from preprocess.heatmaps import skeleton_to_heatmaps
from preprocess.logmel import waveform_to_logmel
from recordings.actions import class_indices
from recordings.batches import recording_rng
from recordings.catalogue import scan
from recordings.corruptions import add_noise, drop_joints, reverberate, shift_audio, without
from recordings.protocols import split
from recordings.reading import read_recording
from runtime.metrics import wilson_interval
from runtime.runners import open_model

CODES = [label.code for label in SYNTHETIC_LABELS]
SEED = 4


@pytest.fixture
def fake_runner(monkeypatch):
    monkeypatch.setattr(artifacts_module, "open_model", FakeRunner)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two artefacts of different answers."""
    folder = tmp_path_factory.mktemp("fakes")
    return [str(fake_artifact(folder / name, seed=seed)) for seed, name in enumerate(("float", "int8"))]


@pytest.fixture(scope="module")
def held_out(recordings_folder):
    refs = scan(recordings_folder).refs[::13]
    return HeldOut(refs, class_indices(refs, CODES), "given")


def run(words, held_out, conditions=ALL_CONDITIONS, *, workers=0, skip_bad=False):
    opened = open_artifacts(words)
    return answer(opened, held_out, conditions, seed=SEED, workers=workers, skip_bad=skip_bad, label="test")


def parse(*words):
    return build_parser().parse_args(["robustness", *map(str, words)])


# Conditions


def test_the_conditions_are_those_of_the_benchmark():
    found = {}
    for condition in ALL_CONDITIONS:
        found.setdefault(condition.kind, []).append(condition.severity)
    assert ALL_CONDITIONS[0] == CLEAN
    assert found == {
        "clean": [0],
        "noise": [40, 30, 20, 10, 0],
        "reverberation": [0.2, 0.4, 0.8, 1.6],
        "joints": [10, 25, 50, 75],
        "misalignment": [-1, -0.5, -0.25, -0.1, 0.1, 0.25, 0.5, 1],
        "no skeleton": [0],
        "no sound": [0],
    }
    assert Condition("misalignment", -0.25).name == "sound 0.25 s early"
    assert Condition("misalignment", 1).name == "sound 1 s late"
    assert len({condition.name for condition in ALL_CONDITIONS}) == len(ALL_CONDITIONS)


# What a recording is under a condition, written out once more.
CORRUPTED = {
    CLEAN: lambda own, rng: own,
    Condition("noise", 10): lambda own, rng: add_noise(own, 10, rng),
    Condition("reverberation", 0.8): lambda own, rng: reverberate(own, 0.8, rng),
    Condition("joints", 25): lambda own, rng: drop_joints(own, 0.25, rng),
    Condition("misalignment", -0.5): lambda own, rng: shift_audio(own, -0.5),
    Condition("no skeleton"): lambda own, rng: without(own, "skeleton"),
    Condition("no sound"): lambda own, rng: without(own, "audio"),
}


def test_every_artifact_gets_the_corrupted_recording_preprocessed(pair, held_out, fake_runner):
    spec = tiny_spec()
    answers = run(pair, held_out)
    np.testing.assert_array_equal(answers.labels, held_out.labels)
    assert answers.logits.shape == (2, len(ALL_CONDITIONS), len(held_out.refs), 16)
    runners = [FakeRunner(Path(folder) / "model.tflite", "litert") for folder in pair]
    for condition, corrupt in CORRUPTED.items():
        for n, ref in enumerate(held_out.refs):
            recording = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz)
            own = corrupt(recording, recording_rng(SEED, list(KINDS).index(condition.kind), ref.name))
            skeleton = skeleton_to_heatmaps(own.joints, own.confidence, spec.skeleton, layout=own.layout).tensor
            tensors = {"skeleton": skeleton[None], "audio": waveform_to_logmel(own.waveform, spec.audio)[None]}
            for logits, runner in zip(answers.logits, runners, strict=True):
                got = logits[ALL_CONDITIONS.index(condition), n]
                np.testing.assert_allclose(got, runner(tensors), rtol=1e-4, atol=1e-3)


def test_every_condition_changes_the_answers(pair, held_out, fake_runner):
    logits = run(pair[:1], held_out).logits[0]
    flat = logits.reshape(len(ALL_CONDITIONS), -1)
    assert len(np.unique(flat, axis=0)) == len(ALL_CONDITIONS)


def test_workers_do_not_change_an_answer(pair, held_out, fake_runner):
    here, pool = (run(pair, held_out, tuple(CORRUPTED), workers=workers) for workers in (0, 2))
    np.testing.assert_array_equal(here.logits, pool.logits)


@pytest.fixture
def one_truncated(recordings_folder, tmp_path):
    """Recordings of which the second has a sound file cut short."""
    shutil.copytree(recordings_folder, tmp_path / "data")
    refs = scan(tmp_path / "data").refs[:3]
    path = refs[1].audio_path
    path.write_bytes(path.read_bytes()[:5000])
    return HeldOut(refs, class_indices(refs, CODES), "given")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_recording_ends_the_run_or_is_left_out(pair, one_truncated, workers, fake_runner, capsys):
    with pytest.raises(DataError, match="truncated"):
        run(pair, one_truncated, (CLEAN,), workers=workers)
    answers = run(pair, one_truncated, (CLEAN,), workers=workers, skip_bad=True)
    assert answers.skipped == (one_truncated.refs[1].name,)
    np.testing.assert_array_equal(answers.labels, one_truncated.labels[[0, 2]])
    assert "1 recording(s) were left out; the first: " in capsys.readouterr().err


def test_nothing_usable_is_an_error(pair, one_truncated, fake_runner):
    only_bad = replace(one_truncated, refs=one_truncated.refs[1:2], labels=one_truncated.labels[1:2])
    with pytest.raises(DataError, match=r"none of the 1 recordings can be used; the first: .* truncated"):
        run(pair, only_bad, (CLEAN,), skip_bad=True)


# Counts


def test_entries_equal_naive_counts(pair):
    rng = np.random.default_rng(0)
    conditions = (CLEAN, Condition("noise", 10))
    choices, labels = rng.integers(0, 4, (2, 2, 30)), rng.integers(0, 4, 30)
    answers = Answers(labels.astype(np.int32), np.eye(4, dtype=np.float32)[choices], ())
    entries = condition_entries(conditions, open_artifacts(pair), answers)
    assert [(e["name"], e["severity"], e["unit"]) for e in entries] == [
        ("clean", 0, ""),
        ("noise, SNR 10 dB", 10, "dB"),
    ]
    for c, entry in enumerate(entries):
        for a, name in enumerate(("float", "int8")):
            correct = sum(int(choices[a, c, n] == labels[n]) for n in range(30))
            same = sum(int(choices[a, c, n] == choices[0, c, n]) for n in range(30))
            result = entry["results"][name]
            assert (result["correct"], result["count"]) == (correct, 30)
            assert result["interval95"] == pytest.approx(wilson_interval(correct, 30))
            assert result["agreement"] == same / 30


def document_of(names, accuracy=0.5, recordings=200):
    """A document with the same numbers everywhere."""
    low, high = wilson_interval(int(accuracy * recordings), recordings)
    result = {"accuracy": accuracy, "interval95": [low, high], "correct": 0, "count": recordings, "agreement": 0.875}
    return {
        "data": "given",
        "recordings": recordings,
        "classes": 16,
        "artifacts": [{"name": name} for name in names],
        "conditions": [
            {"name": c.name, "kind": c.kind, "severity": c.severity, "results": dict.fromkeys(names, result)}
            for c in ALL_CONDITIONS
        ],
    }


def test_the_table_has_a_row_for_every_condition():
    lines = robustness_table(document_of(["float", "INT8"])).splitlines()
    assert lines[0] == "Accuracy on 200 recordings (given)"
    assert len(lines) == 3 + len(ALL_CONDITIONS)
    (row,) = [line for line in lines if line.startswith("25 % of joints lost")]
    assert row.split("lost")[1].split() == "50.0 % [43.1, 56.9] 50.0 % [43.1, 56.9] 87.5 %".split()  # noqa: SIM905
    assert robustness_table(document_of(["one"])).splitlines()[1].split() == ["condition", "one", "[95", "%]"]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_plot_has_every_artifact(count, tmp_path):
    names = [f"artefact {n}" for n in range(count)]
    draw(document_of(names), tmp_path / "new" / "a.png")
    image = imread(tmp_path / "new" / "a.png")
    assert image.shape[1] > 1200
    colours = {tuple(pixel) for pixel in (255 * image[..., :3]).round().astype(int).reshape(-1, 3).tolist()}
    for index in range(min(count, 6)):
        code = style(index).colour
        assert tuple(int(code[at : at + 2], 16) for at in (1, 3, 5)) in colours


# Options


def test_without_data_the_recordings_are_the_synthetic_ones():
    chosen = choose_recordings(parse("ART", "--recordings", 20, "--workers", 1), CODES)
    assert len(chosen.refs) == 20
    assert [CODES[label] for label in chosen.labels] == [ref.name[-4:] for ref in chosen.refs]
    assert chosen.origin == "synthetic, seed 9001"


def test_given_recordings_are_balanced_and_of_the_test_part(recordings_folder):
    all_refs = scan(recordings_folder).refs
    chosen = choose_recordings(parse("ART", "--data", recordings_folder, "--recordings", 32), CODES)
    assert np.bincount(chosen.labels).tolist() == [2] * 16
    assert list(chosen.refs) == sorted(chosen.refs, key=lambda ref: ref.name)
    test = choose_recordings(parse("ART", "--data", recordings_folder, "--protocol", "x-sub"), CODES)
    assert test.refs == split(all_refs, "x-sub").test
    assert test.origin == "given, x-sub"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recordings", 0], "--recordings is 0; use 1 or more"),
        (["--workers", -1], "--workers is -1; use 0 or more"),
        (["--seed", -1], "--seed is -1; use 0 or more"),
        (["--protocol", "x-sub"], "--protocol needs --data DIR"),
    ],
)
def test_options_are_checked(words, message):
    with pytest.raises(UsageError, match=message):
        choose_recordings(parse("ART", *words), CODES)


def test_other_classes_than_the_synthetic_ones_need_data():
    with pytest.raises(UsageError, match=r"not those of the synthetic recordings; give --data DIR"):
        choose_recordings(parse("ART", "--recordings", 20), CODES[:3])


def test_artifacts_have_the_names_given(pair, tmp_path):
    assert [own.name for own in open_artifacts([pair[0], f"pruned={pair[1]}"])] == ["float", "pruned"]
    odd = fake_artifact(tmp_path / "a=b", name="odd")
    assert [own.name for own in open_artifacts([str(odd)])] == ["odd"]


def test_artifacts_that_do_not_fit_are_refused(pair, tmp_path):
    with pytest.raises(UsageError, match="2 artefacts are called 'float'; write NAME=DIR"):
        open_artifacts([pair[0], pair[0]])
    with pytest.raises(UsageError, match="'=x' has no name or no path"):
        open_artifacts(["=x"])
    with pytest.raises(DataError, match=r"holds no manifest\.json"):
        open_artifacts([str(tmp_path)])
    fewer = fake_artifact(tmp_path / "fewer", labels=SYNTHETIC_LABELS[:15])
    with pytest.raises(DataError, match="float and fewer have different classes; export both from the same checkpoint"):
        open_artifacts([pair[0], str(fewer)])
    larger = fake_artifact(tmp_path / "larger", spec=tiny_spec(side=64))
    with pytest.raises(DataError, match="float and larger have different inputs"):
        open_artifacts([pair[0], str(larger)])


def test_the_plot_may_not_take_the_result_files_place(pair, tmp_path, capsys):
    assert main(["robustness", *pair, "--out", str(tmp_path / "a.png")]) == 2
    assert "name a JSON file, the plots go beside it" in capsys.readouterr().err


# A real file in a real runtime


@pytest.fixture(scope="module")
def tiny_artifact(tmp_path_factory):
    """A float TFLite file of a tiny network whose random weights are large enough that its answers differ."""
    from export.artifact import write_model
    from export.targets import TARGETS
    from model.recogniser import build_recogniser
    from quantize.prepare import CalibrationOptions, prepare
    from quantize.recipes import FLOAT32

    config = tiny_config(labels=SYNTHETIC_LABELS)
    recogniser = build_recogniser(config)
    rng = np.random.default_rng(0)
    for variable in recogniser.head.variables:
        variable.assign(rng.normal(0, 1, variable.shape))
    prepared = prepare(config, recogniser.weights(), TARGETS["xnnpack"].form, None, CalibrationOptions())
    path = tmp_path_factory.mktemp("tiny") / "model.tflite"
    write_model(prepared, FLOAT32, "xnnpack", path)
    runner = open_model(path, "litert")
    return describe(path, name="tiny", inputs=runner.inputs, outputs=runner.outputs)


def test_the_command_end_to_end(tiny_artifact, recordings_folder, tmp_path, capsys):
    words = ["robustness", str(tiny_artifact), f"my twin={tiny_artifact}", "--data", str(recordings_folder)]
    words += ["--recordings", "6", "--workers", "0", "--seed", "3", "--out", str(tmp_path / "r.json"), "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (document["schema_version"], document["benchmark"], document["seed"]) == (1, "robustness", 3)
    assert [own["name"] for own in document["artifacts"]] == ["tiny", "my twin"]
    assert document["artifacts"][0]["runtime"].startswith("litert 2.")
    assert [entry["name"] for entry in document["conditions"]] == [condition.name for condition in ALL_CONDITIONS]
    for entry in document["conditions"]:
        assert entry["results"]["tiny"] == entry["results"]["my twin"]
        assert entry["results"]["my twin"]["agreement"] == 1
        assert entry["results"]["my twin"]["count"] == 6
    command = document["provenance"]["command"]
    assert command == "python -m benchmarks robustness tiny=DIR 'my twin=DIR' --data DIR --recordings 6 --seed 3"
    for path in (tmp_path, recordings_folder, tiny_artifact):
        assert str(path) not in json.dumps(document)
    assert imread(tmp_path / "r.png").ndim == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "r.png"]
