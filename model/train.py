"""The whole training of appendix B: visual alone, audio alone, then the fusion of the two frozen backbones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from console.files import atomic_file
from console.program import log, warn
from preprocess.errors import DataError, UsageError
from recordings.batches import FeatureLoader, Input
from recordings.catalogue import OnError
from recordings.protocols import Split
from recordings.recording import RecordingRef
from recordings.statistics import audio_statistics

from .checkpoint import Checkpoint, save_checkpoint
from .classes import label_indices
from .config import ModelConfig
from .evaluation import silent_audio
from .recogniser import Weights, build_recogniser
from .settings import STAGES, StageName, TrainingSettings
from .training import Stage

CHECKPOINT_NAME = "checkpoint.npz"
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
        stage = Stage(
            recogniser,
            name,
            getattr(plan.settings, name),
            silence=silent_audio(config.spec),
            seed=plan.seed,
            state_path=out / f"{name}.state.npz",
        )
        if stage.resume():
            log(f"{name}: resumed after epoch {stage.state.epoch}")
        with (
            _loader(plan, plan.split.train, config, name, workers, on_error, training=True) as training,
            _loader(plan, plan.split.validation, config, name, workers, on_error, training=False) as validation,
        ):
            stage.run(training, validation)
            problems = (*training.problems, *validation.problems)
        if problems:
            warn(f"{name}: {len(problems)} recording(s) could not be used; the first: {problems[0].reason}")
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
    run_path = out / "run.json"
    if run_path.exists():
        if not resume:
            raise UsageError(f"{out} holds a training run; continue it with --resume or choose another --out")
        try:
            run = json.loads(run_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{run_path} is damaged: {error}; start again with another --out") from error
        # The round trip through JSON turns tuples into lists on both sides.
        if run["plan"] != json.loads(json.dumps(plan.fingerprint())):
            raise UsageError(f"{out} holds a run with other options or recordings; choose another --out")
        mean, std = tuple(run["mean"]), tuple(run["std"])
    else:
        if resume:
            log(f"{out} holds no run yet; starting one")
        mean, std = audio_statistics(
            plan.split.train, plan.config.spec, limit=_STATISTICS_RECORDINGS, workers=workers, seed=plan.seed
        )
        with atomic_file(run_path) as temporary:
            temporary.write_text(json.dumps({"plan": plan.fingerprint(), "mean": mean, "std": std}), encoding="utf-8")
    spec = plan.config.spec
    return plan.config.with_spec(replace(spec, audio=replace(spec.audio, mean=mean, std=std)))


def _loader(
    plan: TrainingPlan,
    refs: Sequence[RecordingRef],
    config: ModelConfig,
    name: StageName,
    workers: int,
    on_error: OnError,
    *,
    training: bool,
) -> FeatureLoader:
    batch_size = getattr(plan.settings, name).batch_size
    return FeatureLoader(
        refs,
        label_indices(refs, config.labels),
        config.spec,
        batch_size=batch_size,
        seed=plan.seed,
        workers=workers,
        inputs=_INPUTS[name],
        shuffle=training,
        drop_remainder=training and len(refs) >= batch_size,
        skeleton_augmentation=plan.settings.skeleton_augmentation if training else None,
        audio_augmentation=plan.settings.audio_augmentation if training else None,
        on_error=on_error,
    )
