"""Evaluation against naive counts, and what the model gets when an input is dropped."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from kit.tiny import THREE_LABELS, tiny_config

from model.commands import evaluation_table
from model.config import labels_of
from model.evaluation import Evaluation, draw_confusion, evaluate, keras_model, silent_audio
from model.recogniser import build_recogniser
from preprocess.errors import AnswerIsNo
from preprocess.logmel import waveform_to_logmel
from recordings.actions import class_indices
from recordings.batches import Batch, FeatureLoader
from recordings.catalogue import scan

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def refs(recordings_folder):
    return scan(recordings_folder).refs[:21]


@pytest.fixture(scope="module")
def recogniser(refs):
    """A network with weights large enough that its answers differ."""
    built = build_recogniser(tiny_config(labels=labels_of(refs)))
    rng = np.random.default_rng(0)
    for variable in built.head.variables:
        variable.assign(rng.normal(0, 1, variable.shape))
    return built


@pytest.fixture
def loader(refs, recogniser):
    labels = class_indices(refs, recogniser.config.codes)
    with FeatureLoader(refs, labels, recogniser.config.spec, batch_size=8, workers=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def batch():
    rng, spec = np.random.default_rng(1), tiny_config().spec
    return Batch(
        rng.random((3, *spec.skeleton.shape)).astype(np.float32),
        rng.normal(size=(3, *spec.audio.shape)).astype(np.float32),
        np.array([0, 1, 2], np.int32),
        ("a", "b", "c"),
    )


def test_evaluation_equals_a_naive_count(recogniser, refs, loader):
    config = recogniser.config
    evaluation = evaluate(
        keras_model(recogniser), loader.epoch(0), config.labels, recordings=len(refs), title="evaluating"
    )
    assert evaluation.names == tuple(ref.name for ref in refs)

    right, counts, confusion = 0, [0] * config.classes, [[0] * config.classes for _ in config.labels]
    codes = [label.code for label in config.labels]
    for batch in loader.epoch(0):
        for row, name in enumerate(batch.names):
            logits = recogniser.fused([batch.skeleton[row : row + 1], batch.audio[row : row + 1]]).numpy()[0].tolist()
            truth, answer = codes.index(name[-4:]), logits.index(max(logits))
            counts[truth] += 1
            confusion[truth][answer] += 1
            right += truth == answer
    document = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert (document["correct"], document["count"]) == (right, len(refs))
    assert document["accuracy"] == right / len(refs)
    assert document["interval95"][0] < document["accuracy"] < document["interval95"][1]
    assert document["confusion"] == confusion
    assert [entry["code"] for entry in document["classes"]] == codes
    assert [entry["count"] for entry in document["classes"]] == counts
    for index, entry in enumerate(document["classes"]):
        assert entry["accuracy"] == (confusion[index][index] / counts[index] if counts[index] else None)


CASES = st.integers(1, 25).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 2), min_size=n, max_size=n), st.lists(st.integers(0, 2), min_size=n, max_size=n)
    )
)


def answered(truth, answers):
    logits = np.eye(3, dtype=np.float32)[answers]
    return Evaluation(THREE_LABELS, logits, np.array(truth, np.int32), tuple(f"r{i}" for i in range(len(truth))))


@given(CASES)
def test_per_class_accuracy_of_any_answers(case):
    truth, answers = case
    pairs = list(zip(truth, answers, strict=True))
    document = answered(truth, answers).to_dict()
    assert document["correct"] == sum(t == a for t, a in pairs)
    for index, entry in enumerate(document["classes"]):
        own = [a for t, a in pairs if t == index]
        assert entry["count"] == len(own)
        assert entry["accuracy"] == (own.count(index) / len(own) if own else None)
        assert document["confusion"][index] == [own.count(other) for other in range(3)]


def test_the_table_names_the_most_frequent_confusion():
    lines = evaluation_table(answered([0, 0, 0, 0, 2, 2], [0, 1, 2, 2, 2, 2]), "fused").splitlines()
    assert lines[2].split() == ["A001", "action", "1", "4", "25.0", "%", "action", "3", "(2)"]
    assert lines[3].split() == ["A003", "action", "3", "2", "100.0", "%"]
    assert lines[-1] == "fused: 50.0 % [18.8, 81.2] over 6 recordings"


def test_a_logit_that_is_not_finite_is_a_failure():
    evaluation = answered([0, 1], [0, 1])
    evaluation.logits[0, 0] = np.nan
    with pytest.raises(AnswerIsNo, match="1 of 6 logits are not finite"):
        evaluation.to_dict()


def test_the_confusion_matrix_is_drawn(tmp_path):
    path = tmp_path / "new" / "confusion.png"
    draw_confusion(answered([0, 0, 1], [0, 1, 1]), path, title="fused")
    content = path.read_bytes()
    assert content[:8] == PNG_SIGNATURE
    assert content[12:16] == b"IHDR"
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert min(width, height) > 400
    assert list(path.parent.iterdir()) == [path]


def test_silence_is_a_silent_recording_preprocessed():
    spec = tiny_config().spec
    np.testing.assert_array_equal(
        silent_audio(spec), waveform_to_logmel(np.zeros(spec.audio.samples, np.float32), spec.audio)
    )
    np.testing.assert_allclose(silent_audio(spec)[..., 0], -100, atol=1e-4)
    np.testing.assert_allclose(silent_audio(spec)[..., 1:], 0, atol=1e-5)


@pytest.mark.parametrize("drop", ["audio", "skeleton"])
def test_a_dropped_input_reaches_the_model_as_silence_or_an_empty_heatmap(batch, drop):
    spec = tiny_config().spec
    count = batch.skeleton[0].size

    def flattened(inputs, training):
        return tf.concat([tf.reshape(tensor, (3, -1)) for tensor in inputs], axis=1)

    recogniser = SimpleNamespace(stream=lambda name: flattened, config=tiny_config())
    inputs = keras_model(recogniser, drop=drop)(batch.tensors)
    skeleton, audio = inputs[:, :count].reshape(batch.skeleton.shape), inputs[:, count:].reshape(batch.audio.shape)
    if drop == "audio":
        np.testing.assert_array_equal(skeleton, batch.skeleton)
        np.testing.assert_array_equal(audio, np.stack([silent_audio(spec)] * 3))
    else:
        np.testing.assert_array_equal(skeleton, np.zeros_like(batch.skeleton))
        np.testing.assert_array_equal(audio, batch.audio)


def test_dropping_audio_equals_computing_with_silence(recogniser, loader):
    config = recogniser.config
    model = keras_model(recogniser, drop="audio")
    batch = next(iter(loader.epoch(0)))
    silence = waveform_to_logmel(np.zeros(config.spec.audio.samples, np.float32), config.spec.audio)
    expected = recogniser.fused([batch.skeleton, np.stack([silence] * len(batch.labels))]).numpy()
    np.testing.assert_allclose(model(batch.tensors), expected, atol=1e-4)
    assert np.abs(model(batch.tensors) - recogniser.fused([batch.skeleton, batch.audio]).numpy()).max() > 1e-3


@pytest.mark.parametrize("stream", ["visual", "audio"])
def test_a_single_stream_reads_its_own_input(recogniser, loader, stream):
    batch = next(iter(loader.epoch(0)))
    model = keras_model(recogniser, stream)
    tensor = {"visual": batch.skeleton, "audio": batch.audio}[stream]
    np.testing.assert_allclose(model(batch.tensors), recogniser.stream(stream)(tensor).numpy(), atol=1e-5)
