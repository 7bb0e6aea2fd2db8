"""Batches from disk: the same from any number of workers, errors reported, nothing left behind."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import DataError, MissingComponentError
from preprocess.spec import HeatmapSpec, LogMelSpec, PreprocessSpec
from recordings import workers as workers_module
from recordings.augment import AudioAugmentation, SkeletonAugmentation
from recordings.batches import FeatureLoader
from recordings.catalogue import scan
from recordings.reading import read_recording
from recordings.recording import MissingSkeletonError, preprocess_recording
from recordings.workers import WorkerPool

ROOT = Path(__file__).resolve().parents[2]
SPEC = PreprocessSpec(
    skeleton=HeatmapSpec(size=16, sigma_px=0.5),
    audio=LogMelSpec(8000, window_samples=200, n_fft=256, hop_samples=80, n_mels=8, fmax_hz=4000, frames=32),
)
VARIED = {"skeleton_augmentation": SkeletonAugmentation(), "audio_augmentation": AudioAugmentation()}


@pytest.fixture(scope="module")
def refs(recordings_folder):
    return scan(recordings_folder).refs[:11]


@pytest.fixture
def segments(monkeypatch):
    """Names of the shared segments that this process makes; afterwards none may exist and no worker may live."""
    names = []

    class Noted(SharedMemory):
        def __init__(self, **options):
            super().__init__(**options)
            names.append(self.name)

    monkeypatch.setattr(workers_module, "SharedMemory", Noted)
    yield names
    assert names
    assert not multiprocessing.active_children()
    for name in names:
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)


def digest(batches):
    result = hashlib.sha256()
    for batch in batches:
        result.update("".join(batch.names).encode())
        for array in (batch.skeleton, batch.audio, batch.labels):
            result.update(array.tobytes())
    return result.hexdigest()


def loader(refs, **options):
    return FeatureLoader(refs, range(len(refs)), SPEC, **({"batch_size": 4} | options))


def test_evaluation_batches_hold_what_preprocess_gives_in_order(refs):
    with loader(refs, workers=0) as batches:
        epoch = list(batches.epoch(0))
    assert [len(batch.names) for batch in epoch] == [4, 4, 3]
    assert [name for batch in epoch for name in batch.names] == [ref.name for ref in refs]
    assert np.concatenate([batch.labels for batch in epoch]).tolist() == list(range(11))
    assert epoch[0].labels.dtype == np.int32
    recording = read_recording(refs[5], sample_rate_hz=8000)
    for name, tensor in preprocess_recording(recording, SPEC).items():
        np.testing.assert_array_equal(epoch[1].tensors[name][1], tensor)


def test_any_number_of_workers_in_any_process_gives_the_same_epochs(refs, segments):
    options = {"shuffle": True, "seed": 5} | VARIED
    with loader(refs, workers=0, **options) as batches:
        expected = [digest(batches.epoch(number)) for number in range(3)]
        assert len(set(expected)) == 3
    for workers, numbers in ((1, (2, 0)), (2, (0, 1))):  # epoch 2 first: resuming is the same as running up to it
        with loader(refs, workers=workers, **options) as batches:
            children = None
            for number in numbers:
                assert digest(batches.epoch(number)) == expected[number]
                children = children or {process.pid for process in multiprocessing.active_children()}
                assert {process.pid for process in multiprocessing.active_children()} == children
            assert len(children) == workers


def test_the_number_of_threads_does_not_change_a_bit(refs):
    """Matrices of the presets' size are large enough for BLAS to share them between threads."""
    nano = PreprocessSpec.preset("nano")
    digests = set()
    for workers in (0, 1):
        with FeatureLoader(refs[:3], range(3), nano, batch_size=3, workers=workers) as batches:
            digests.add(digest(batches.epoch(0)))
    assert len(digests) == 1


def test_every_epoch_has_its_own_permutation_and_may_end_with_its_last_full_batch(refs):
    with loader(refs, workers=0, shuffle=True, inputs=("audio",)) as batches:
        orders = [[name for batch in batches.epoch(number) for name in batch.names] for number in (0, 1, 0)]
        assert batches.steps_per_epoch == 3
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == [ref.name for ref in refs]
    with loader(refs, workers=0, shuffle=True, inputs=("audio",), drop_remainder=True) as batches:
        assert [name for batch in batches.epoch(1) for name in batch.names] == orders[1][:8]
        assert batches.steps_per_epoch == 2


def test_a_sample_depends_neither_on_its_place_nor_on_the_other_input_nor_on_its_file(refs, tmp_path):
    with loader(refs, workers=0, **VARIED) as batches:
        first = next(batches.epoch(3)).tensors
    for name, other_file in (("audio", "skeleton_path"), ("skeleton", "audio_path")):
        ref = replace(refs[2], **{other_file: tmp_path / "none"})
        with loader([ref], workers=0, inputs=(name,), **VARIED) as alone:
            (single,) = alone.epoch(3)
        assert list(single.tensors) == [name]
        np.testing.assert_array_equal(single.tensors[name][0], first[name][2])


def test_augmentation_of_one_input_leaves_the_other_as_for_evaluation(refs):
    recording = read_recording(refs[0], sample_rate_hz=8000)
    plain = preprocess_recording(recording, SPEC)
    rng = np.random.default_rng
    for varied, other in (("audio", "skeleton"), ("skeleton", "audio")):
        options = {f"{varied}_augmentation": VARIED[f"{varied}_augmentation"]}
        tensors = preprocess_recording(recording, SPEC, rng=rng(0), **options)
        np.testing.assert_array_equal(tensors[other], plain[other])
        assert not np.array_equal(tensors[varied], plain[varied])


def broken(refs, tmp_path):
    """The recordings with a truncated skeleton, one without bodies, a missing WAV file and one without sound."""
    truncated, empty = tmp_path / "truncated.skeleton", tmp_path / "empty.skeleton"
    truncated.write_text(refs[1].skeleton_path.read_text()[:5000])
    empty.write_text("2\n0\n0\n")
    changed = list(refs)
    changed[1] = replace(refs[1], skeleton_path=truncated)
    changed[4] = replace(refs[4], skeleton_path=empty)
    changed[6] = replace(refs[6], audio_path=tmp_path / "gone.wav")
    changed[9] = replace(refs[9], audio_path=None)
    changed[10] = replace(refs[10], skeleton_path=tmp_path)  # a folder: the system's error, not the reader's
    return changed


@pytest.mark.parametrize("workers", [0, 2])
def test_unusable_recordings_are_left_out_and_reported_once(refs, tmp_path, workers):
    with loader(broken(refs, tmp_path), workers=workers, on_error="skip") as batches:
        for number in (0, 1):
            epoch = list(batches.epoch(number))
            assert [batch.labels.tolist() for batch in epoch] == [[0, 2, 3, 5], [7, 8]]
        problems = batches.problems
    assert set(problems) == {refs[index].name for index in (1, 4, 6, 9, 10)}
    assert "truncated.skeleton" in problems[refs[1].name]
    assert "none of its 2 frames has a body" in problems[refs[4].name]
    assert "gone.wav" in problems[refs[6].name]
    assert problems[refs[9].name].startswith(f"{refs[9].name}: the recording has no sound")
    assert problems[refs[10].name].startswith(f"{refs[10].name} cannot be read")


def test_an_unusable_recording_or_none_that_is_usable_ends_the_epoch_with_an_error(refs, tmp_path):
    for workers in (0, 1):
        with loader(broken(refs, tmp_path)[2:], workers=workers, batch_size=1) as batches:
            epoch = batches.epoch(0)
            assert [next(epoch).labels[0], next(epoch).labels[0]] == [0, 1]
            with pytest.raises(MissingSkeletonError, match="none of its 2 frames has a body"):
                next(epoch)
    with loader(broken(refs, tmp_path)[1:2], workers=0, on_error="skip") as batches:
        epoch = batches.epoch(0)
        with pytest.raises(DataError, match=r"none of the 1 recordings can be used; .*truncated.skeleton"):
            next(epoch)
    with pytest.raises(DataError, match="there are no recordings"):
        loader([])


def test_giving_up_an_epoch_leaves_nothing_behind_and_the_next_one_is_whole(refs, segments):
    with loader(refs, workers=2, batch_size=2, inputs=("audio",)) as batches:
        held = next(batches.epoch(0))
        copy = held.audio.copy()
        assert [label for batch in batches.epoch(1) for label in batch.labels] == list(range(11))
        assert 0 < batches.waiting_s < 60
        suspended = batches.epoch(2)
        next(suspended)
    np.testing.assert_array_equal(held.audio, copy)
    dropped = loader(refs, workers=1, inputs=("audio",))  # without `close`
    next(dropped.epoch(0))
    del dropped


def test_a_killed_worker_is_an_error_not_a_hang(refs, segments):
    with loader(refs, workers=2, batch_size=1, inputs=("audio",)) as batches:
        epoch = batches.epoch(0)
        next(epoch)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        with pytest.raises(MissingComponentError, match=r"worker process \d+ was killed by SIGKILL; if memory ran out"):
            for _ in epoch:
                pass
        assert sum(len(batch.names) for batch in batches.epoch(0)) == 11  # with new workers


def test_too_little_shared_memory_is_reported_before_a_worker_dies_of_it(refs, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with loader(refs, workers=1) as batches:
        epoch = batches.epoch(0)
        with pytest.raises(MissingComponentError, match=r"0 MB free, the batches in flight need .* MB; enlarge it"):
            next(epoch)


def twice(number):
    if number == 13:
        raise ValueError("thirteen")
    return {"value": np.full(3, 2 * number, np.float32)}


def test_the_pool_keeps_order_and_runs_ahead_by_no_more_than_its_prefetch(segments):
    started = []

    def tasks():
        for number in range(12):
            started.append(number)
            yield number

    with WorkerPool(twice, {"value": (3,)}, workers=2, prefetch=4) as pool:
        for expected, result in enumerate(pool.imap(tasks())):
            assert result["value"].tolist() == [2 * expected] * 3
            assert len(started) <= expected + 4 + 1
            del result
        assert len(started) == 12
        outcomes = pool.imap([13])
        with pytest.raises(RuntimeError, match=r"a worker failed on 13:(.|\n)*ValueError: thirteen"):
            next(outcomes)


def test_workers_compute_with_one_thread_and_import_nothing_heavy(segments, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with WorkerPool(surroundings, {"threads": (2,), "heavy": (1,)}, workers=1, prefetch=1) as pool:
        result = next(pool.imap([0]))
        assert (result["threads"].tolist(), result["heavy"].tolist()) == ([1, 1], [0])
        del result
    assert os.environ["OMP_NUM_THREADS"] == "7"  # the parent keeps its environment
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def surroundings(task):
    threads = [float(os.environ[name]) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")]
    heavy = {"tensorflow", "tf_keras", "matplotlib", "numba", "scipy.signal"} & set(sys.modules)
    return {"threads": np.array(threads, np.float32), "heavy": np.array([len(heavy)], np.float32)}


INTERRUPTED = """
import multiprocessing, sys
from recordings import workers
from recordings.workers import WorkerPool

class Noted(workers.SharedMemory):
    def __init__(self, **options):
        super().__init__(**options)
        print(self.name, flush=True)

def job(task):
    return {"value": [task]}

if __name__ == "__main__":
    workers.SharedMemory = Noted
    with WorkerPool(job, {"value": (1,)}, workers=2, prefetch=4) as pool:
        for number, _ in enumerate(pool.imap(iter(int, 1))):
            if number == 10:
                print(*(process.pid for process in multiprocessing.active_children()), flush=True)
"""


def test_ctrl_c_ends_the_workers_and_frees_the_memory(tmp_path):
    script = tmp_path / "consumer.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    segment, pids = process.stdout.readline().strip(), process.stdout.readline().split()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and workers alike
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "leaked" not in errors
    with pytest.raises(FileNotFoundError):
        SharedMemory(segment)
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
