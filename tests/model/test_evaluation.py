"""Evaluation against naive counts, and the inputs of the model when a sensor is dropped."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from kit.tiny import THREE_LABELS, tiny_batch, tiny_config

from model.evaluation import evaluation, evaluation_table, keras_model, silent_audio
from model.recogniser import build_recogniser
from preprocess.errors import AnswerIsNo
from preprocess.logmel import waveform_to_logmel

CASES = st.integers(1, 25).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 2), min_size=n, max_size=n), st.lists(st.integers(0, 2), min_size=n, max_size=n)
    )
)


def answered(truth, answers):
    """Logits whose largest is at `answers`, true classes and labels."""
    return np.eye(3, dtype=np.float32)[answers], np.array(truth, np.int32), THREE_LABELS


@given(CASES)
def test_counts_equal_a_naive_count(case):
    truth, answers = case
    pairs = list(zip(truth, answers, strict=True))
    document = json.loads(json.dumps(evaluation(*answered(truth, answers)), allow_nan=False))
    assert (document["correct"], document["count"]) == (sum(t == a for t, a in pairs), len(pairs))
    assert document["accuracy"] == document["correct"] / document["count"]
    assert document["interval95"][0] <= document["accuracy"] <= document["interval95"][1]
    for index, entry in enumerate(document["classes"]):
        of_class = [a for t, a in pairs if t == index]
        assert (entry["code"], entry["count"]) == (THREE_LABELS[index].code, len(of_class))
        assert entry["accuracy"] == (of_class.count(index) / len(of_class) if of_class else None)
        assert document["confusion"][index] == [of_class.count(other) for other in range(3)]


def test_the_table_names_the_most_frequent_confusion():
    lines = evaluation_table(*answered([0, 0, 0, 0, 2, 2], [0, 1, 2, 2, 2, 2]), "fused").splitlines()
    assert lines[2].split() == ["A001", "action", "1", "4", "25.0", "%", "action", "3", "(2)"]
    assert lines[3].split() == ["A003", "action", "3", "2", "100.0", "%"]
    assert lines[-1] == "fused: 50.0 % [18.8, 81.2] over 6 recordings"


def test_a_logit_that_is_not_finite_is_a_failure():
    logits, truth, labels = answered([0, 1], [0, 1])
    logits[0, 0] = np.nan
    with pytest.raises(AnswerIsNo, match="1 of 6 logits are not finite"):
        evaluation(logits, truth, labels)


def test_silence_is_a_silent_recording_preprocessed():
    spec = tiny_config().spec
    silence = waveform_to_logmel(np.zeros(spec.audio.samples, np.float32), spec.audio)
    np.testing.assert_array_equal(silent_audio(spec), silence)
    np.testing.assert_allclose(silence[..., 0], -100, atol=1e-4)
    np.testing.assert_allclose(silence[..., 1:], 0, atol=1e-5)


@pytest.mark.parametrize("drop", ["audio", "skeleton"])
def test_a_dropped_input_reaches_the_model_as_silence_or_an_empty_heatmap(drop):
    batch, spec = tiny_batch(), tiny_config().spec
    count = batch.skeleton[0].size

    def flattened(inputs, training):
        return tf.concat([tf.reshape(tensor, (len(batch.labels), -1)) for tensor in inputs], axis=1)

    recogniser = SimpleNamespace(stream=lambda name: flattened, config=tiny_config())
    inputs = keras_model(recogniser, drop=drop)(batch.tensors)
    skeleton, audio = inputs[:, :count].reshape(batch.skeleton.shape), inputs[:, count:].reshape(batch.audio.shape)
    dropped_audio = np.broadcast_to(silent_audio(spec), batch.audio.shape)
    np.testing.assert_array_equal(skeleton, 0 * batch.skeleton if drop == "skeleton" else batch.skeleton)
    np.testing.assert_array_equal(audio, dropped_audio if drop == "audio" else batch.audio)


def test_a_stream_reads_its_tensors_by_name():
    batch, recogniser = tiny_batch(), build_recogniser(tiny_config())
    for stream, inputs in (
        ("fused", [batch.skeleton, batch.audio]),
        ("visual", batch.skeleton),
        ("audio", batch.audio),
    ):
        logits = keras_model(recogniser, stream)(batch.tensors)
        assert np.ptp(logits, axis=0).max() > 1e-3
        np.testing.assert_allclose(logits, recogniser.stream(stream)(inputs).numpy(), atol=1e-5)
