"""Training: what a step does, the three stages, and runs that survive being killed."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.tiny import tiny_config

from model.checkpoint import load_checkpoint
from model.config import labels_of
from model.evaluation import silent_audio
from model.recogniser import build_recogniser
from model.settings import StageSettings, TrainingSettings
from model.train import TrainingPlan, fitting_weights, train
from model.training import Stage, _draw_lost
from preprocess.errors import AnswerIsNo, DataError, UsageError
from recordings.batches import Batch
from recordings.catalogue import scan
from recordings.protocols import split

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("visual", "audio", "fusion")


@pytest.fixture(scope="module")
def batch():
    rng, spec = np.random.default_rng(0), tiny_config().spec
    return Batch(
        rng.random((4, *spec.skeleton.shape)).astype(np.float32),
        rng.normal(size=(4, *spec.audio.shape)).astype(np.float32),
        np.array([0, 1, 2, 0], np.int32),
        ("a", "b", "c", "d"),
    )


def make_stage(name, path, **settings):
    recogniser = build_recogniser(tiny_config(), dropout=0.5)
    stage = Stage(
        recogniser,
        name,
        replace(getattr(TrainingSettings(), name), **settings),
        silence=silent_audio(recogniser.config.spec),
        seed=0,
        state_path=path,
    )
    return recogniser, stage


def test_a_loss_that_is_not_finite_names_stage_and_step(tmp_path, batch):
    _, stage = make_stage("visual", tmp_path / "state.npz")
    broken = replace(batch, skeleton=np.full_like(batch.skeleton, np.nan))
    message = r"the loss became nan in stage visual, epoch 1, step 1; try .* --set visual.learning_rate=0.0001"
    with pytest.raises(AnswerIsNo, match=message):
        stage._step(broken, 0, 0)


def test_fusion_step_trains_the_head_alone_and_clips(tmp_path, batch):
    recogniser, stage = make_stage("fusion", tmp_path / "state.npz", clip_norm=1e-3)
    before = recogniser.weights()
    stage._step(batch, 0, 0)
    after = recogniser.weights()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert {name.split("/")[0] for name in changed} == {"fusion"}
    # Adam's first moments after one step are a tenth of the gradient that it was given.
    norm = math.sqrt(sum(float((m.numpy().astype(np.float64) ** 2).sum()) for m in stage._optimizer._momentums))
    assert norm == pytest.approx(0.1 * 1e-3, rel=1e-4)


def test_kernels_decay_and_norms_and_biases_do_not(tmp_path, batch):
    weights = {}
    for decay in (0.0, 0.5):
        recogniser, stage = make_stage("audio", tmp_path / "state.npz", weight_decay=decay, learning_rate=1e-2)
        start = recogniser.weights()
        stage._step(batch, 0, 0)
        weights[decay] = recogniser.weights()
    for name in (variable.name.removesuffix(":0") for variable in recogniser.audio.trainable_variables):
        expected = 1e-2 * 0.5 * start[name] if name.endswith("kernel") else np.zeros_like(start[name])
        np.testing.assert_allclose(weights[0.0][name] - weights[0.5][name], expected, atol=1e-6, err_msg=name)


def test_label_smoothing_is_that_of_szegedy(tmp_path):
    """Inception v3, section 7: a share ε of the target is spread over all classes."""
    _, stage = make_stage("fusion", tmp_path / "state.npz")
    logits = np.array([[2.0, 0.5, -1.0]])
    log_p = logits[0] - math.log(np.exp(logits[0]).sum())
    expected = -sum((0.9 * (k == 1) + 0.1 / 3) * log_p[k] for k in range(3))
    assert float(stage._loss([[0.0, 1.0, 0.0]], logits)) == pytest.approx(expected, rel=1e-6)


def test_a_lost_modality_is_silence_or_an_empty_heatmap(tmp_path, batch, monkeypatch):
    recogniser, stage = make_stage("fusion", tmp_path / "state.npz", modality_dropout=0.5)
    monkeypatch.setattr("model.training._draw_lost", lambda rng, count, rate: np.array([0, 1, 2, 0], np.int32))
    seen = {}
    original = recogniser.features.call
    monkeypatch.setattr(
        recogniser.features, "call", lambda inputs, **options: seen.update(inputs=inputs) or original(inputs, **options)
    )
    stage._train_step = stage._train_step_eager
    stage._step(batch, 0, 0)
    skeleton, audio = (tensor.numpy() for tensor in seen["inputs"])
    np.testing.assert_array_equal(skeleton[[0, 2, 3]], batch.skeleton[[0, 2, 3]])
    np.testing.assert_array_equal(skeleton[1], 0)
    np.testing.assert_array_equal(audio[[0, 1, 3]], batch.audio[[0, 1, 3]])
    np.testing.assert_array_equal(audio[2], silent_audio(recogniser.config.spec))


@given(st.floats(0, 0.9))
def test_modality_dropout_loses_either_input_equally_often(rate):
    lost = _draw_lost(np.random.default_rng(0), 20_000, rate)
    assert np.mean(lost == 1) == pytest.approx(rate / 2, abs=0.02)
    assert np.mean(lost == 2) == pytest.approx(rate / 2, abs=0.02)


SETTINGS = TrainingSettings(
    visual=StageSettings(epochs=3, batch_size=8, learning_rate=1e-2),
    audio=StageSettings(epochs=2, batch_size=8, learning_rate=1e-2, schedule="cosine"),
    fusion=StageSettings(
        epochs=3, batch_size=8, learning_rate=1e-2, schedule="cosine", clip_norm=1.0, dropout=0.5, modality_dropout=0.3
    ),
)


def plan_for(folder, *, settings=SETTINGS, seed=4):
    refs = scan(Path(folder)).refs
    return TrainingPlan(tiny_config(labels=labels_of(refs)), settings, split(refs, "60/20/20", seed=seed), seed)


def run_plan(plan, out, *, resume=False, workers=0):
    return train(plan, out, command="a command", workers=workers, resume=resume, on_error="raise")


@pytest.fixture(scope="module")
def finished(recordings_folder, tmp_path_factory):
    """A run that was never interrupted, made without worker processes."""
    out = tmp_path_factory.mktemp("training") / "run"
    return plan_for(recordings_folder), run_plan(plan_for(recordings_folder), out)


def test_all_stages_run_and_are_told(finished):
    plan, path = finished
    checkpoint = load_checkpoint(path)
    history = checkpoint.history
    assert history["command"] == "a command"
    assert history["settings"] == json.loads(json.dumps(SETTINGS.to_dict()))
    assert history["recordings"] == {"train": len(plan.split.train), "validation": len(plan.split.validation)}
    for name in STAGES:
        stage = history["stages"][name]
        assert [entry["epoch"] for entry in stage["epochs"]] == list(range(1, getattr(SETTINGS, name).epochs + 1))
        losses = [entry["validation_loss"] for entry in stage["epochs"]]
        assert stage["best_epoch"] == losses.index(min(losses)) + 1
        assert all(math.isfinite(value) for entry in stage["epochs"] for value in entry.values())
    build_recogniser(checkpoint.config).set_weights(checkpoint.weights)


def test_the_checkpoint_standardises_audio_with_the_training_set(finished):
    plan, path = finished
    audio = load_checkpoint(path).config.spec.audio
    assert audio.mean != plan.config.spec.audio.mean
    assert audio.std != plan.config.spec.audio.std


def test_fusion_leaves_both_backbones_as_their_stages_left_them(finished):
    """To the bit, moving statistics included."""
    _, path = finished
    weights = load_checkpoint(path).weights
    compared = set()
    for name in STAGES:
        with np.load(path.parent / f"{name}.state.npz") as state:
            best = {key.removeprefix("best/"): state[key] for key in state.files if key.startswith("best/")}
        for key, value in best.items():
            assert weights[key].tobytes() == value.tobytes(), key
        compared |= best.keys()
    assert compared == weights.keys()
    assert any("moving_mean" in key for key in compared)


CHILD = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
from test_training import plan_for, run_plan
folder, out, resume = sys.argv[1:]
run_plan(plan_for(folder), Path(out), resume=resume == "resume", workers=1)
"""


@contextlib.contextmanager
def training_process(folder, out, resume):
    """A real training process; it is killed with SIGKILL when the block ends, if it still runs."""
    command = [sys.executable, "-c", CHILD, str(folder), str(out), resume]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.stderr.close()
        child.wait(20)


def wait_for(child, start):
    lines = []
    for line in child.stderr:
        lines.append(line)
        if line.startswith(start):
            return lines
    raise AssertionError("".join(lines))


@pytest.mark.slow
def test_killed_twice_and_resumed_a_run_ends_with_the_same_weights(finished, recordings_folder, tmp_path):
    _, path = finished
    out = tmp_path / "run"
    with training_process(recordings_folder, out, "fresh") as child:
        wait_for(child, "visual epoch 2/3")
    assert not (out / "checkpoint.npz").exists()
    with training_process(recordings_folder, out, "resume") as child:
        lines = wait_for(child, "fusion epoch 1/3")
    assert any(line.startswith("visual: resumed after epoch") for line in lines)
    assert not (out / "checkpoint.npz").exists()
    resumed, expected = load_checkpoint(run_plan(plan_for(recordings_folder), out, resume=True)), load_checkpoint(path)
    assert resumed.config == expected.config
    assert resumed.history == expected.history
    assert resumed.weights.keys() == expected.weights.keys()
    for name, value in expected.weights.items():
        assert resumed.weights[name].tobytes() == value.tobytes(), name


def test_an_existing_run_is_refused(finished):
    plan, path = finished
    with pytest.raises(UsageError, match=r"holds a training run; continue it with --resume or choose another --out"):
        run_plan(plan, path.parent)


@pytest.mark.parametrize("change", ["settings", "seed", "recordings", "initial"])
def test_a_run_is_not_resumed_with_other_options(finished, recordings_folder, change):
    plan, path = finished
    other = {
        "settings": lambda: replace(plan, settings=SETTINGS.with_overrides(["visual.epochs=4"])),
        "seed": lambda: replace(plan, seed=5),
        "recordings": lambda: replace(plan, split=split(scan(recordings_folder).refs, "60/20/20", seed=9)),
        "initial": lambda: replace(plan, initial=("other.npz", {})),
    }[change]()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="holds a run with other options or recordings; choose another --out"):
        run_plan(other, path.parent, resume=True)
    assert path.read_bytes() == before


def test_a_run_starts_from_the_weights_that_fit(capsys):
    random = {name: np.zeros(shape, np.float32) for name, shape in {"a": (2,), "b": (3, 4), "c": (5,)}.items()}
    start = {"a": np.ones(2, np.float32), "b": np.ones((3, 5), np.float32), "other": np.ones(5, np.float32)}
    found = fitting_weights(random, "other.npz", start)
    assert {name: (value.shape, value.max()) for name, value in found.items()} == {
        "a": ((2,), 1),
        "b": ((3, 4), 0),
        "c": ((5,), 0),
    }
    assert "1 of 3 tensors start from other.npz" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"no weight of other\.npz has a name and shape of this model"):
        fitting_weights({"c": random["c"]}, "other.npz", start)


def test_a_damaged_state_is_bad_data(finished, tmp_path):
    _, stage = make_stage("visual", tmp_path / "visual.state.npz")
    (tmp_path / "visual.state.npz").write_bytes((finished[1].parent / "visual.state.npz").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"visual\.state\.npz is damaged"):
        stage.resume()


def test_a_damaged_run_is_bad_data(finished, tmp_path):
    (tmp_path / "run.json").write_text('{"plan": ')
    with pytest.raises(DataError, match=r"run\.json is damaged: .*; start again with another --out"):
        run_plan(finished[0], tmp_path, resume=True)


def test_classes_come_from_the_recordings(recordings_folder):
    refs = scan(recordings_folder).refs
    labels = labels_of(refs)
    assert [label.code for label in labels] == sorted({f"A{ref.action:03d}" for ref in refs})
    with pytest.raises(DataError, match=r"the recordings hold 1 class .*; training needs at least two"):
        labels_of([ref for ref in refs if ref.action == refs[0].action])
