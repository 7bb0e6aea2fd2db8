"""Quantization-aware training: tfmot's graph is the integer graph, and its result is an ordinary checkpoint."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.networks import SAME_FLOAT, all_logits, assert_close, inputs_of, noise, random_weights, recogniser_with
from kit.tiny import model_configs, tiny_config, tiny_spec

from model.checkpoint import Checkpoint
from model.config import DeployForm
from model.folding import UNFOLDED_FORM, fold, unfold
from model.settings import StageSettings
from quantize.prepare import CalibrationOptions, prepare
from quantize.recover.distillation import Recovery, RecoverySettings
from quantize.recover.qat import QuantizationAwareTraining, quantization_aware
from quantize.rounding import quantized_deploy, round_weights
from recordings.batches import Batch
from recordings.sources import DataSource
from recordings.splits import Split

FORMS = [DeployForm("split", "convolutions"), DeployForm("whole", "layer")]


def largest_difference(a, b):
    return max(float(np.abs(a[name] - b[name]).max() / max(1, np.abs(b[name]).max())) for name in b)


@settings(max_examples=2)
@given(model_configs(), st.integers(0, 2**16))
def test_unfolded_weights_fold_to_the_same(config, seed):
    weights, other = random_weights(config, seed), random_weights(config, seed + 1)
    deploy = fold(config, weights, UNFOLDED_FORM)
    # Norms of another network: nothing of the deployed one hides in them.
    norms = {name: value for name, value in other.items() if "/bn/" in name or "norm/" in name or "scale/" in name}
    back = unfold(config, deploy, weights | norms)
    assert {name: value.shape for name, value in back.items()} == {name: v.shape for name, v in weights.items()}
    again = fold(config, back, UNFOLDED_FORM)
    assert again.keys() == deploy.keys()
    assert largest_difference(again, deploy) < SAME_FLOAT


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_an_unfolded_network_answers_and_trains_as_the_original(norm):
    """In training with the statistics of the batch: factors, means and variances of norms are the original's."""
    config = tiny_config(norm=norm)
    weights = random_weights(config, 6)
    # Training leaves it as it was: a batch norm behind it takes out any bias.
    weights["audio/stem/conv/bias"][:] = 0
    back = unfold(config, fold(config, weights, UNFOLDED_FORM), weights)
    samples = noise(config, 4, 6)
    assert_close(all_logits(config, back, samples)[0], all_logits(config, weights, samples)[0])
    answers = []
    for variant in (weights, back):
        recogniser = recogniser_with(config, variant)
        answers.append(recogniser.fused(inputs_of(samples), training=True).numpy())
    # Statistics of four values enlarge the rounding error; norms without factors are off by about one.
    np.testing.assert_allclose(answers[1], answers[0], rtol=0, atol=1e-2 * np.abs(answers[0]).max())


@cache
def prepared(norm, form, seed=4):
    config = tiny_config(norm=norm, spec=tiny_spec(side=64, bands=64))
    return prepare(config, random_weights(config, seed), form, noise(config, 4, 1), CalibrationOptions())


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "form"), [("batch", FORMS[0]), ("layer", FORMS[1])], ids=str)
def test_the_graph_of_tfmot_rounds_as_the_integer_graph(norm, form):
    student = prepared(norm, form)
    model, variables = quantization_aware(student)
    inputs = inputs_of(noise(student.config, 4, 1))
    integers = quantized_deploy(student.config, form, round_weights(student.static_weights), student.ranges)
    # Kernels are divided in another order, so one may round to the next level: a step of the logits here and there.
    step = (student.ranges["logits"][1] - student.ranges["logits"][0]) / 255
    np.testing.assert_allclose(model(inputs).numpy(), integers(inputs).numpy(), rtol=0, atol=1.5 * step)
    assert {name: variable.numpy().tobytes() for name, variable in variables.items()} == {
        name: value.tobytes() for name, value in student.static_weights.items()
    }


@pytest.mark.slow
def test_a_step_trains_the_deployed_weights(tmp_path):
    student = prepared("layer", UNFOLDED_FORM, seed=5)
    original = Checkpoint(student.config, random_weights(student.config, 5), {})
    settings = RecoverySettings(training=StageSettings(batch_size=4, learning_rate=3e-3))
    recovery = Recovery(original, original, settings, Split((), (), ()), DataSource(), "")
    trainer = QuantizationAwareTraining(recovery, student, tmp_path)
    samples = noise(student.config, 4, 1)
    batch = Batch(samples.skeleton, samples.audio, samples.labels, samples.names)
    losses = [trainer.step(batch, 0, step) for step in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    for name, value in trainer.deploy_weights().items():
        fixed = name.endswith(("/mean/kernel", "/variance/kernel", "/variance/bias"))
        # A bias that the scores' softmax cancels has no gradient.
        assert np.array_equal(value, student.static_weights[name]) == fixed or name == "fusion/key/bias", name
    folded = fold(student.config, trainer.weights(), student.form)
    assert largest_difference(folded, trainer.deploy_weights()) < SAME_FLOAT
