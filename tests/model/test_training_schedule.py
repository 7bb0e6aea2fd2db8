"""Schedules, early stopping and the choice of the best epoch, with given losses instead of data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import tf_keras as keras
from kit.tiny import tiny_config

from model.evaluation import silent_audio
from model.recogniser import build_recogniser
from model.settings import StageSettings
from model.training import Stage
from preprocess.errors import AnswerIsNo, DataError


@dataclass
class Scripted:
    """A loader without data."""

    steps_per_epoch: int = 2
    waiting_s: float = 0.0
    problems: tuple = ()

    def epoch(self, number):
        yield from range(self.steps_per_epoch)


class ScriptedStage(Stage):
    """A stage whose validation losses are given and whose steps only count and note the rate."""

    def __init__(self, settings, losses, path):
        recogniser = build_recogniser(tiny_config())
        super().__init__(
            recogniser, "visual", settings, silence=silent_audio(recogniser.config.spec), seed=0, state_path=path
        )
        self.losses, self.rates = list(losses), []
        self.counter = self._variables["visual/classifier/bias"]
        self.counter.assign([0, 0, 0])

    def _step(self, batch, epoch, step):
        self.rates.append(self.state.learning_rate)
        self.counter.assign_add([1, 0, 0])
        return 1.0

    def _validate(self, validation):
        return self.losses[self.state.epoch], 0.5


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """One stage serves all schedules, since building a network takes longer than the rest."""
    stage = ScriptedStage(StageSettings(), [], tmp_path_factory.mktemp("scripted") / "state.npz")

    def run(losses, **settings):
        stage._settings = StageSettings(epochs=len(losses), **settings)
        stage.state = type(stage.state)(learning_rate=stage._settings.learning_rate)
        stage.losses, stage.rates = list(losses), []
        stage.counter.assign([0, 0, 0])
        stage.run(Scripted(), Scripted())
        return stage

    return run


class Bare:
    """What Keras' callbacks need of a model."""

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
    stage = scripted(losses, schedule="plateau", early_stopping=10, learning_rate=1e-2)
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
    assert stage.rates == pytest.approx(rates, rel=1e-5)
    assert [entry["epoch"] for entry in stage.state.history] == list(range(1, len(rates) // 2 + 1))


def test_without_early_stopping_every_epoch_runs(scripted):
    assert len(scripted([1.0] * 15).state.history) == 15


def test_cosine_falls_as_in_keras(scripted):
    rates = scripted([1.0, 1.0, 1.0], schedule="cosine", learning_rate=0.3).rates
    decay = keras.optimizers.schedules.CosineDecay(0.3, decay_steps=6)
    assert rates == pytest.approx([float(decay(step)) for step in range(6)], rel=1e-5)


def test_the_weights_of_the_best_epoch_stay(scripted):
    stage = scripted([3.0, 1.0, 2.0, 1.0, 5.0])
    assert stage.state.best_epoch == 1
    assert stage.counter.numpy()[0] == 4


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_finite_is_a_failure(scripted, broken):
    message = f"the loss became {broken} in stage visual, epoch 2, validation; try a lower rate, e.g. --set visual.lear"
    with pytest.raises(AnswerIsNo, match=message):
        scripted([1.0, broken, 1.0])


def test_an_epoch_without_a_batch_is_an_error(scripted):
    stage = scripted([1.0])
    stage.state.finished = False
    with pytest.raises(
        DataError, match=r"too few usable recordings for one batch of 32; try --set visual.batch_size=1"
    ):
        stage.run(Scripted(steps_per_epoch=0), Scripted())
