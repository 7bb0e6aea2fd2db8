"""Make a data set of synthetic recordings in the NTU RGB+D layout, or keep one in the user's cache folder.

`OUT/nturgb+d_skeletons/SsssCcccPpppRrrrAaaa.skeleton` and `OUT/audio/SsssCcccPpppRrrrAaaa.wav`. A recording depends
on the seed and its number only, so neither the number of workers nor the total changes it.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from console.files import atomic_folder, cache_folder
from console.program import log, show, show_json
from console.progress import Progress
from preprocess.errors import MissingComponentError, UsageError

from ..ntu import SUFFIX
from ..recording import RecordingRef
from ..workers import interrupts_blocked
from .motions import SYNTHETIC_ACTIONS
from .performance import USUAL_SAMPLE_RATE_HZ, WavFormat, perform, write_recording
from .sensor import place_camera
from .take import Difficulty, make_performer

SKELETON_FOLDER = "nturgb+d_skeletons"
AUDIO_FOLDER = "audio"
# Raise it with every change of the generator that changes its recordings, so that cached ones are made again.
GENERATOR_VERSION = 1
SELECTION_SEED = 7001
CALIBRATION_SEED = 8001
HELD_OUT_SEED = 9001
MAXIMUM_SUBJECTS = 40
CHUNK = 32  # recordings of a task

_SETUPS, _CAMERAS, _REPLICATIONS = 17, 3, 2
_UNUSUAL_RATES_HZ = (16_000, 44_100, 48_000)
_UNUSUAL_FORMATS = (WavFormat(channels=2), WavFormat(encoding="pcm24"), WavFormat(encoding="float32"))


def synthesize_command(options: argparse.Namespace) -> None:
    """Handler of `python -m recordings synthesize`: make a data set and report it. Raises as `synthesize`."""
    size_bytes = synthesize(
        options.out,
        count=options.count,
        seed=options.seed,
        subjects=options.subjects,
        workers=options.workers,
        force=options.force,
    )
    document = {
        "out": str(options.out),
        "recordings": options.count,
        "actions": list(SYNTHETIC_ACTIONS),
        "subjects": options.subjects,
        "seed": options.seed,
        "size_bytes": size_bytes,
    }
    if options.json:
        show_json(document)
        return
    show(
        f"{options.out}: {options.count} recordings of {len(SYNTHETIC_ACTIONS)} actions by up to {options.subjects} "
        f"subjects, {size_bytes / 1e6:.0f} MB (seed {options.seed})"
    )


def cached_recordings(count: int, *, seed: int, workers: int) -> Path:
    """The folder of `count` recordings drawn from `seed`; made if it does not exist yet.

    It is below `POCKET_HAR_CACHE`, or `XDG_CACHE_HOME`/pocket-har, or ~/.cache/pocket-har, and may be deleted at
    any time.
    """
    key = hashlib.sha256(repr((GENERATOR_VERSION, asdict(Difficulty()))).encode()).hexdigest()[:8]
    folder = cache_folder() / f"synthetic-{key}-seed{seed}-{count}"
    if not folder.exists():
        log(f"no --data given: synthesizing {count} recordings (seed {seed}), kept in {cache_folder()}")
        try:
            synthesize(folder, count=count, seed=seed, workers=workers)
        except UsageError:
            if not folder.exists():  # another process may have made the same recordings meanwhile
                raise
    return folder


def synthesize(
    out: Path, *, count: int, seed: int, subjects: int = MAXIMUM_SUBJECTS, workers: int = 2, force: bool = False
) -> int:
    """Write `count` recordings to the folder `out`, completely or not at all, and return their size in bytes.

    Args:
        out: folder to make.
        count: number of recordings; actions are balanced.
        seed: at least 0; another seed gives other subjects, cameras and performances.
        subjects: 1 to 40 performers.
        workers: processes; 1 works in this one.
        force: replace an existing folder.

    Raises:
        UsageError: a number is out of range, there are more recordings than names, or `out` exists.
        MissingComponentError: a worker process was killed.
    """
    _check(count=count, seed=seed, subjects=subjects, workers=workers)
    size_bytes = 0
    with atomic_folder(out, force=force) as folder, Progress("synthesize", count) as progress:
        (folder / SKELETON_FOLDER).mkdir()
        (folder / AUDIO_FOLDER).mkdir()
        write = partial(_write_recordings, folder, seed=seed, subjects=subjects)
        chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
        for written, chunk_bytes in _run(write, chunks, workers):
            size_bytes += chunk_bytes
            progress.advance(written)
    return size_bytes


def _check(*, count: int, seed: int, subjects: int, workers: int) -> None:
    if not 1 <= subjects <= MAXIMUM_SUBJECTS:
        raise UsageError(f"subjects is {subjects}; use 1 to {MAXIMUM_SUBJECTS}")
    limit = _SETUPS * _CAMERAS * _REPLICATIONS * subjects * len(SYNTHETIC_ACTIONS)
    if not 1 <= count <= limit:
        raise UsageError(f"count is {count}; {subjects} subjects have names for 1 to {limit} recordings")
    if seed < 0:
        raise UsageError(f"seed is {seed}; use a whole number of at least 0")
    if workers < 1:
        raise UsageError(f"workers is {workers}; use at least 1")


def _run(write: Callable[[range], tuple[int, int]], chunks: list[range], workers: int) -> Iterator[tuple[int, int]]:
    """Write the chunks; yield recordings and bytes written, in any order."""
    if workers == 1 or len(chunks) == 1:
        yield from map(write, chunks)
        return
    executor = ProcessPoolExecutor(min(workers, len(chunks)), multiprocessing.get_context("spawn"))
    try:
        with interrupts_blocked():
            futures = [executor.submit(write, chunk) for chunk in chunks]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise MissingComponentError("a worker process was killed; if memory ran out, use fewer --workers") from error
    finally:  # after an interrupt: wait for the running tasks, so that none writes into a folder being removed
        executor.shutdown(wait=True, cancel_futures=True)


def _write_recordings(folder: Path, numbers: range, *, seed: int, subjects: int) -> tuple[int, int]:
    return len(numbers), sum(write_one(folder, number, seed=seed, subjects=subjects) for number in numbers)


def recording_ref(number: int, *, subjects: int, folder: Path = Path()) -> RecordingRef:
    """Name and files of recording `number`: actions in turn, then subjects, cameras, replications, setups."""
    take, action_index = divmod(number, len(SYNTHETIC_ACTIONS))
    turn, person = divmod(take, subjects)
    # Subjects begin at 2: 2 is one of X-Sub's training subjects and 3 is not, so two takes of each action suffice
    # for both parts. Each subject begins with another camera, replication and setup, so that small sets have all.
    subject = (person + 1) % subjects + 1
    setup = (turn // (_CAMERAS * _REPLICATIONS) + subject) % _SETUPS + 1
    camera = (turn + subject) % _CAMERAS + 1
    replication = (turn // _CAMERAS + subject // _CAMERAS) % _REPLICATIONS + 1
    action = SYNTHETIC_ACTIONS[action_index]
    name = f"S{setup:03d}C{camera:03d}P{subject:03d}R{replication:03d}A{action:03d}"
    skeleton_path = folder / SKELETON_FOLDER / f"{name}{SUFFIX}"
    audio_path = folder / AUDIO_FOLDER / f"{name}.wav"
    return RecordingRef(name, "ntu", skeleton_path, audio_path, action, subject, camera, setup, replication)


def write_one(folder: Path, number: int, *, seed: int, subjects: int) -> int:
    """Write recording `number` below `folder` and return the size of its files in bytes."""
    difficulty = Difficulty()
    ref = recording_ref(number, subjects=subjects, folder=folder)
    assert ref.audio_path is not None
    assert ref.setup is not None
    assert ref.camera is not None
    file_rng, take_rng = np.random.default_rng([seed, number]).spawn(2)
    rate_hz, wav_format = draw_file_format(file_rng, difficulty)
    performance = perform(
        ref.action,
        subject=make_performer(seed, ref.subject, spread=difficulty.style_spread),
        camera=place_camera(
            seed,
            setup=ref.setup,
            camera=ref.camera,
            replication=ref.replication,
            step_deg=difficulty.camera_step_deg,
        ),
        rng=take_rng,
        difficulty=difficulty,
        sample_rate_hz=rate_hz,
    )
    write_recording(
        performance, skeleton_path=ref.skeleton_path, audio_path=ref.audio_path, wav_format=wav_format, rng=file_rng
    )
    return ref.skeleton_path.stat().st_size + ref.audio_path.stat().st_size


def draw_file_format(rng: np.random.Generator, difficulty: Difficulty) -> tuple[int, WavFormat]:
    """Sample rate in Hz and format: mostly 32 kHz, 16 bit, mono; else one of these three differs."""
    if rng.random() >= difficulty.unusual_file_rate:
        return USUAL_SAMPLE_RATE_HZ, WavFormat()
    if rng.random() < 0.5:
        return _UNUSUAL_RATES_HZ[int(rng.integers(len(_UNUSUAL_RATES_HZ)))], WavFormat()
    return USUAL_SAMPLE_RATE_HZ, _UNUSUAL_FORMATS[int(rng.integers(len(_UNUSUAL_FORMATS)))]
