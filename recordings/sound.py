"""Reader of WAV files: any rate and channel count, PCM of 16, 24 or 32 bits or float, through libsndfile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError

_WAV_FORMATS = ("WAV", "WAVEX", "RF64")


def read_waveform(path: Path, *, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Reads a WAV file as one channel at a given rate.

    Channels are averaged. Another rate is resampled with soxr's high quality, as `librosa.resample` does by default.

    Args:
        path: the WAV file.
        sample_rate_hz: rate wanted, above 0.

    Returns:
        float32 [N], full scale is [−1, 1]; N = ceil(samples · sample_rate_hz / rate of the file).

    Raises:
        DataError: the file is missing, no WAV, truncated or empty, or holds non-finite samples.
    """
    waveform, file_rate_hz = read_native(path)
    return resample(waveform, from_hz=file_rate_hz, to_hz=sample_rate_hz)


def read_native(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """As `read_waveform`, at the file's own rate: (float32 [N], rate in Hz)."""
    import soundfile

    if not path.is_file():
        raise DataError(f"{path}: the WAV file does not exist")
    _refuse_truncated(path)
    try:
        with soundfile.SoundFile(path) as file:
            if file.format not in _WAV_FORMATS:
                raise DataError(f"{path}: the format is {file.format}, not WAV; convert it")
            channels = file.read(dtype="float32", always_2d=True)
            rate_hz = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: not a readable WAV file ({error.error_string.strip().rstrip('.')})") from None
    if channels.size == 0:
        raise DataError(f"{path}: the WAV file holds no samples")
    if not np.isfinite(channels).all():
        first = int(np.flatnonzero(~np.isfinite(channels).all(axis=1))[0])
        raise DataError(f"{path}: sample {first} is not finite; write the file again")
    return channels.mean(axis=1, dtype=np.float64).astype(np.float32), rate_hz


def resample(waveform: npt.NDArray[np.float32], *, from_hz: int, to_hz: int) -> npt.NDArray[np.float32]:
    """Resamples float32 [N] to float32 [ceil(N · to_hz / from_hz)]; equal to `librosa.resample` (soxr_hq).

    Raises:
        DataError: a rate is not above 0.
    """
    if from_hz <= 0 or to_hz <= 0:
        raise DataError(f"cannot resample from {from_hz} Hz to {to_hz} Hz; rates are above 0")
    if from_hz == to_hz:
        return waveform
    import soxr

    length = -(-len(waveform) * to_hz // from_hz)
    resampled = np.asarray(soxr.resample(waveform, from_hz, to_hz, quality="HQ"), np.float32)[:length]
    return np.pad(resampled, (0, length - len(resampled)))


def _refuse_truncated(path: Path) -> None:
    """libsndfile reads what is left of a file cut short and says nothing; the RIFF header knows the true size."""
    with open(path, "rb") as file:
        header = file.read(8)
    stated = int.from_bytes(header[4:], "little") + 8
    unknown = stated - 8 in (0, 0xFFFFFFFF)  # written by a program that could not seek back
    size = path.stat().st_size
    if header[:4] == b"RIFF" and not unknown and size + 1 < stated:  # one byte of padding is often left out
        raise DataError(f"{path}: the WAV file is truncated, {size} of {stated} bytes; copy it again")
