"""The synthetic recordings: reproducible, in the NTU format, human, in time with their sound, and neither too easy
nor leaking the action."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from preprocess.errors import UsageError
from preprocess.layouts import NTU25
from recordings.__main__ import main
from recordings.catalogue import scan
from recordings.reading import read_recording
from recordings.splits import X_SUB_TRAINING_SUBJECTS
from recordings.synthetic import generate
from recordings.synthetic.body import FRAME_RATE_HZ
from recordings.synthetic.generate import USUAL_FORMAT, draw_file_format, recording_ref, synthesize, wav_bytes
from recordings.synthetic.motions import SYNTHETIC_ACTIONS
from recordings.synthetic.take import Difficulty, make_performer

RATE_HZ = 32_000
COUNT = 12


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "data"
    synthesize(out, count=COUNT, seed=5, workers=1)
    return out


# Reproducible


def test_a_recording_depends_on_the_seed_and_its_number_alone(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on the number of workers nor on that of the recordings."""
    first = contents(dataset)
    monkeypatch.setattr(generate, "CHUNK", 2)
    synthesize(tmp_path / "fewer", count=5, seed=5, workers=2)
    fewer = contents(tmp_path / "fewer")
    assert len(fewer) == 10
    assert fewer.items() <= first.items()
    synthesize(tmp_path / "other", count=5, seed=6, workers=1)
    other = contents(tmp_path / "other")
    assert all(other[name] != first[name] for name in other)
    assert make_performer(5, 1) != make_performer(6, 1)


# Files


def test_skeleton_file_field_by_field(dataset: Path) -> None:
    for path in sorted(dataset.glob("nturgb+d_skeletons/*.skeleton"))[::3]:
        lines = iter(path.read_text(encoding="ascii").splitlines())
        frames = int(next(lines))
        assert 50 <= frames <= 110
        for _ in range(frames):
            bodies = int(next(lines))
            ids = [check_body(lines) for _ in range(bodies)]
            assert len(set(ids)) == bodies
        assert next(lines, None) is None


def check_body(lines: Iterator[str]) -> int:
    """One body of 27 lines, checked against the sensor's geometry; gives its id."""
    header = next(lines).split()
    assert len(header) == 10
    assert int(header[0]) > 2**56
    assert next(lines) == "25"
    for _ in range(25):
        fields = next(lines).split()
        assert len(fields) == 12
        x, y, z, depth_x, depth_y, color_x, color_y, *quaternion = map(float, fields[:-1])
        assert np.linalg.norm(quaternion) == pytest.approx(1, abs=1e-5)
        assert fields[-1] in ("0", "1", "2")
        if fields[-1] == "0":
            assert (x, y, z) == (0, 0, 0)
            continue
        assert 1 < z < 6
        assert depth_x == pytest.approx(256 + 366.0 * x / z, abs=0.01)
        assert depth_y == pytest.approx(212 - 366.0 * y / z, abs=0.01)
        assert color_x == pytest.approx(960 + 1058.0 * x / z, abs=40)  # the two cameras stand 52 mm apart
        assert color_y == pytest.approx(540 - 1058.0 * y / z, abs=0.1)
    return int(header[0])


def test_the_real_reader_reads_every_recording(dataset: Path) -> None:
    refs = scan(dataset).refs
    assert len(refs) == COUNT
    for number, ref in enumerate(sorted(refs, key=lambda ref: ref.action)):
        assert ref == recording_ref(number, subjects=40, folder=dataset)
        recording = read_recording(ref, sample_rate_hz=RATE_HZ)
        assert recording.layout == NTU25
        assert recording.joints.shape[2:] == (25, 3)
        seconds = len(recording.joints) / FRAME_RATE_HZ
        assert len(recording.waveform) / RATE_HZ == pytest.approx(seconds, abs=0.06)
        assert 0.05 < np.abs(recording.waveform).max() < 1


@pytest.mark.parametrize(
    ("channels", "encoding", "subtype", "step"),
    [
        (1, "pcm16", "PCM_16", 2**-15),
        (2, "pcm16", "PCM_16", 2**-15),
        (1, "pcm24", "PCM_24", 2**-23),
        (1, "float32", "FLOAT", 0),
    ],
)
def test_wav_is_read_back_by_libsndfile(
    tmp_path: Path, channels: int, encoding: str, subtype: str, step: float
) -> None:
    waveform = np.random.default_rng(0).uniform(-1, 1, 1001).astype(np.float32)
    (tmp_path / "sound.wav").write_bytes(wav_bytes(waveform, 44_100, channels, encoding))
    samples, rate = soundfile.read(tmp_path / "sound.wav", always_2d=True)
    info = soundfile.info(tmp_path / "sound.wav")
    assert (rate, info.subtype, samples.shape) == (44_100, subtype, (1001, channels))
    np.testing.assert_allclose(samples[:, 0], waveform, atol=1.5 * step)


def test_unusual_files_are_a_few_and_of_every_kind() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_file_format(rng, Difficulty()) for _ in range(2000)]
    assert 0.92 < drawn.count(USUAL_FORMAT) / 2000 < 0.96
    assert len(set(drawn)) == 7


# Names and parts


@pytest.mark.parametrize("subjects", [1, 3])
def test_names_are_unique_up_to_the_limit(subjects: int) -> None:
    limit = 17 * 3 * 2 * subjects * 16
    names = {recording_ref(number, subjects=subjects).name for number in range(limit)}
    assert len(names) == limit
    pattern = re.compile(r"S0(0[1-9]|1[0-7])C00[123]P0(0[1-9]|[123]\d|40)R00[12]A0\d\d")
    assert all(pattern.fullmatch(name) for name in names)


def test_actions_and_subjects_are_balanced_and_both_parts_of_the_official_protocols_have_recordings() -> None:
    refs = [recording_ref(number, subjects=40) for number in range(16 * 80)]
    for field, expected in (("action", 80), ("subject", 32)):
        counts = np.unique([getattr(ref, field) for ref in refs], return_counts=True)[1]
        assert set(counts) == {expected}
    assert {(ref.camera, ref.replication) for ref in refs} == {(c, r) for c in (1, 2, 3) for r in (1, 2)}
    for training in (True, False):
        part = {ref.action for ref in refs[:32] if (ref.subject in X_SUB_TRAINING_SUBJECTS) == training}
        assert part == set(SYNTHETIC_ACTIONS)
    assert {1} < {ref.camera for ref in refs[:32]}  # X-View tests on camera 1


@pytest.mark.parametrize(
    ("count", "subjects", "message"),
    [(0, 40, "count is 0; 40 subj"), (1633, 1, "1 subjects have names for 1 to 1632 "), (16, 41, "use 1 to 40")],
)
def test_impossible_numbers_are_refused_before_any_work(
    tmp_path: Path, count: int, subjects: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        synthesize(tmp_path / "data", count=count, seed=0, subjects=subjects)
    assert not list(tmp_path.iterdir())


# All or nothing


def test_a_signal_ends_the_program_and_its_workers(tmp_path: Path) -> None:
    out = tmp_path / "data"
    command = [sys.executable, "-m", "recordings", "synthesize", "--out", str(out), "--count", "4000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".tmp-*/audio/*.wav")) and time.monotonic() < deadline:
            time.sleep(0.05)
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=30)
    assert program.returncode == 130
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def test_the_command_reports_its_files_and_keeps_an_existing_folder_unless_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["synthesize", "--out", str(tmp_path / "data"), "--count", "3", "--seed", "1", "--workers", "1"]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["recordings"], report["subjects"], report["seed"]) == (3, 40, 1)
    assert report["actions"] == list(SYNTHETIC_ACTIONS)
    assert report["size_bytes"] == sum(len(data) for data in contents(tmp_path / "data").values())
    (tmp_path / "data" / "old.txt").touch()
    assert main(command) == 2
    assert "exists; choose another --out or replace it with --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert "3 recordings of 16 actions" in capsys.readouterr().out
    assert len(contents(tmp_path / "data")) == 6
