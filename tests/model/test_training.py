"""Training: the step of every stage, schedules, early stopping, and the choice of the best epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from kit.tiny import tiny_batch, tiny_config

from model.evaluation import silent_audio
from model.recogniser import build_recogniser
from model.settings import StageSettings, TrainingSettings
from model.train import fitting_weights
from model.trainer import Stage, Trainer
from preprocess.errors import AnswerIsNo, DataError


@pytest.fixture(scope="module")
def built():
    recogniser = build_recogniser(tiny_config(), dropout=0.5)
    return recogniser, recogniser.weights()


@pytest.fixture
def make_stage(built, tmp_path):
    """A stage of the shared recogniser, which has its first weights again."""
    recogniser, weights = built

    def make(name, **settings):
        recogniser.set_weights(weights)
        constants = replace(getattr(TrainingSettings(), name), **settings)
        silence = silent_audio(recogniser.config.spec)
        stage = Stage(recogniser, name, constants, silence=silence, seed=0, state_path=tmp_path / "state.npz")
        return recogniser, stage

    return make


@pytest.fixture
def eagerly():
    """Steps run operation by operation: one step of a network takes less time than tracing it."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.usefixtures("eagerly")
def test_a_fusion_step_trains_the_head_alone_and_smooths_the_labels(make_stage, monkeypatch):
    """Inception v3, section 7: a share ε of the target is spread over all classes."""
    recogniser, stage = make_stage("fusion")
    batch, logits = tiny_batch(), []
    original = recogniser.head.call
    monkeypatch.setattr(recogniser.head, "call", lambda *a, **k: logits.append(original(*a, **k)) or logits[-1])
    before = recogniser.weights()
    loss = stage.step(batch, 0, 0)
    after = recogniser.weights()
    changed = {name.split("/")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"fusion"}
    log_p = tf.nn.log_softmax(logits[0]).numpy()
    smoothed = 0.9 * np.eye(3)[batch.labels] + 0.1 / 3
    assert loss == pytest.approx(-(smoothed * log_p).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_gradients_are_clipped_by_their_global_norm(make_stage):
    """Adam's step is lr · g / (|g| + 1e-7): nearly lr for most gradients, at most lr / 100 for |g| < 1e-9."""
    changes = []
    for clip_norm in (0.0, 1e-9):
        recogniser, stage = make_stage("fusion", clip_norm=clip_norm, weight_decay=0.0, learning_rate=1e-2)
        before = recogniser.weights()
        stage.step(tiny_batch(), 0, 0)
        after = recogniser.weights()
        changes.append(max(np.abs(after[name] - before[name]).max() for name in before))
    assert changes[0] == pytest.approx(1e-2, rel=1e-2)
    assert changes[1] < 1e-4


@pytest.mark.usefixtures("eagerly")
def test_kernels_decay_and_norms_and_biases_do_not(make_stage):
    weights = {}
    for decay in (0.0, 0.5):
        recogniser, stage = make_stage("audio", weight_decay=decay, learning_rate=1e-2)
        start = recogniser.weights()
        stage.step(tiny_batch(), 0, 0)
        weights[decay] = recogniser.weights()
    for name in (variable.name.removesuffix(":0") for variable in recogniser.audio.trainable_variables):
        expected = 1e-2 * 0.5 * start[name] if name.endswith("kernel") else np.zeros_like(start[name])
        np.testing.assert_allclose(weights[0.0][name] - weights[0.5][name], expected, atol=1e-6, err_msg=name)


@pytest.mark.usefixtures("eagerly")
def test_modality_dropout_takes_either_input_of_a_share_of_the_recordings(make_stage, monkeypatch):
    """The lost input is an empty heatmap or silence, and no recording loses both."""
    recogniser, stage = make_stage("fusion", modality_dropout=0.5)
    batch, silence, inputs = tiny_batch(128), silent_audio(recogniser.config.spec), []
    original = recogniser.features.call
    monkeypatch.setattr(recogniser.features, "call", lambda x, **k: inputs.append(x) or original(x, **k))
    for step in range(2):
        stage.step(batch, 0, step)
    shares = []
    for skeleton, audio in ((skeleton.numpy(), audio.numpy()) for skeleton, audio in inputs):
        empty, silent = ~skeleton.any((1, 2, 3)), (audio == silence).all((1, 2, 3))
        np.testing.assert_array_equal(skeleton[~empty], batch.skeleton[~empty])
        np.testing.assert_array_equal(audio[~silent], batch.audio[~silent])
        assert not (empty & silent).any()
        shares.append((empty.mean(), silent.mean()))
    assert np.mean(shares, axis=0) == pytest.approx(0.25, abs=0.1)


def test_a_run_starts_from_the_weights_that_fit(capsys):
    random = {name: np.zeros(shape, np.float32) for name, shape in {"a": (2,), "b": (3, 4), "c": (5,)}.items()}
    start = {"a": np.ones(2, np.float32), "b": np.ones((3, 5), np.float32), "other": np.ones(5, np.float32)}
    weights = fitting_weights(random, "other.npz", start)
    assert {name: (value.shape, value.max()) for name, value in weights.items()} == {
        "a": ((2,), 1),
        "b": ((3, 4), 0),
        "c": ((5,), 0),
    }
    assert "1 of 3 tensors start from other.npz" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"no weight of other\.npz has a name and shape of this model"):
        fitting_weights({"c": random["c"]}, "other.npz", start)


# Schedules, with scripted losses instead of data.


@dataclass
class ScriptedLoader:
    steps_per_epoch: int = 2
    waiting_s: float = 0.0
    problems: dict[str, str] = field(default_factory=dict)

    def epoch(self, number):
        yield from range(self.steps_per_epoch)


class ScriptedTrainer(Trainer):
    """A training with given validation losses, whose steps only count and note the rate."""

    def __init__(self, losses, path, **settings):
        self.losses, self.rates = losses, []
        self.count = tf.Variable(0.0, name="count")
        super().__init__(
            "visual",
            {"count": self.count},
            [self.count],
            [],
            StageSettings(epochs=len(losses), **settings),
            silence=np.zeros((1, 1, 3), np.float32),
            seed=0,
            state_path=path / "state.npz",
        )

    def step(self, batch, epoch, step):
        self.rates.append(self.state.learning_rate)
        self.count.assign_add(1)
        return 1.0

    def validate(self, validation):
        return self.losses[self.state.epoch], 0.5

    def _train_step_eager(self, inputs, labels, lost):
        raise NotImplementedError

    def _logits_eager(self, inputs):
        raise NotImplementedError


@pytest.fixture
def scripted(tmp_path):
    def run(losses, **settings):
        trainer = ScriptedTrainer(losses, tmp_path, **settings)
        trainer.run(ScriptedLoader(), ScriptedLoader())
        return trainer

    return run


class Bare:
    """The part of a Keras model that callbacks read."""

    def __init__(self, rate):
        self.optimizer = type("Optimizer", (), {"lr": keras.backend.variable(rate)})()
        self.stop_training = False

    def get_weights(self):
        return []


LOSSES = [
    [1.0] * 25,
    [1 / (epoch + 1) for epoch in range(12)],
    [1.0, 0.9, *[0.95] * 9, 0.8, *[0.85] * 12],
    [1.0, *[1.0] * 4, 0.9, *[0.9] * 5, *[2.0] * 10],
]


@pytest.mark.parametrize("losses", LOSSES, ids=["flat", "better every time", "two plateaus", "just in time"])
def test_plateau_and_early_stopping_act_as_keras_callbacks(scripted, losses):
    trainer = scripted(losses, schedule="plateau", early_stopping=10, learning_rate=1e-2)
    model = Bare(1e-2)
    lower = keras.callbacks.ReduceLROnPlateau(factor=0.1, patience=5, min_delta=0)
    stop = keras.callbacks.EarlyStopping(patience=10, min_delta=0)
    rates = []
    for callback in (lower, stop):
        callback.set_model(model)
        callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        rates += [float(keras.backend.get_value(model.optimizer.lr))] * 2
        for callback in (lower, stop):
            callback.on_epoch_end(epoch, {"val_loss": loss})
        if model.stop_training:
            break
    assert trainer.rates == pytest.approx(rates, rel=1e-5)
    assert [entry["epoch"] for entry in trainer.state.history] == list(range(1, len(rates) // 2 + 1))


def test_cosine_falls_as_in_keras_and_every_epoch_runs_without_early_stopping(scripted):
    rates = scripted([1.0] * 15, schedule="cosine", learning_rate=0.3).rates
    decay = keras.optimizers.schedules.CosineDecay(0.3, decay_steps=30)
    assert rates == pytest.approx([float(decay(step)) for step in range(30)], rel=1e-5)


def test_the_best_epoch_stays_and_a_resumed_training_continues_behind_the_last(scripted, tmp_path):
    finished = scripted([3.0, 1.0, 1.0])
    assert (finished.state.best_epoch, finished.count.numpy()) == (1, 4)
    resumed = ScriptedTrainer([3.0, 1.0, 1.0], tmp_path)
    assert resumed.resume()
    assert (resumed.state, resumed.count.numpy()) == (finished.state, 6)
    state = tmp_path / "state.npz"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(DataError, match=r"state\.npz is damaged"):
        resumed.resume()
    state.unlink()
    assert not resumed.resume()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_finite_is_a_failure(scripted, broken):
    with pytest.raises(AnswerIsNo, match=rf"the loss became {broken} in stage visual, epoch 2, validation"):
        scripted([1.0, broken, 1.0])


def test_an_epoch_without_a_batch_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"one batch of 32; try --set visual.batch_size=1"):
        ScriptedTrainer([1.0], tmp_path).run(ScriptedLoader(steps_per_epoch=0), ScriptedLoader())
