"""The whole training of appendix B: visual alone, audio alone, then the fusion of the two frozen backbones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from console.files import atomic_file
from console.program import log
from preprocess.errors import DataError, UsageError
from recordings.actions import class_indices
from recordings.batches import FeatureLoader
from recordings.catalogue import OnError
from recordings.protocols import Split
from recordings.recording import Input, RecordingRef
from recordings.statistics import audio_statistics

from .checkpoint import Checkpoint, save_checkpoint
from .config import ModelConfig
from .evaluation import silent_audio
from .recogniser import Weights, build_recogniser
from .settings import STAGES, Augmentation, StageName, StageSettings, TrainingSettings
from .training import Stage

CHECKPOINT_NAME = "checkpoint.npz"
_RUN_NAME = "run.json"
_STATISTICS_RECORDINGS = 2000
_INPUTS: dict[StageName, tuple[Input, ...]] = {
    "visual": ("skeleton",),
    "audio": ("audio",),
    "fusion": ("skeleton", "audio"),
}


@dataclass(frozen=True)
class TrainingPlan:
    """What a run trains on and how; equal plans give equal checkpoints.

    Attributes:
        config: the model; its specification's mean and std are replaced by the training set's.
        settings: constants of the stages.
        split: recordings; the test part is not touched.
        seed: seeds weights, order, augmentation and dropout.
        initial: where weights to start from come from, and these; those that do not fit stay random.
    """

    config: ModelConfig
    settings: TrainingSettings
    split: Split
    seed: int
    initial: tuple[str, Weights] | None = None

    def fingerprint(self) -> dict[str, Any]:
        """What must agree for a run to be resumed."""
        names = "\n".join(ref.name for part in (self.split.train, self.split.validation) for ref in part)
        return {
            "config": self.config.to_dict(),
            "settings": self.settings.to_dict(),
            "recordings": hashlib.sha256(names.encode()).hexdigest(),
            "seed": self.seed,
            "initial": self.initial[0] if self.initial else "random",
        }


def train(plan: TrainingPlan, out: Path, *, command: str, workers: int, resume: bool, on_error: OnError) -> Path:
    """Runs or resumes the three stages in folder `out` and returns the path of the checkpoint.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds a run of another plan.
        AnswerIsNo: the loss became non-finite.
    """
    tf.config.experimental.enable_op_determinism()
    config = _open_run(plan, out, resume=resume, workers=workers)
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
        open_loader = partial(feature_loader, inputs=_INPUTS[name], seed=plan.seed, workers=workers, on_error=on_error)
        with (
            open_loader(plan.split.train, config, constants, plan.settings.augmentation) as training,
            open_loader(plan.split.validation, config, constants, None) as validation,
        ):
            stage.run(training, validation)
        histories[name] = {"best_epoch": stage.state.best_epoch + 1, "epochs": stage.state.history}
    history = {
        "command": command,
        "seed": plan.seed,
        "settings": plan.settings.to_dict(),
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
    """Starts the run in `out` or reopens it.

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
    """The `random` weights of a model, those replaced that `initial` has under the same name and in the same shape.

    Raises:
        DataError: none fits.
    """
    fitting = {name: value for name, value in initial.items() if name in random and random[name].shape == value.shape}
    if not fitting:
        raise DataError(
            f"no weight of {origin} has a name and shape of this model; check --preset, or leave out --init"
        )
    if len(fitting) < len(random):
        log(f"{len(fitting)} of {len(random)} tensors start from {origin}, the others at random")
    return random | fitting


def _open_run(plan: TrainingPlan, out: Path, *, resume: bool, workers: int) -> ModelConfig:
    """Starts or reopens the run in `out`; the configuration comes back with the training set's statistics."""
    spec = plan.config.spec

    def statistics() -> dict[str, Any]:
        mean, std = audio_statistics(
            plan.split.train, spec, limit=_STATISTICS_RECORDINGS, workers=workers, seed=plan.seed
        )
        return {"mean": mean, "std": std}

    run = open_run(out, plan.fingerprint(), resume=resume, start=statistics)
    mean, std = tuple(run["mean"]), tuple(run["std"])
    return plan.config.with_spec(replace(spec, audio=replace(spec.audio, mean=mean, std=std)))


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
    """Batches to train on, shuffled and varied by `augmentation`; without it, to validate on."""
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
