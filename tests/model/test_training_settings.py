"""Constants of the training stages and how the command line changes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kit.tiny import THREE_LABELS

from model.config import FusionConfig, preset_config
from model.settings import TrainingSettings
from preprocess.errors import UsageError


def test_defaults_are_the_constants_of_appendix_b():
    settings = TrainingSettings().to_dict()
    expected = {
        "visual": {
            "learning_rate": 3e-4,
            "schedule": "plateau",
            "plateau_factor": 0.1,
            "plateau_patience": 5,
            "batch_size": 32,
            "epochs": 100,
            "early_stopping": 10,
        },
        "audio": {"learning_rate": 3e-4, "schedule": "cosine", "batch_size": 5},
        "fusion": {
            "learning_rate": 1e-4,
            "schedule": "cosine",
            "batch_size": 16,
            "label_smoothing": 0.1,
            "clip_norm": 1.0,
            "dropout": 0.5,
        },
        "skeleton_augmentation": {
            "rotation_deg": 15.0,
            "flip_probability": 0.5,
            "frame_step": 2,
            "joint_dropout": 0.1,
            "noise_m": 0.01,
        },
        "audio_augmentation": {"pitch_semitones": 2.0, "stretch": 0.1},
    }
    for part, constants in expected.items():
        assert {name: settings[part][name] for name in constants} == constants
    assert preset_config("paper", THREE_LABELS).fusion == FusionConfig(256, 256, 4, 64, 64)


def test_set_changes_what_it_names_and_keeps_types():
    settings = TrainingSettings().with_overrides(
        ["visual.epochs=3", "audio.schedule=plateau", "fusion.clip_norm=2", "skeleton_augmentation.noise_m=0"]
    )
    default = TrainingSettings()
    assert settings == replace(
        default,
        visual=replace(default.visual, epochs=3),
        audio=replace(default.audio, schedule="plateau"),
        fusion=replace(default.fusion, clip_norm=2.0),
        skeleton_augmentation=replace(default.skeleton_augmentation, noise_m=0.0),
    )
    assert isinstance(settings.fusion.clip_norm, float)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=3", r"--set 'epochs=3' must read PART.FIELD=VALUE with PART one of visual, audio, fusion, skel"),
        ("visual.epochs", "must read PART.FIELD=VALUE"),
        ("video.epochs=3", "must read PART.FIELD=VALUE"),
        ("visual.momentum=0.9", "visual has no field 'momentum'; it has epochs, batch_size, learning_rate"),
        ("visual.epochs=3.5", "'3.5' is no int"),
        ("visual.learning_rate=fast", "'fast' is no float"),
        ("visual.learning_rate=nan", "learning_rate is nan, which is out of its range"),
        ("visual.learning_rate=inf", "learning_rate is inf, which is out of its range"),
        ("audio.weight_decay=inf", "weight_decay is inf"),
        ("visual.epochs=0", "epochs is 0, which is out of its range"),
        ("visual.schedule=step", "schedule is 'step'"),
        ("fusion.label_smoothing=1", "label_smoothing is 1.0"),
        ("skeleton_augmentation.rotation_deg=999", r"rotation_deg=999': augmentation rotation_deg is 999.0; use a num"),
    ],
)
def test_set_refuses_what_cannot_be(assignment, message):
    with pytest.raises(UsageError, match=message):
        TrainingSettings().with_overrides([assignment])
