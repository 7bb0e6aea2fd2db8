"""The training of appendix B: visual alone, audio alone, then the fusion of the two frozen backbones."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from console.files import atomic_file
from console.options import command_line
from console.program import log, show, show_json
from console.table import format_table
from preprocess.errors import DataError, UsageError
from preprocess.spec import PreprocessSpec
from recordings.actions import class_indices
from recordings.batches import FeatureLoader
from recordings.calibration import audio_statistics
from recordings.catalogue import OnError, Split
from recordings.recording import Input, RecordingRef
from recordings.sources import DataSource

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .config import INPUTS_OF, ModelConfig, labels_of, preset_config
from .evaluation import silent_audio
from .imagenet import imagenet_start
from .recogniser import Weights, build_recogniser
from .settings import STAGES, Augmentation, StageSettings, TrainingSettings, choose_settings
from .training import Stage

CHECKPOINT_NAME = "checkpoint.npz"
_RUN_NAME = "run.json"
_STATISTICS_RECORDINGS = 2000


def train_command(options: argparse.Namespace) -> None:
    """Train, or resume a training, and show the best epoch of each stage."""
    settings = choose_settings(TrainingSettings(), options)
    parts = DataSource.of(options).split()
    config = preset_config(
        options.preset,
        labels_of([*parts.train, *parts.validation, *parts.test]),
        visual_depth=options.visual_depth,
        audio_norm=options.audio_norm,
    )
    if options.inputs:
        config = config.with_spec(PreprocessSpec.preset(options.inputs))
    if options.layer_scale is not None:
        config = replace(config, audio=replace(config.audio, layer_scale_init=options.layer_scale))
    initial = None
    if options.init == "imagenet":
        config, weights = imagenet_start(config)
        initial = ("imagenet", weights)
    elif options.init != "random":
        initial = (os.fspath(options.init), load_checkpoint(options.init).weights)
    log(
        f"{len(config.labels)} classes; {len(parts.train)} recordings to train on, {len(parts.validation)} to "
        f"validate, {len(parts.test)} left for the test ({options.protocol})"
    )
    path = train(
        TrainingPlan(config, settings, parts, options.seed, initial),
        options.out,
        command=command_line(options),
        workers=options.workers,
        resume=options.resume,
        on_error=options.on_error,
    )
    history = load_checkpoint(path).history
    if options.json:
        show_json({"checkpoint": os.fspath(path), **history})
        return
    rows = [
        [name, str(len(stage["epochs"])), str(best["epoch"]), f"{100 * best['validation_accuracy']:.1f} %"]
        for name, stage in history["stages"].items()
        for best in [stage["epochs"][stage["best_epoch"] - 1]]
    ]
    show(format_table(["stage", "epochs", "best", "validation accuracy"], rows))
    show(f"\ncheckpoint: {path}")


@dataclass(frozen=True)
class TrainingPlan:
    """What a run trains on and how; equal plans give equal checkpoints.

    Attributes:
        config: the model; its specification's mean and std are replaced by the training set's.
        settings: constants of the stages.
        split: recordings; the test part is not touched.
        seed: seeds weights, order, augmentation and dropout.
        initial: name and weights of a start other than random; weights that do not fit stay random.
    """

    config: ModelConfig
    settings: TrainingSettings
    split: Split
    seed: int
    initial: tuple[str, Weights] | None = None

    def fingerprint(self) -> dict[str, Any]:
        """The values that must be equal for a run to be resumed."""
        names = "\n".join(ref.name for part in (self.split.train, self.split.validation) for ref in part)
        return {
            "config": self.config.to_dict(),
            "settings": asdict(self.settings),
            "recordings": hashlib.sha256(names.encode()).hexdigest(),
            "seed": self.seed,
            "initial": self.initial[0] if self.initial else "random",
        }


def train(plan: TrainingPlan, out: Path, *, command: str, workers: int, resume: bool, on_error: OnError) -> Path:
    """Run or resume the three stages in folder `out` and return the path of the checkpoint.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds a run of another plan.
        AnswerIsNo: the loss became non-finite.
    """
    tf.config.experimental.enable_op_determinism()
    spec = plan.config.spec

    def statistics() -> dict[str, Any]:
        mean, std = audio_statistics(
            plan.split.train, spec, limit=_STATISTICS_RECORDINGS, workers=workers, seed=plan.seed
        )
        return {"mean": mean, "std": std}

    run = open_run(out, plan.fingerprint(), resume=resume, start=statistics)
    mean, std = tuple(run["mean"]), tuple(run["std"])
    config = plan.config.with_spec(replace(spec, audio=replace(spec.audio, mean=mean, std=std)))
    recogniser = build_recogniser(config, seed=plan.seed, dropout=plan.settings.fusion.dropout)
    if plan.initial:
        recogniser.set_weights(fitting_weights(recogniser.weights(), *plan.initial))
    histories: dict[str, Any] = {}
    for name in STAGES:
        constants: StageSettings = getattr(plan.settings, name)
        stage = Stage(
            recogniser,
            name,
            constants,
            silence=silent_audio(config.spec),
            seed=plan.seed,
            state_path=out / f"{name}.state.npz",
        )
        if stage.resume():
            log(f"{name}: resumed after epoch {stage.state.epoch}")
        inputs = INPUTS_OF["fused" if name == "fusion" else name]
        open_loader = partial(feature_loader, inputs=inputs, seed=plan.seed, workers=workers, on_error=on_error)
        with (
            open_loader(plan.split.train, config, constants, plan.settings.augmentation) as training,
            open_loader(plan.split.validation, config, constants, None) as validation,
        ):
            stage.run(training, validation)
        histories[name] = {"best_epoch": stage.state.best_epoch + 1, "epochs": stage.state.history}
    history = {
        "command": command,
        "seed": plan.seed,
        "settings": asdict(plan.settings),
        "recordings": {"train": len(plan.split.train), "validation": len(plan.split.validation)},
        "initial": plan.initial[0] if plan.initial else "random",
        "tensorflow": tf.__version__,
        "stages": histories,
    }
    path = out / CHECKPOINT_NAME
    save_checkpoint(path, Checkpoint(config, recogniser.weights(), history))
    return path


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
