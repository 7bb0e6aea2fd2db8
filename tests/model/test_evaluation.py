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


def inputs_of_model(stream, **options):
    """The inputs that a stream of the model gets for a batch, and the batch."""
    met = []
    recogniser = SimpleNamespace(
        stream=lambda name: lambda inputs, training: met.append((name, inputs)) or tf.zeros((4, 3)),
        config=tiny_config(),
    )
    batch = tiny_batch()
    tf.config.run_functions_eagerly(True)
    assert keras_model(recogniser, stream, **options)(batch.tensors).shape == (4, 3)
    tf.config.run_functions_eagerly(False)
    [(name, inputs)] = met
    assert name == stream
    return inputs, batch


@pytest.mark.parametrize("drop", [None, "audio", "skeleton"])
def test_a_dropped_input_reaches_the_model_as_silence_or_an_empty_heatmap(drop):
    (skeleton, audio), batch = inputs_of_model("fused", drop=drop)
    silence = np.broadcast_to(silent_audio(tiny_config().spec), batch.audio.shape)
    np.testing.assert_array_equal(skeleton, 0 * batch.skeleton if drop == "skeleton" else batch.skeleton)
    np.testing.assert_array_equal(audio, silence if drop == "audio" else batch.audio)


def test_a_single_stream_reads_its_tensor_by_name():
    for stream, name in (("visual", "skeleton"), ("audio", "audio")):
        tensor, batch = inputs_of_model(stream)
        np.testing.assert_array_equal(tensor, batch.tensors[name])
