"""Makes a data set of synthetic recordings in the NTU RGB+D layout.

`OUT/nturgb+d_skeletons/SsssCcccPpppRrrrAaaa.skeleton` and `OUT/audio/SsssCcccPpppRrrrAaaa.wav`. A recording depends
on the seed and its own number only, so neither the number of workers nor the total changes it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from console.files import atomic_folder
from console.progress import Progress
from preprocess.errors import MissingComponentError, UsageError

from ..workers import interrupts_blocked
from .actions import SYNTHETIC_ACTIONS
from .difficulty import Difficulty
from .performance import USUAL_SAMPLE_RATE_HZ, perform
from .sensor import place_camera
from .subject import make_subject
from .writer import WavFormat, write_recording

SKELETON_FOLDER = "nturgb+d_skeletons"
AUDIO_FOLDER = "audio"

_SETUPS, _CAMERAS, _REPLICATIONS = 17, 3, 2
_MAXIMUM_SUBJECTS = 40
_CHUNK = 32  # recordings a task
_UNUSUAL_RATES_HZ = (16_000, 44_100, 48_000)
_UNUSUAL_FORMATS = (WavFormat(channels=2), WavFormat(encoding="pcm24"), WavFormat(encoding="float32"))


@dataclass(frozen=True)
class SynthesisSummary:
    """What was written."""

    out: Path
    recordings: int
    actions: tuple[int, ...]
    subjects: int
    seed: int
    size_bytes: int


@dataclass(frozen=True)
class Slot:
    """The name of a recording: setup, camera, subject (performer), replication, action; all 1-based."""

    setup: int
    camera: int
    subject: int
    replication: int
    action: int

    @property
    def name(self) -> str:
        return f"S{self.setup:03d}C{self.camera:03d}P{self.subject:03d}R{self.replication:03d}A{self.action:03d}"


def slot(index: int, *, subjects: int) -> Slot:
    """The name of recording `index`: actions in turn, then subjects, cameras, replications, setups."""
    take, action = divmod(index, len(SYNTHETIC_ACTIONS))
    turn, person = divmod(take, subjects)
    # Subjects begin at 2: 2 is one of X-Sub's training subjects and 3 is not, so two takes of each action suffice
    # for both parts. Each subject begins with another camera, replication and setup, so that small sets have all.
    subject = (person + 1) % subjects + 1
    return Slot(
        setup=(turn // (_CAMERAS * _REPLICATIONS) + subject) % _SETUPS + 1,
        camera=(turn + subject) % _CAMERAS + 1,
        subject=subject,
        replication=(turn // _CAMERAS + subject // _CAMERAS) % _REPLICATIONS + 1,
        action=SYNTHETIC_ACTIONS[action],
    )


def synthesize(
    out: Path,
    *,
    count: int,
    seed: int,
    subjects: int = _MAXIMUM_SUBJECTS,
    workers: int = 2,
    difficulty: Difficulty | None = None,
    force: bool = False,
) -> SynthesisSummary:
    """Writes `count` recordings to the folder `out`, which appears whole or not at all.

    Args:
        count: number of recordings; actions are balanced.
        seed: at least 0; another seed gives other subjects, cameras and performances.
        subjects: 1 to 40 performers.
        workers: processes; 1 works in this one.
        difficulty: the knobs; None for the defaults.
        force: replace an existing folder.

    Raises:
        UsageError: a number is out of range, there are more recordings than names, or `out` exists.
        MissingComponentError: a worker process was killed.
    """
    _check(count=count, seed=seed, subjects=subjects, workers=workers)
    knobs = difficulty or Difficulty()
    with atomic_folder(out, force=force) as folder, Progress("synthesize", count) as progress:
        (folder / SKELETON_FOLDER).mkdir()
        (folder / AUDIO_FOLDER).mkdir()
        tasks = [
            _Task(folder, first, min(first + _CHUNK, count), seed, subjects, knobs) for first in range(0, count, _CHUNK)
        ]
        size_bytes = 0
        for written, task_bytes in _run(tasks, workers):
            size_bytes += task_bytes
            progress.advance(written)
    return SynthesisSummary(out, count, SYNTHETIC_ACTIONS, subjects, seed, size_bytes)


def _check(*, count: int, seed: int, subjects: int, workers: int) -> None:
    if not 1 <= subjects <= _MAXIMUM_SUBJECTS:
        raise UsageError(f"subjects is {subjects}; use 1 to {_MAXIMUM_SUBJECTS}")
    limit = _SETUPS * _CAMERAS * _REPLICATIONS * subjects * len(SYNTHETIC_ACTIONS)
    if not 1 <= count <= limit:
        raise UsageError(f"count is {count}; {subjects} subjects have names for 1 to {limit} recordings")
    if seed < 0:
        raise UsageError(f"seed is {seed}; use a whole number of at least 0")
    if workers < 1:
        raise UsageError(f"workers is {workers}; use at least 1")


@dataclass(frozen=True)
class _Task:
    """Recordings `first` to `stop − 1`."""

    folder: Path
    first: int
    stop: int
    seed: int
    subjects: int
    difficulty: Difficulty


def _run(tasks: list[_Task], workers: int) -> Iterator[tuple[int, int]]:
    """Works through the tasks; yields recordings and bytes written, in any order."""
    if workers == 1 or len(tasks) == 1:
        yield from map(_write_recordings, tasks)
        return
    executor = ProcessPoolExecutor(min(workers, len(tasks)), multiprocessing.get_context("spawn"))
    try:
        with interrupts_blocked():
            futures = [executor.submit(_write_recordings, task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise MissingComponentError("a worker process was killed; if memory ran out, use fewer --workers") from error
    finally:  # after an interrupt: wait for the tasks at work, so that none writes into a folder being removed
        executor.shutdown(wait=True, cancel_futures=True)


def _write_recordings(task: _Task) -> tuple[int, int]:
    size_bytes = 0
    for index in range(task.first, task.stop):
        size_bytes += write_one(task.folder, index, seed=task.seed, subjects=task.subjects, difficulty=task.difficulty)
    return task.stop - task.first, size_bytes


def write_one(folder: Path, index: int, *, seed: int, subjects: int, difficulty: Difficulty) -> int:
    """Writes recording `index` below `folder` and gives the size of its files in bytes."""
    place = slot(index, subjects=subjects)
    rng = np.random.default_rng([seed, index])
    file_rng, take_rng = rng.spawn(2)
    rate_hz, wav_format = _draw_file_format(file_rng, difficulty)
    camera = place_camera(
        seed,
        setup=place.setup,
        camera=place.camera,
        replication=place.replication,
        step_deg=difficulty.camera_step_deg,
    )
    performance = perform(
        place.action,
        subject=make_subject(seed, place.subject, spread=difficulty.style_spread),
        camera=camera,
        rng=take_rng,
        difficulty=difficulty,
        sample_rate_hz=rate_hz,
    )
    skeleton_path = folder / SKELETON_FOLDER / f"{place.name}.skeleton"
    audio_path = folder / AUDIO_FOLDER / f"{place.name}.wav"
    write_recording(
        performance, skeleton_path=skeleton_path, audio_path=audio_path, wav_format=wav_format, rng=file_rng
    )
    return skeleton_path.stat().st_size + audio_path.stat().st_size


def _draw_file_format(rng: np.random.Generator, difficulty: Difficulty) -> tuple[int, WavFormat]:
    """Mostly 32 kHz, 16 bit, mono; else one of these three is different."""
    if rng.random() >= difficulty.unusual_file_rate:
        return USUAL_SAMPLE_RATE_HZ, WavFormat()
    if rng.random() < 0.5:
        return _UNUSUAL_RATES_HZ[int(rng.integers(len(_UNUSUAL_RATES_HZ)))], WavFormat()
    return USUAL_SAMPLE_RATE_HZ, _UNUSUAL_FORMATS[int(rng.integers(len(_UNUSUAL_FORMATS)))]
