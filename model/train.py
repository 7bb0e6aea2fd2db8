"""The training of appendix B: visual alone, audio alone, then the fusion of the two frozen backbones.

Options are checked before TensorFlow is loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.files import atomic_file
from console.options import command_line
from console.program import log, show, show_json
from console.table import format_table
from preprocess.errors import DataError, UsageError
from preprocess.spec import PreprocessSpec
from recordings.actions import class_indices
from recordings.batches import FeatureLoader
from recordings.calibration import audio_statistics
from recordings.catalogue import OnError
from recordings.recording import Input, RecordingRef
from recordings.sources import DataSource
from runtime.manifest import Label

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .config import INPUTS_OF, ModelConfig, labels_of, preset_config
from .evaluation import silent_audio
from .settings import STAGES, Augmentation, StageSettings, TrainingSettings, choose_settings

if TYPE_CHECKING:
    from .recogniser import Weights

CHECKPOINT_NAME = "checkpoint.npz"
_RUN_NAME = "run.json"
_STATISTICS_RECORDINGS = 2000


def train_command(options: argparse.Namespace) -> None:
    """Train, or resume a training, and show the best epoch of each stage.

    The test part of the recordings is not touched. Equal options and recordings give equal checkpoints.

    Raises:
        UsageError: `--out` holds a run and `--resume` is not set, or holds a run with other options or recordings.
        AnswerIsNo: the loss became non-finite.
    """
    settings, seed, workers = choose_settings(TrainingSettings(), options), options.seed, options.workers
    split = DataSource.of(options).split()
    config, origin, initial = _choose_model(options, labels_of([*split.train, *split.validation, *split.test]))
    log(
        f"{len(config.labels)} classes; {len(split.train)} recordings to train on, {len(split.validation)} to "
        f"validate, {len(split.test)} left for the test ({options.protocol})"
    )
    import tensorflow as tf

    from .recogniser import build_recogniser
    from .trainer import Stage

    tf.config.experimental.enable_op_determinism()
    names = "\n".join(ref.name for part in (split.train, split.validation) for ref in part)
    plan = {
        "config": config.to_dict(),
        "settings": asdict(settings),
        "recordings": hashlib.sha256(names.encode()).hexdigest(),
        "seed": seed,
        "initial": origin,
    }

    def statistics() -> dict[str, Any]:
        mean, std = audio_statistics(split.train, config.spec, limit=_STATISTICS_RECORDINGS, workers=workers, seed=seed)
        return {"mean": mean, "std": std}

    run = open_run(options.out, plan, resume=options.resume, start=statistics)
    audio = replace(config.spec.audio, mean=tuple(run["mean"]), std=tuple(run["std"]))
    config = replace(config, spec=replace(config.spec, audio=audio))
    recogniser = build_recogniser(config, seed=seed, dropout=settings.fusion.dropout)
    if initial:
        recogniser.set_weights(fitting_weights(recogniser.weights(), origin, initial))
    stages: dict[str, Any] = {}
    for name in STAGES:
        constants: StageSettings = getattr(settings, name)
        path, silence = options.out / f"{name}.state.npz", silent_audio(config.spec)
        stage = Stage(recogniser, name, constants, silence=silence, seed=seed, state_path=path)
        if stage.resume():
            log(f"{name}: resumed after epoch {stage.state.epoch}")
        inputs = INPUTS_OF["fused" if name == "fusion" else name]
        open_loader = partial(feature_loader, inputs=inputs, seed=seed, workers=workers, on_error=options.on_error)
        with (
            open_loader(split.train, config, constants, settings.augmentation) as training,
            open_loader(split.validation, config, constants, None) as validation,
        ):
            stage.run(training, validation)
        stages[name] = {"best_epoch": stage.state.best_epoch + 1, "epochs": stage.state.history}
    history = {
        "command": command_line(options),
        "seed": seed,
        "settings": plan["settings"],
        "recordings": {"train": len(split.train), "validation": len(split.validation)},
        "initial": origin,
        "tensorflow": tf.__version__,
        "stages": stages,
    }
    path = options.out / CHECKPOINT_NAME
    save_checkpoint(path, Checkpoint(config, recogniser.weights(), history))
    if options.json:
        show_json({"checkpoint": os.fspath(path), **load_checkpoint(path).history})
        return
    rows = [
        [name, str(len(stage["epochs"])), str(best["epoch"]), f"{100 * best['validation_accuracy']:.1f} %"]
        for name, stage in stages.items()
        for best in [stage["epochs"][stage["best_epoch"] - 1]]
    ]
    show(format_table(["stage", "epochs", "best", "validation accuracy"], rows))
    show(f"\ncheckpoint: {path}")


def _choose_model(options: argparse.Namespace, labels: tuple[Label, ...]) -> tuple[ModelConfig, str, Weights | None]:
    """The configuration, the origin of the initial weights, and those weights, None for random ones."""
    depth, norm = options.visual_depth, options.audio_norm
    config = preset_config(options.preset, labels, visual_depth=depth, audio_norm=norm)
    if options.inputs:
        config = replace(config, spec=PreprocessSpec.preset(options.inputs))
    if options.layer_scale is not None:
        config = replace(config, audio=replace(config.audio, layer_scale_init=options.layer_scale))
    if options.init == "random":
        return config, "random", None
    if options.init == "imagenet":
        from .imagenet import imagenet_start

        config, weights = imagenet_start(config)
        return config, "imagenet", weights
    return config, os.fspath(options.init), load_checkpoint(options.init).weights


def open_run(
    out: Path, plan: Mapping[str, Any], *, resume: bool, start: Callable[[], dict[str, Any]] = dict
) -> dict[str, Any]:
    """Start the run in `out` or reopen it.

    Args:
        out: folder of the run.
        plan: must be equal for a run to be resumed; JSON types, tuples allowed.
        resume: reopen an existing run.
        start: computes further values to keep with a new run.

    Returns:
        The values of `start` from when the run began.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds a run of another plan.
        DataError: the run in `out` is damaged.
    """
    path = out / _RUN_NAME
    if not path.exists():
        if resume:
            log(f"{out} holds no run yet; starting one")
        kept = start()
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps({"plan": plan, **kept}), encoding="utf-8")
        return kept
    if not resume:
        raise UsageError(f"{out} holds a training run; continue it with --resume or choose another --out")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}; start again with another --out") from error
    # The round trip through JSON turns tuples into lists on both sides.
    if run.pop("plan") != json.loads(json.dumps(plan)):
        raise UsageError(f"{out} holds a run with other options or recordings; choose another --out")
    return dict(run)


def fitting_weights(random: Weights, origin: str, initial: Weights) -> Weights:
    """The `random` weights of a model, replaced by weights of `initial` with the same name and shape.

    Raises:
        DataError: no weight of `initial` fits.
    """
    fitting = {name: value for name, value in initial.items() if name in random and random[name].shape == value.shape}
    if not fitting:
        raise DataError(
            f"no weight of {origin} has a name and shape of this model; check --preset, or leave out --init"
        )
    if len(fitting) < len(random):
        log(f"{len(fitting)} of {len(random)} tensors start from {origin}, the others at random")
    return random | fitting


def feature_loader(
    refs: Sequence[RecordingRef],
    config: ModelConfig,
    settings: StageSettings,
    augmentation: Augmentation | None,
    *,
    inputs: tuple[Input, ...],
    seed: int,
    workers: int,
    on_error: OnError,
) -> FeatureLoader:
    """Batches for training, shuffled and varied by `augmentation`; without augmentation, for validation."""
    training = augmentation is not None
    skeleton, audio = augmentation or (None, None)
    return FeatureLoader(
        refs,
        class_indices(refs, config.codes),
        config.spec,
        batch_size=settings.batch_size,
        seed=seed,
        workers=workers,
        inputs=inputs,
        shuffle=training,
        drop_remainder=training and len(refs) >= settings.batch_size,
        skeleton_augmentation=skeleton,
        audio_augmentation=audio,
        on_error=on_error,
    )
