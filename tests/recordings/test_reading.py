"""Reading one recording: from plain paths, from the catalogue, from a golden file; and its tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from preprocess import MSR20, NTU25, PreprocessSpec, skeleton_to_heatmaps, waveform_to_logmel
from preprocess.errors import DataError
from recordings import read_recording
from recordings.catalogue import scan
from recordings.reading import read_golden
from recordings.recording import preprocess_recording

SPEC = PreprocessSpec.preset("nano")
RATE_HZ = SPEC.audio.sample_rate_hz


@pytest.fixture(scope="module")
def ref(recordings_folder):
    return scan(recordings_folder).refs[0]


def test_a_plain_path_gives_the_recording_of_the_catalogue(ref, tmp_path):
    """Whatever the file is called; the sound is the WAV of the same name beside it, or the one that is named."""
    path = tmp_path / "walk 1.skeleton"
    path.write_bytes(ref.skeleton_path.read_bytes())
    (tmp_path / "walk 1.WAV").write_bytes(ref.audio_path.read_bytes())
    listed = read_recording(ref, sample_rate_hz=RATE_HZ)
    beside = read_recording(path, sample_rate_hz=RATE_HZ)
    named = read_recording(str(ref.skeleton_path), ref.audio_path, sample_rate_hz=RATE_HZ)
    assert [recording.name for recording in (listed, beside, named)] == [ref.name, "walk 1", ref.name]
    for recording in (beside, named):
        assert recording.layout is NTU25
        for field in ("joints", "confidence", "waveform"):
            np.testing.assert_array_equal(getattr(recording, field), getattr(listed, field))


def test_the_sound_lies_beside_the_skeleton_or_in_the_folder_audio_next_to_its_folder(ref, tmp_path, monkeypatch):
    """As `recordings synthesize` writes and as NTU RGB+D is often unpacked; the file beside it comes first."""
    folder, audio = tmp_path / "nturgb+d_skeletons", tmp_path / "audio"
    path = folder / ref.skeleton_path.name
    for place in (folder, audio):
        place.mkdir()
    path.write_bytes(ref.skeleton_path.read_bytes())
    (audio / ref.audio_path.name).write_bytes(ref.audio_path.read_bytes())
    expected = read_recording(ref, sample_rate_hz=RATE_HZ).waveform
    monkeypatch.chdir(folder)
    for skeleton in (path, path.name):
        np.testing.assert_array_equal(read_recording(skeleton, sample_rate_hz=RATE_HZ).waveform, expected)
    soundfile.write(path.with_suffix(".wav"), np.full(10, 0.5), RATE_HZ)
    assert read_recording(path, sample_rate_hz=RATE_HZ).waveform.shape == (10,)
    path.with_suffix(".wav").unlink()
    (audio / ref.audio_path.name).unlink()
    assert not read_recording(path, sample_rate_hz=RATE_HZ).waveform.size


def test_the_end_of_the_name_decides_the_format(tmp_path):
    path = tmp_path / "free_skeleton.txt"
    rows = "\n".join("0.1 0.2 2.0 1.0\n0.5 0.5 2000 1.0" for _ in range(20))
    path.write_text(f"1 20\n40\n{rows}\n")
    recording = read_recording(path, sample_rate_hz=RATE_HZ)
    assert (recording.name, recording.layout) == ("free", MSR20)
    assert (recording.joints.shape, recording.waveform.shape) == ((1, 1, 20, 3), (0,))
    for suffix in (".wav", ".WAV"):
        soundfile.write(tmp_path / f"free{suffix}", np.zeros(10), RATE_HZ, format="WAV")
    with pytest.raises(DataError, match=r"its sound exists twice, free\.WAV and free\.wav"):
        read_recording(path, sample_rate_hz=RATE_HZ)
    with pytest.raises(DataError, match=r"no skeleton file; their names end in \.skeleton or _skeleton\.txt"):
        read_recording(tmp_path / "free.txt", sample_rate_hz=RATE_HZ)
    with pytest.raises(DataError, match="the skeleton file does not exist"):
        read_recording(tmp_path / "nowhere" / "a.skeleton", sample_rate_hz=RATE_HZ)


def test_tensors_are_those_of_the_preprocessing_with_a_batch_axis(ref):
    recording = read_recording(ref, sample_rate_hz=RATE_HZ)
    tensors = recording.tensors(SPEC)
    heatmaps = skeleton_to_heatmaps(recording.joints, recording.confidence, SPEC.skeleton, layout=recording.layout)
    np.testing.assert_array_equal(tensors["skeleton"], heatmaps.tensor[None])
    np.testing.assert_array_equal(tensors["audio"], waveform_to_logmel(recording.waveform, SPEC.audio)[None])
    for name, tensor in preprocess_recording(recording, SPEC).items():
        np.testing.assert_array_equal(tensors[name][0], tensor)
    assert list(recording.tensors(SPEC, ("audio",))) == ["audio"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": MSR20}, "joints has 25 joints per body, layout msr20 has 20"),  # a layout is never guessed
        ({"waveform": np.zeros(0, np.float32)}, "the recording has no sound; add its WAV file"),
        ({"sample_rate_hz": 8000}, "the sound has 8000 Hz; read it at 32000 Hz"),
    ],
)
def test_a_recording_that_cannot_be_preprocessed_is_named(ref, change, message):
    with pytest.raises(DataError, match=f"{ref.name}: {message}"):
        replace(read_recording(ref, sample_rate_hz=RATE_HZ), **change).tensors(SPEC)


@pytest.mark.parametrize(("joints", "layout"), [(25, NTU25), (20, MSR20), (17, None)])
def test_golden_files(tmp_path: Path, joints, layout):
    path = tmp_path / "S0.npz"
    arrays = {"joints": np.ones((2, 1, joints, 3), np.float32), "confidence": np.ones((2, 1, joints), np.float32)}
    np.savez_compressed(path, **arrays, waveform=np.ones(5, np.float32), logits=np.zeros(3))
    if layout is None:
        with pytest.raises(DataError, match=r"S0\.npz has 17 joints per body; known are 25 and 20"):
            read_golden(path, sample_rate_hz=RATE_HZ)
        return
    recording = read_golden(path, sample_rate_hz=RATE_HZ)
    assert (recording.name, recording.layout, recording.waveform.shape) == ("S0", layout, (5,))
    np.testing.assert_array_equal(recording.joints, arrays["joints"])
    for damage in (b"no archive", None):
        path.write_bytes(damage) if damage else path.unlink()
        with pytest.raises(DataError, match="missing or damaged"):
            read_golden(path, sample_rate_hz=RATE_HZ)
