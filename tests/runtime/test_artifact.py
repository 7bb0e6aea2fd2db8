"""An artifact in a runtime, and what models answer on recordings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.fakes import fake_artifact
from kit.tiny import tiny_spec
from kit.tiny_artifact import CLASSES, SPEC, expected_logits, raw_recording, write_artifact, write_onnx

from preprocess import skeleton_to_heatmaps, waveform_to_logmel
from preprocess.errors import AnswerIsNo, DataError, UsageError
from runtime.answers import ask, one_by_one
from runtime.artifact import Artifact, named_path, open_artifacts, require_same_question
from runtime.manifest import Label


def as_batch(names, labels, tensors):
    """A batch."""
    return SimpleNamespace(names=names, labels=labels, tensors=tensors)


@pytest.fixture
def onnx_artifact(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    write_onnx(folder / "model.onnx")
    return write_artifact(folder, "model.onnx")


def test_an_artifact_runs_in_the_first_runtime_of_its_format(onnx_artifact, tmp_path):
    artifact = Artifact.open(onnx_artifact)
    assert (artifact.name, artifact.runtime, artifact.folder) == ("tiny", "onnxruntime", onnx_artifact)
    assert artifact.to_dict()["runtime"] == f"onnxruntime {artifact.version}"
    raw = raw_recording(3)
    tensors = {
        "skeleton": skeleton_to_heatmaps(raw["joints"], raw["confidence"], SPEC.skeleton).tensor[None],
        "audio": waveform_to_logmel(raw["waveform"], SPEC.audio)[None],
    }
    np.testing.assert_allclose(artifact.load()(tensors), expected_logits(raw), rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="a onnx file; use onnxruntime"):
        Artifact.open(onnx_artifact, runtime="litert")
    with pytest.raises(UsageError, match="compiled for SM8650"):
        Artifact.open(fake_artifact(tmp_path / "npu", npu={"soc": "SM8650"}))


@pytest.mark.parametrize(
    ("words", "names"), [(["a", "b"], ["a", "b"]), (["x=a", "b"], ["x", "b"]), (["x=a", "y=a"], ["x", "y"])]
)
def test_artifacts_are_opened_under_the_names_of_the_command(tmp_path, monkeypatch, words, names):
    fake_artifact(tmp_path / "a"), fake_artifact(tmp_path / "b", seed=1)
    monkeypatch.chdir(tmp_path)
    assert [artifact.name for artifact in open_artifacts(words)] == names


def test_names_must_be_unique_and_a_path_with_an_equals_sign_that_exists_has_none(tmp_path, monkeypatch):
    fake_artifact(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    for words, message in ((["a", "x=a", "a"], "2 artifacts are called 'a'"), (["=a"], "no name")):
        with pytest.raises(UsageError, match=message):
            open_artifacts(words)
    (tmp_path / "a=b").mkdir()
    assert named_path(str(tmp_path / "a=b")) == (None, tmp_path / "a=b")


def test_artifacts_of_other_classes_or_inputs_are_refused(tmp_path):
    labels = (Label("A001", "a"), Label("A002", "b"))
    first = Artifact.open(fake_artifact(tmp_path / "first", labels=labels))
    nearly = tiny_spec().to_dict()
    nearly["audio"]["mean"][0] *= 1 + 1e-9
    cases = {
        "same": ({"labels": labels, "preprocess": nearly}, None),
        "order": ({"labels": labels[::-1]}, "different classes: their order differs"),
        "fewer": ({"labels": labels[:1]}, "different classes: A002 differ"),
        "side": ({"labels": labels, "spec": tiny_spec(side=64)}, r"different inputs: skeleton\.size differ"),
    }
    for name, (changes, message) in cases.items():
        other = Artifact.open(fake_artifact(tmp_path / name, **changes))
        if message is None:
            require_same_question(first, other)
        else:
            with pytest.raises(DataError, match=message):
                require_same_question(first, other)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 3))
def test_every_model_answers_every_recording_in_order(sizes, at_once):
    rng = np.random.default_rng(sum(sizes))
    batches = []
    for index, size in enumerate(sizes):
        names = tuple(f"{index}-{i}" for i in range(size))
        batches.append(as_batch(names, rng.integers(0, 3, size), {"x": rng.random((size, 3), dtype=np.float32)}))
    models = {"same": lambda tensors: tensors["x"], ("twice", 2): lambda tensors: 2 * tensors["x"]}
    answers = ask(models, iter(batches), title="asking", recordings=sum(sizes), at_once=at_once)
    everything = np.concatenate([batch.tensors["x"] for batch in batches])
    np.testing.assert_array_equal(answers.logits["same"], everything)
    np.testing.assert_array_equal(answers.logits["twice", 2], 2 * everything)
    assert answers.names == tuple(name for batch in batches for name in batch.names)
    assert answers.score("same").correct == (everything.argmax(axis=1) == answers.labels).sum()
    assert answers.agreement("same", ("twice", 2)) == 1.0
    assert answers.snr_db("same", "same") == 200


def test_no_recordings_and_logits_that_are_not_finite_are_errors():
    with pytest.raises(DataError, match="no recordings"):
        ask({"a": lambda tensors: tensors["x"]}, [], title="asking", recordings=0)
    batch = as_batch(("r",), np.zeros(1, np.int32), {"x": np.full((1, 3), np.nan, np.float32)})
    answers = ask({"a": lambda tensors: tensors["x"]}, [batch], title="asking", recordings=1)
    with pytest.raises(AnswerIsNo, match="not finite"):
        answers.score("a")


def test_a_file_with_a_batch_of_one_answers_a_batch(onnx_artifact):
    rng = np.random.default_rng(0)
    runner = Artifact.open(onnx_artifact).load()
    tensors = {
        "skeleton": rng.random((3, *SPEC.skeleton.shape), dtype=np.float32),
        "audio": rng.random((3, *SPEC.audio.shape), dtype=np.float32),
    }
    logits = one_by_one(runner)(tensors)
    assert logits.shape == (3, CLASSES)
    np.testing.assert_array_equal(logits[2], runner({name: tensor[2:] for name, tensor in tensors.items()}))
