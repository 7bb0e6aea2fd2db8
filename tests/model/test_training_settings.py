"""Constants of the training stages, and how a file and the command line change them."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from model.settings import TrainingSettings, choose_settings, override, read_settings
from preprocess.errors import DataError, UsageError

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))


def test_defaults_are_the_constants_of_appendix_b():
    settings = asdict(TrainingSettings())
    plateau = {"schedule": "plateau", "plateau_factor": 0.1, "plateau_patience": 5, "early_stopping": 10}
    smooth = {"label_smoothing": 0.1, "clip_norm": 1.0, "dropout": 0.5}
    body = {"rotation_deg": 15.0, "flip_probability": 0.5, "frame_step": 2, "joint_dropout": 0.1, "noise_m": 0.01}
    expected = {
        "visual": {"learning_rate": 3e-4, "batch_size": 32, "epochs": 100, **plateau},
        "audio": {"learning_rate": 3e-4, "batch_size": 5, "schedule": "cosine"},
        "fusion": {"learning_rate": 1e-4, "batch_size": 16, "schedule": "cosine", **smooth},
        "skeleton_augmentation": body,
        "audio_augmentation": {"pitch_semitones": 2.0, "stretch": 0.1},
    }
    for part, constants in expected.items():
        assert {name: settings[part][name] for name in constants} == constants


def test_set_wins_over_the_file_and_both_keep_types(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("""
        [visual]
        epochs = 3
        schedule = "cosine"
        [fusion]
        clip_norm = 2
        learning_rate = 5e-4
        [skeleton_augmentation]
        noise_m = 0
    """)
    options = Namespace(settings=path, set=["visual.epochs=4", "audio.schedule=plateau", "fusion.dropout=0"])
    default = TrainingSettings()
    settings = choose_settings(default, options)
    assert settings == replace(
        default,
        visual=replace(default.visual, epochs=4, schedule="cosine"),
        audio=replace(default.audio, schedule="plateau"),
        fusion=replace(default.fusion, clip_norm=2.0, learning_rate=5e-4, dropout=0.0),
        skeleton_augmentation=replace(default.skeleton_augmentation, noise_m=0.0),
    )
    changed = settings.fusion.clip_norm, settings.fusion.dropout, settings.skeleton_augmentation.noise_m
    assert {type(value) for value in changed} == {float}
    assert choose_settings(default, Namespace(settings=None, set=[])) == default


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=3", "--set 'epochs=3': write PART.FIELD=VALUE"),
        ("video.epochs=3", "no part 'video'; use one of visual, audio, fusion, skel"),
        ("visual.momentum=0.9", "no field 'momentum'; use one of epochs, batch_size, learning_rate"),
        ("visual.epochs=3.5", "'3.5' is no int"),
        ("visual.learning_rate=fast", "'fast' is no float"),
        ("visual.learning_rate=nan", "learning_rate is nan, which is out of its range"),
        ("visual.epochs=0", "epochs is 0, which is out of its range"),
        ("visual.schedule=step", "schedule is 'step'"),
        ("skeleton_augmentation.rotation_deg=999", "rotation_deg=999': augmentation rotation_deg is 999.0; use a num"),
    ],
)
def test_set_refuses_what_cannot_be(assignment, message):
    with pytest.raises(UsageError) as error:
        override(TrainingSettings(), [assignment])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("visual = ", "is no TOML file: "),
        ("epochs = 3", "'epochs' stands outside of a table"),
        ("[video]\nepochs = 3", "video.epochs: there is no part 'video'"),
        ("[visual]\nepochs = true", "visual.epochs: True is no int"),
        ("[visual]\nlearning_rate = nan", "visual.learning_rate: learning_rate is nan"),
        ("[audio]\nschedule = 3", "audio.schedule: 3 is no str"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_settings(TrainingSettings(), path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_project_can_be_read(path):
    from quantize.recover.distillation import RecoverySettings

    defaults = RecoverySettings() if "[training]" in path.read_text() else TrainingSettings()
    assert read_settings(defaults, path) != defaults
