"""Pruning, fine-tuning and quantization-aware training by the command, and a killed run that is resumed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from kit.networks import initial_weights, recogniser_with
from kit.tiny import tiny_config

from model.checkpoint import DEMO_CHECKPOINT, Checkpoint, load_checkpoint, save_checkpoint
from model.config import labels_of
from model.cost import model_cost
from preprocess.errors import DataError, UsageError
from quantize.__main__ import main
from quantize.prune.groups import channel_groups, cut_channels
from quantize.prune.prune import _kept_features
from quantize.recover.distillation import (
    FEATURES,
    Distillation,
    FineTuning,
    Recovery,
    divergence,
    feature_distance,
)
from recordings.catalogue import scan
from recordings.sources import DataSource

DATA = ("--protocol", "60/20/20", "--workers", "0", "--seed", "2")
QUICK = (*DATA, *(f"--set=training.{setting}" for setting in ("epochs=2", "batch_size=16", "learning_rate=1e-2")))

UNSCANNED = ("--uniform", "--criterion", "scale")


def macs_of(checkpoint):
    return model_cost(checkpoint.config).macs


@pytest.fixture(scope="module")
def original(recordings_folder, tmp_path_factory):
    """A checkpoint of random weights whose classes are those of the recordings."""
    config = tiny_config(labels=labels_of(scan(recordings_folder).refs), norm="batch")
    path = tmp_path_factory.mktemp("recovery") / "original.npz"
    save_checkpoint(path, Checkpoint(config, initial_weights(config), {"random_weights": True}))
    return path


@pytest.fixture(scope="module")
def pruned(original, recordings_folder):
    path = original.with_name("pruned.npz")
    words = ["--checkpoint", str(original), "--macs", "0.7", "--multiple", "1", "--samples", "16", "--out", str(path)]
    words += ["--criterion", "scale"]
    assert main(["prune", *words, "--data", str(recordings_folder), *DATA]) == 0
    return path


@pytest.fixture(scope="module")
def finished(original, pruned, recordings_folder):
    """A fine-tuning that was never interrupted."""
    out = original.with_name("finetune")
    words = ["--checkpoint", str(pruned), "--teacher", str(original), "--out", str(out)]
    assert main(["finetune", *words, "--data", str(recordings_folder), *QUICK]) == 0
    return out / "checkpoint.npz"


def test_a_pruned_checkpoint_is_smaller_and_lists_its_widths(original, pruned):
    before, after = load_checkpoint(original), load_checkpoint(pruned)
    recogniser_with(after.config, after.weights)
    assert macs_of(after) <= 0.7 * macs_of(before)
    pruning = after.history["pruning"]
    assert pruning["command"] == (
        "python -m quantize prune --checkpoint original.npz --macs 0.7 --criterion scale --multiple 1 --samples 16 "
        "--data DIR --protocol 60/20/20 --seed 2"
    )
    assert pruning["widths"] == {group.name: group.width for group in channel_groups(after.config)}
    assert after.history["random_weights"]


def test_an_untrained_network_is_pruned_without_recordings(original, tmp_path, capsys):
    """Cost and speed of a width can be studied before anything is trained."""
    words = ["prune", "--checkpoint", str(original), "--macs", "0.9", "--multiple", "1", *UNSCANNED]
    assert main([*words, "--out", str(tmp_path / "a.npz")]) == 0
    out = capsys.readouterr().out
    assert "visual/stage3" in out
    assert "MACs 0.00" in out
    assert out.splitlines()[-1] == f"checkpoint: {tmp_path / 'a.npz'}"


def test_channels_are_numbered_as_in_the_original(original):
    """Pruned twice: the remaining features are those of the first network."""
    checkpoint = load_checkpoint(original)
    group = FEATURES[0]
    first = {group: np.array([[1, 4, 5, 9, 12]])}
    config, weights = cut_channels(checkpoint.config, checkpoint.weights, first)
    once = Checkpoint(config, weights, {"pruning": {"kept": _kept_features(checkpoint, first)}})
    second = {group: np.array([[0, 2, 4]])}
    twice = Checkpoint(config, weights, {"pruning": {"kept": _kept_features(once, second)}})
    assert _kept_features(twice, {})[group] == [1, 5, 12]


@pytest.mark.slow
def test_fine_tuning_gives_an_ordinary_checkpoint(pruned, finished):
    before, after = load_checkpoint(pruned), load_checkpoint(finished)
    assert after.config == before.config
    history = after.history["recovery"]
    assert history["command"].startswith("python -m quantize finetune --checkpoint pruned.npz --teacher original.npz")
    assert "--set training.epochs=2" in history["command"]
    assert [entry["epoch"] for entry in history["epochs"]] == [1, 2]
    assert history["epochs"][1]["loss"] < history["epochs"][0]["loss"]
    assert after.history["pruning"] == before.history["pruning"]
    changed = {name for name, value in after.weights.items() if not np.array_equal(value, before.weights[name])}
    kernels = ("visual/stem", "audio/stem/conv", "fusion/query", "visual/classifier")
    assert {f"{name}/kernel" for name in kernels} <= changed


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_result(original, pruned, finished, recordings_folder, tmp_path, monkeypatch):
    words = ["finetune", "--checkpoint", str(pruned), "--teacher", str(original), "--out", str(tmp_path)]
    words += ["--data", str(recordings_folder), *QUICK]
    save = FineTuning._save

    def save_and_die(self):
        save(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "_save", save_and_die)
        assert main(words) == 130
    assert not (tmp_path / "checkpoint.npz").exists()
    assert main(words) == 2
    assert main([*words, "--set", "distillation.features=0", "--resume"]) == 2
    assert main([*words, "--checkpoint", str(original), "--resume"]) == 2, "another student"
    assert main([*words, "--resume"]) == 0
    expected, resumed = load_checkpoint(finished), load_checkpoint(tmp_path / "checkpoint.npz")
    assert resumed.history == expected.history
    for name, value in expected.weights.items():
        assert resumed.weights[name].tobytes() == value.tobytes(), name


@pytest.mark.slow
def test_quantization_aware_training_gives_an_ordinary_checkpoint(pruned, recordings_folder, tmp_path, capsys):
    words = ["qat", "--checkpoint", str(pruned), "--out", str(tmp_path), "--calibration", "8", "--json"]
    words += ["--data", str(recordings_folder), *DATA, "--set", "training.epochs=1", "--set", "training.batch_size=16"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["epochs"][0]["epoch"] == 1
    trained = load_checkpoint(tmp_path / "checkpoint.npz")
    assert trained.config == load_checkpoint(pruned).config
    recogniser_with(trained.config, trained.weights)
    command = "python -m quantize qat --checkpoint pruned.npz --calibration 8 --data DIR"
    assert trained.history["qat"]["command"].startswith(command)
    assert main(words) == 2
    assert main([*words, "--resume"]) == 0
    again = load_checkpoint(tmp_path / "checkpoint.npz")
    assert all(again.weights[name].tobytes() == value.tobytes() for name, value in trained.weights.items())


@pytest.mark.slow
def test_iterative_pruning_trains_in_between(original, recordings_folder, tmp_path, capsys):
    out = tmp_path / "small.npz"
    words = ["prune", "--checkpoint", str(original), "--macs", "0.4", "--multiple", "1", "--uniform"]
    words += ["--samples", "8", "--steps", "2", "--out", str(out), "--data", str(recordings_folder), *DATA]
    words += ["--set", "training.epochs=1", "--set", "training.batch_size=16"]
    assert main(words) == 0
    # Zhu & Gupta: after one of two steps 7/8 of the excess has gone.
    assert "step 1 of 2: 47% of the MACs" in capsys.readouterr().err
    small = load_checkpoint(out)
    assert small.history["recovery"]["epochs"][0]["epoch"] == 1
    first = load_checkpoint(tmp_path / "small" / "step1" / "pruned.npz")
    before, half, end = (macs_of(checkpoint) for checkpoint in (load_checkpoint(original), first, small))
    assert half <= 0.475 * before
    assert end <= min(half, 0.4 * before)
    content = out.read_bytes()
    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*words, "--floor", "0.2", "--resume"]) == 2
    assert "other options" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert out.read_bytes() == content


def test_a_budget_of_size_is_met_by_the_file(original, tmp_path, monkeypatch):
    """The size of a file stands here for parameters, so that nothing is exported."""

    def export(package, *words, may_answer_no):
        checkpoint = load_checkpoint(Path(words[words.index("--checkpoint") + 1]))
        return {"size_bytes": model_cost(checkpoint.config).parameters}

    monkeypatch.setattr("quantize.prune.prune.run_command", export)
    limit = 0.8 * model_cost(load_checkpoint(original).config).parameters / 1e6
    out = tmp_path / "a.npz"
    words = ["prune", "--checkpoint", str(original), "--multiple", "1", *UNSCANNED, "--out", str(out)]
    assert main([*words, "--size-mb", str(limit)]) == 0
    parameters = model_cost(load_checkpoint(out).config).parameters / 1e6
    assert 0.75 * limit <= parameters <= limit
    assert main([*words, "--size-mb", "1e-6"]) == 1


@pytest.mark.slow
def test_a_size_is_that_of_a_real_file_though_the_protocol_keeps_nothing_to_test_on(
    recordings_folder, tmp_path, capsys
):
    out = tmp_path / "a.npz"
    words = ["prune", "--size-mb", "2", "--uniform", "--criterion", "magnitude"]  # of the demo
    words += ["--data", str(recordings_folder), "--protocol", "all", "--workers", "0", "--out", str(out)]
    assert main(words) == 0
    assert re.search(r"unpruned: 1\.1\d MB, within the limit of 2 MB: nothing is pruned", capsys.readouterr().err)
    assert model_cost(load_checkpoint(out).config) == model_cost(load_checkpoint(DEMO_CHECKPOINT).config)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("prune", 2, "no budget: give any of --macs"),
        ("prune --macs 0.5 --size-mb 3", 2, "--macs with --size-mb: give any of --macs"),
        ("prune --macs 0.5 --out a.h5", 2, "a checkpoint ends in .npz"),
        ("prune --macs 0.5 --floor 1", 2, "--floor is 1"),
        ("prune --macs 0.5 --steps 2", 2, "--data DIR"),
        ("prune --size-mb 1 --steps 2 --data x", 2, "--steps needs --macs"),
        ("prune --macs 0.5 --resume", 2, "between --steps"),
        ("analyze --form sparse --data x", 2, "invalid choice: 'sparse'"),
        ("analyze --checkpoint no.npz --data x", 4, "no.npz does not exist"),
        ("analyze --data missing", 4, "missing"),
        ("finetune --checkpoint no.npz --data x", 4, "no.npz does not exist"),
        (f"qat --checkpoint {DEMO_CHECKPOINT} --data x --set distillation.features=1", 2, "has no features"),
    ],
)
def test_errors_are_one_line(words, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words.split()[:1], "--out", "a.npz", *words.split()[1:]]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not any(tmp_path.iterdir())


def test_a_teacher_of_other_classes_is_refused(original):
    student = load_checkpoint(original)
    other = replace(student, config=replace(student.config, labels=student.config.labels[:5]))
    with pytest.raises(DataError, match="differ in their labels"):
        Recovery(student, other, None, None, DataSource(), "")


def test_a_teacher_may_have_been_pruned_itself(original):
    """Features are compared on the channels that both have, whatever their numbers."""
    checkpoint = load_checkpoint(original)
    group, width = FEATURES[0], checkpoint.config.visual.stages[-1].residual

    def narrow(kept):
        config, weights = cut_channels(checkpoint.config, checkpoint.weights, {group: np.array([kept])})
        return Checkpoint(config, weights, {"pruning": {"kept": {group: kept}}})

    teacher, student = narrow([1, 4, 5, 9, 12]), narrow([4, 12])
    assert Recovery(student, teacher, None, None, DataSource(), "").kept()[group].tolist() == [1, 4]
    assert Recovery(student, checkpoint, None, None, DataSource(), "").kept()[group].tolist() == [4, 12]
    assert Recovery(checkpoint, checkpoint, None, None, DataSource(), "").kept()[group].tolist() == list(range(width))
    with pytest.raises(DataError, match=f"the student has channels in {group} that the teacher has not"):
        Recovery(teacher, student, None, None, DataSource(), "").kept()


def test_the_divergence_is_softened_and_scaled():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 4, (2, 9, 5)).astype(np.float32)
    p, q = (scipy.special.softmax(np.float64(x) / 3, axis=1) for x in (a, b))
    expected = 9 * scipy.special.rel_entr(p, q).sum(axis=1).mean()
    assert float(divergence(tf.constant(a), tf.constant(b), 3.0)) == pytest.approx(expected, rel=1e-4)


def test_features_are_compared_on_the_remaining_channels():
    rng = np.random.default_rng(1)
    expected = rng.normal(size=(2, 3, 3, 6)).astype(np.float32)
    kept = np.array([0, 2, 5])
    features = expected[..., kept] + 0.5
    power = np.square(expected[..., kept]).sum()
    assert float(feature_distance(expected, features, kept)) == pytest.approx(0.25 * features.size / power, rel=1e-4)
    assert float(feature_distance(expected, expected, np.arange(6))) == 0


@pytest.mark.parametrize("field", ["labels", "features", "temperature"])
def test_weights_of_the_loss_are_checked(field):
    with pytest.raises(UsageError, match=f"{field} is -1"):
        Distillation(**{field: -1})
