"""Quantization-aware training: tfmot's graph is the integer graph, and its result is an ordinary checkpoint."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.tiny import model_configs, tiny_config, tiny_spec
from test_groups import all_logits, inputs_of, random_weights

from model.config import DeployForm
from model.evaluation import silent_audio
from model.folding import UNFOLDED_FORM, fold, join_depthwise, split_depthwise, unfold
from model.recogniser import build_recogniser
from model.settings import StageSettings, override
from preprocess.errors import UsageError
from quantize.prepare import CalibrationOptions, prepare
from quantize.recover.distillation import QatSettings
from quantize.recover.qat import QuantizationAwareTraining, quantization_aware
from quantize.rounding import quantized_deploy, round_weights
from recordings.batches import Batch
from recordings.calibration import CalibrationSet

FORMS = [DeployForm("split", "convolutions"), DeployForm("whole", "layer")]
# Float32 products in another order, relative to the largest weight or logit.
SAME_FLOAT = 1e-4


def largest_difference(a, b):
    return max(float(np.abs(a[name] - b[name]).max() / max(1, np.abs(b[name]).max())) for name in b)


@settings(max_examples=3)
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
    skeleton, audio = inputs_of(config, seed)
    expected, found = (all_logits(config, own, (skeleton, audio))[0] for own in (weights, back))
    np.testing.assert_allclose(found, expected, rtol=0, atol=SAME_FLOAT * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_an_unfolded_network_trains_as_the_original(norm):
    """With the statistics of the batch, too: factors, means and variances of norms are the original's."""
    config = tiny_config(norm=norm)
    weights = random_weights(config, 6)
    back = unfold(config, fold(config, weights, UNFOLDED_FORM), weights)
    rng = np.random.default_rng(6)
    skeleton = rng.random((4, *config.spec.skeleton.shape)).astype(np.float32)
    audio = rng.normal(size=(4, *config.spec.audio.shape)).astype(np.float32)
    answers = []
    for own in (weights, back):
        recogniser = build_recogniser(config)
        recogniser.set_weights(own)
        answers.append(recogniser.fused([skeleton, audio], training=True).numpy())
    # Statistics of four values enlarge what rounding left; norms without factors are off by about one.
    np.testing.assert_allclose(answers[1], answers[0], rtol=0, atol=1e-2 * np.abs(answers[0]).max())


def test_a_depthwise_kernel_comes_back():
    kernel = np.random.default_rng(0).normal(size=(7, 7, 3, 1)).astype(np.float32)
    np.testing.assert_array_equal(join_depthwise(split_depthwise(kernel)), kernel)


@cache
def prepared(norm, form):
    config = tiny_config(norm=norm, spec=tiny_spec(side=64, bands=64))
    rng = np.random.default_rng(1)
    calibration = CalibrationSet(
        tuple("abcd"),
        np.array([0, 1, 2, 0], np.int32),
        rng.random((4, *config.spec.skeleton.shape)).astype(np.float32),
        rng.normal(size=(4, *config.spec.audio.shape)).astype(np.float32),
        seed=0,
    )
    return prepare(config, random_weights(config, 3), form, calibration, CalibrationOptions()), calibration


@pytest.mark.parametrize(("norm", "form"), [("batch", FORMS[0]), ("layer", FORMS[0]), ("layer", FORMS[1])], ids=str)
def test_the_graph_of_tfmot_rounds_what_the_integer_graph_rounds(norm, form):
    own, samples = prepared(norm, form)
    aware = quantization_aware(own)
    inputs = [samples.skeleton, samples.audio]
    expected = quantized_deploy(own.config, form, round_weights(own.static_weights), own.ranges)(inputs).numpy()
    # Kernels are divided in another order, so one may round to the next level: a step of the logits here and there.
    step = (own.ranges["logits"][1] - own.ranges["logits"][0]) / 255
    np.testing.assert_allclose(aware.model(inputs).numpy(), expected, rtol=0, atol=1.5 * step)
    assert {name: v.numpy().tobytes() for name, v in aware.variables.items()} == {
        name: value.tobytes() for name, value in own.static_weights.items()
    }


@pytest.mark.parametrize("name", ["features", "streams"])
def test_what_the_deploy_form_does_not_have_cannot_be_set(name):
    with pytest.raises(UsageError, match=f"distillation has no field '{name}'; it has labels, logits, temperature"):
        override(QatSettings(), [f"distillation.{name}=1"])


def test_a_step_trains_what_is_deployed(tmp_path):
    own, samples = prepared("layer", FORMS[0])
    teacher = build_recogniser(own.config)
    teacher.set_weights(random_weights(own.config, 3))
    constants = QatSettings(training=StageSettings(batch_size=4, learning_rate=3e-3))
    trainer = QuantizationAwareTraining(
        quantization_aware(own),
        teacher,
        constants,
        silence=silent_audio(own.config.spec),
        seed=0,
        state_path=tmp_path / "state.npz",
    )
    batch = Batch(samples.skeleton, samples.audio, samples.labels, samples.names)
    losses = [trainer.step(batch, 0, step) for step in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    for name, value in trainer.weights().items():
        fixed = name.endswith(("/mean/kernel", "/variance/kernel", "/variance/bias"))
        # A bias that the scores' softmax cancels has no gradient.
        assert np.array_equal(value, own.static_weights[name]) == fixed or name == "fusion/key/bias", name
    weights = unfold(own.config, trainer.weights(), random_weights(own.config, 3))
    assert largest_difference(fold(own.config, weights, own.form), trainer.weights()) < SAME_FLOAT
