"""Make a data set of synthetic recordings in the NTU RGB+D layout, or keep one in the user's cache folder.

`OUT/nturgb+d_skeletons/SsssCcccPpppRrrrAaaa.skeleton` and `OUT/audio/SsssCcccPpppRrrrAaaa.wav`. A recording depends
on the seed and its number only, so neither the number of workers nor the total changes it.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from console.files import atomic_folder, cache_folder
from console.program import log, show, show_json
from console.progress import Progress
from preprocess.errors import MissingComponentError, UsageError
from preprocess.spec import FloatArray

from ..ntu import SUFFIX
from ..recording import RecordingRef
from ..workers import interrupts_blocked
from .motions import SYNTHETIC_ACTIONS
from .performance import Performance, perform, place_camera
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
# Formats of sound files: sample rate in Hz, channels, samples.
USUAL_FORMAT = (32_000, 1, "pcm16")
_UNUSUAL_RATES = ((16_000, 1, "pcm16"), (44_100, 1, "pcm16"), (48_000, 1, "pcm16"))
_UNUSUAL_SAMPLES = ((32_000, 2, "pcm16"), (32_000, 1, "pcm24"), (32_000, 1, "float32"))
_DEPTH_SIZE_PX, _DEPTH_FOCAL_PX = (512, 424), 366.0
_COLOR_SIZE_PX, _COLOR_FOCAL_PX = (1920, 1080), 1058.0
_COLOR_OFFSET_M = 0.052  # the colour camera sits beside the depth camera
_FIRST_BODY_ID = 72_057_594_037_927_936  # 2^56; a Kinect v2 counts from there


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
    if not 1 <= subjects <= MAXIMUM_SUBJECTS:
        raise UsageError(f"subjects is {subjects}; use 1 to {MAXIMUM_SUBJECTS}")
    limit = _SETUPS * _CAMERAS * _REPLICATIONS * subjects * len(SYNTHETIC_ACTIONS)
    if not 1 <= count <= limit:
        raise UsageError(f"count is {count}; {subjects} subjects have names for 1 to {limit} recordings")
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
    rate_hz, channels, encoding = draw_file_format(file_rng, difficulty)
    camera = place_camera(seed, setup=ref.setup, camera=ref.camera, replication=ref.replication)
    subject = make_performer(seed, ref.subject)
    performance = perform(
        ref.action, subject=subject, camera=camera, rng=take_rng, difficulty=difficulty, sample_rate_hz=rate_hz
    )
    text = _skeleton_text(performance, file_rng).encode("ascii")
    sound = wav_bytes(performance.waveform, rate_hz, channels, encoding)
    return ref.skeleton_path.write_bytes(text) + ref.audio_path.write_bytes(sound)


def draw_file_format(rng: np.random.Generator, difficulty: Difficulty) -> tuple[int, int, str]:
    """Rate, channels and samples of a sound file: mostly 32 kHz, mono, 16 bit; else one of these three differs."""
    if rng.random() >= difficulty.unusual_file_rate:
        return USUAL_FORMAT
    formats = _UNUSUAL_RATES if rng.random() < 0.5 else _UNUSUAL_SAMPLES
    return formats[int(rng.integers(len(formats)))]


def _skeleton_text(performance: Performance, rng: np.random.Generator) -> str:
    """The content of a `.skeleton` file: lines = 1 + Σ over frames of (1 + 27 · bodies)."""
    people = performance.joints.shape[1]
    first_id = _FIRST_BODY_ID + int(rng.integers(1, 2**16))
    templates = [_body_template(first_id + person, rng) for person in range(people)]
    blocks = [f"{len(performance.joints)}\n"]
    for present in performance.present:
        blocks.append(f"{np.count_nonzero(present)}\n")
        blocks.extend(templates[person] for person in np.flatnonzero(present))
    values = _joint_values(performance)[performance.present]
    return "".join(blocks) % tuple(values.ravel().tolist())


def _body_template(body_id: int, rng: np.random.Generator) -> str:
    """27 lines of a body with places for 8 numbers a joint: x y z, depth x y, colour x y, state.

    The orientations are one plausible unit quaternion a bone: the format has them and no reader here uses them.
    """
    lean = rng.uniform(-0.2, 0.2, 2)
    quaternions = rng.standard_normal((25, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    lines = [f"{body_id} 0 1 1 1 1 0 {lean[0]:.7f} {lean[1]:.7f} 2", "25"]
    lines += [
        "%.6f %.6f %.6f %.4f %.4f %.3f %.3f " + " ".join(f"{part:.7f}" for part in quaternion) + " %d"
        for quaternion in quaternions
    ]
    return "\n".join(lines) + "\n"


def _joint_values(performance: Performance) -> npt.NDArray[np.float64]:
    """[T, P, 25, 8]: camera space, its pinhole projections and the tracking state. A lost joint projects to 0, 0."""
    joints = performance.joints.astype(np.float64)
    visible = joints[..., 2] > 0.1
    depth = np.where(visible, joints[..., 2], 1.0)
    columns = [joints]
    for (width, height), focal, offset in (
        (_DEPTH_SIZE_PX, _DEPTH_FOCAL_PX, 0.0),
        (_COLOR_SIZE_PX, _COLOR_FOCAL_PX, _COLOR_OFFSET_M),
    ):
        x = width / 2 + focal * (joints[..., 0] + offset) / depth
        y = height / 2 - focal * joints[..., 1] / depth
        columns.append(np.where(visible[..., None], np.stack([x, y], axis=-1), 0.0))
    return np.concatenate([*columns, performance.states[..., None]], axis=-1)


def wav_bytes(waveform: FloatArray, sample_rate_hz: int, channels: int, encoding: str) -> bytes:
    """A RIFF WAVE file of the mono waveform [N] in [−1, 1]; further channels are quieter copies.

    Written here because libsndfile stamps float files with the time, and equal seeds must give equal files.
    """
    gains = 0.8 ** np.arange(channels)
    frames = waveform[:, None] * gains
    if encoding == "float32":
        code, width, data = 3, 4, frames.astype("<f4").tobytes()
    elif encoding == "pcm24":
        wide = np.round(frames * (2**23 - 1)).astype("<i4")
        code, width, data = 1, 3, wide.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    else:
        code, width, data = 1, 2, np.round(frames * (2**15 - 1)).astype("<i2").tobytes()
    block = width * channels
    header = (code, channels, sample_rate_hz, sample_rate_hz * block, block, 8 * width)
    chunks = [(b"fmt ", struct.pack("<HHIIHH", *header))]
    if code == 3:
        chunks.append((b"fact", struct.pack("<I", len(waveform))))
    chunks.append((b"data", data))
    body = b"".join(name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for name, part in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body
