"""The WAV reader against NumPy and librosa."""

from __future__ import annotations

import struct
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from preprocess.errors import DataError
from recordings.sound import read_native, read_waveform

RATE_HZ = 32_000
NAME = "S001C001P001R001A001.wav"
STEP = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "PCM_32": 2.0**-23, "FLOAT": 0.0, "DOUBLE": 0.0}  # float32 has 24 bits


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (samples, channels) if channels > 1 else (samples,)
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape).astype(np.float32)


def write(
    folder: Path, waveform: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "FLOAT", format: str = "WAV"
) -> Path:
    path = folder / NAME
    soundfile.write(path, waveform, rate_hz, subtype=subtype, format=format)
    return path


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", STEP)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_every_kind_of_wav_sample_format_and_channel_count(
    tmp_path: Path, format: str, subtype: str, channels: int
) -> None:
    waveform = noise(1000, channels)
    read = read_waveform(write(tmp_path, waveform, subtype=subtype, format=format), sample_rate_hz=RATE_HZ)
    assert read.dtype == np.float32
    expected = waveform.reshape(1000, -1).astype(np.float64).mean(1)
    np.testing.assert_allclose(read, expected, rtol=0, atol=STEP[subtype] + 2.0**-24)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("samples", [1, 777, 5000])
def test_resampling_is_librosas(tmp_path: Path, rate_hz: int, samples: int) -> None:
    waveform = noise(samples)
    read = read_waveform(write(tmp_path, waveform, rate_hz), sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(read, librosa.resample(waveform, orig_sr=rate_hz, target_sr=RATE_HZ))
    assert len(read) == int(np.ceil(samples * RATE_HZ / rate_hz))
    assert (len(read_native(tmp_path / NAME)[0]), read_native(tmp_path / NAME)[1]) == (samples, rate_hz)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    waveform = noise(100, 2)
    waveform[41, 1] = value
    path = write(tmp_path, waveform)
    with pytest.raises(DataError, match=r"\.wav: sample 41 is not finite"):
        read_waveform(path, sample_rate_hz=RATE_HZ)


def test_a_wav_from_a_program_that_could_not_seek_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, noise(1000), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert len(read_waveform(path, sample_rate_hz=RATE_HZ)) == 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable WAV file"),
        (b"no sound at all", "not a readable WAV file"),
        (b"RIFF\x00\x00\x00\x00WAVE", "not a readable WAV file"),
        ("FLAC", "the format is FLAC, not WAV"),
        ("no samples", "holds no samples"),
        ("cut short", "is truncated, 1544 of 2044 bytes"),
        ("absent", "the WAV file does not exist"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | str, message: str) -> None:
    path = write(
        tmp_path,
        noise(0 if content == "no samples" else 1000),
        subtype="PCM_16",
        format="FLAC" if content == "FLAC" else "WAV",
    )
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut short":
        path.write_bytes(path.read_bytes()[:-500])
    elif content == "absent":
        path.unlink()
    with pytest.raises(DataError, match=rf"A001\.wav: .*{message}"):
        read_waveform(path, sample_rate_hz=RATE_HZ)
