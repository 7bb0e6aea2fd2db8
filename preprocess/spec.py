"""The specification of the two inputs: every size and constant that training, export and a device share.

It travels with each checkpoint and artifact as JSON. Frozen; a value that cannot work is refused when the
specification is made, not when it is first used.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .errors import DataError, require
from .layouts import LAYOUTS, NTU25, SkeletonLayout

FloatArray: TypeAlias = npt.NDArray[np.float32]
DoubleArray: TypeAlias = npt.NDArray[np.float64]
AnyFloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
_Part = TypeVar("_Part", "HeatmapSpec", "LogMelSpec")

SPEC_VERSION = 1
DELTA_WIDTH = 9  # frames; librosa.feature.delta needs at least this many


def _require_finite(owner: object) -> None:
    for item in fields(owner):  # type: ignore[arg-type]
        value = getattr(owner, item.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(n, float) and not math.isfinite(n) for n in numbers):
            raise DataError(f"{item.name} is {value!r}; every number of a specification must be finite")


@dataclass(frozen=True)
class HeatmapSpec:
    """Skeleton → heatmaps (paper, appendix A, Eq. 1 and 2).

    Attributes:
        size: side S of the square maps, in pixels.
        sampled_frames: frames drawn from a recording; channels are 6 × frames + 1 (motion map).
        sigma_px: standard deviation of joints and limbs, in pixels.
        field_of_view_torso: half width of the view, in torso lengths.
        min_confidence: a joint below it is not drawn.
        max_bodies: bodies kept, those with most motion first.
        default_torso_m: torso length used when none can be measured, in metres.
        min_torso_m: a measured torso length must exceed it, in metres.
        layout: name of the skeleton layout of recordings that do not name theirs.
    """

    size: int = 224
    sampled_frames: int = 5
    sigma_px: float = 2.0
    field_of_view_torso: float = 2.5
    min_confidence: float = 0.2
    max_bodies: int = 2
    default_torso_m: float = 0.5
    min_torso_m: float = 0.05
    layout: str = NTU25.name

    def __post_init__(self) -> None:
        _require_finite(self)
        require(self.size >= 8, "size", self.size, "use at least 8 pixels")
        require(self.sampled_frames >= 2, "sampled_frames", self.sampled_frames, "the motion map needs at least 2")
        require(self.sigma_px > 0, "sigma_px", self.sigma_px, "use a positive number of pixels")
        require(self.field_of_view_torso > 0, "field_of_view_torso", self.field_of_view_torso, "use a positive length")
        require(0 < self.min_confidence <= 1, "min_confidence", self.min_confidence, "use a number in (0, 1]")
        require(self.max_bodies >= 1, "max_bodies", self.max_bodies, "keep at least one body")
        require(self.default_torso_m > 0, "default_torso_m", self.default_torso_m, "use a positive length in metres")
        require(self.min_torso_m > 0, "min_torso_m", self.min_torso_m, "use a positive length in metres")
        require(self.layout in LAYOUTS, "layout", self.layout, f"use one of {', '.join(LAYOUTS)}")

    @property
    def channels(self) -> int:
        """Three joint and three limb maps for every sampled frame, and the motion map."""
        return 6 * self.sampled_frames + 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the tensor, (rows, columns, channels)."""
        return (self.size, self.size, self.channels)

    @property
    def skeleton_layout(self) -> SkeletonLayout:
        return LAYOUTS[self.layout]


@dataclass(frozen=True)
class LogMelSpec:
    """Waveform → log-Mel with Δ and Δ², as librosa 0.11 computes them.

    Attributes:
        sample_rate_hz: rate of the waveform.
        window_samples: length of the periodic Hann window.
        n_fft: length of the transform; the window is zero-padded to its centre.
        hop_samples: distance between frames.
        n_mels: Mel bands (Slaney scale and norm).
        fmin_hz, fmax_hz: range that the bands cover.
        frames: spectrogram frames; the waveform is padded or trimmed to (frames − 1) · hop samples.
        amin: smallest power, the floor of the logarithm.
        top_db: dynamic range kept below the maximum, in dB.
        mean, std: of (log-Mel, Δ, Δ²) over the training set; the tensor is (x − mean) / std.
    """

    sample_rate_hz: int = 32_000
    window_samples: int = 800
    n_fft: int = 1024
    hop_samples: int = 320
    n_mels: int = 128
    fmin_hz: float = 0.0
    fmax_hz: float = 16_000.0
    frames: int = 384
    amin: float = 1e-10
    top_db: float = 80.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _require_finite(self)
        require(self.sample_rate_hz > 0, "sample_rate_hz", self.sample_rate_hz, "use a positive rate")
        require(
            0 < self.window_samples <= self.n_fft,
            "window_samples",
            self.window_samples,
            f"use 1 to n_fft = {self.n_fft} samples",
        )
        require(self.n_fft % 2 == 0, "n_fft", self.n_fft, "use an even length")
        require(self.hop_samples > 0, "hop_samples", self.hop_samples, "use a positive number of samples")
        require(self.n_mels > 0, "n_mels", self.n_mels, "use at least one band")
        require(
            0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2,
            "fmin_hz, fmax_hz",
            (self.fmin_hz, self.fmax_hz),
            f"use 0 <= fmin_hz < fmax_hz <= {self.sample_rate_hz / 2:g}, half the sample rate",
        )
        require(self.frames >= DELTA_WIDTH, "frames", self.frames, f"Δ needs at least {DELTA_WIDTH} frames")
        require(0 < self.amin <= 1, "amin", self.amin, "use a power in (0, 1]")
        require(self.top_db > 0, "top_db", self.top_db, "use a positive range in dB")
        require(len(self.mean) == 3, "mean", self.mean, "give one number for each of log-Mel, Δ and Δ²")
        require(len(self.std) == 3, "std", self.std, "give one number for each of log-Mel, Δ and Δ²")
        require(all(s > 0 for s in self.std), "std", self.std, "every deviation must be positive")

    @property
    def samples(self) -> int:
        """Length of the waveform that fills the spectrogram exactly."""
        return (self.frames - 1) * self.hop_samples

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the tensor, (bands, frames, 3)."""
        return (self.n_mels, self.frames, 3)


@dataclass(frozen=True)
class PreprocessSpec:
    """Both inputs of the recogniser."""

    skeleton: HeatmapSpec = field(default_factory=HeatmapSpec)
    audio: LogMelSpec = field(default_factory=LogMelSpec)

    @classmethod
    def preset(cls, name: str) -> PreprocessSpec:
        """The named preset, `paper` or `nano`.

        Raises:
            DataError: no preset has that name.
        """
        if name not in _PRESETS:
            raise DataError(f"preset {name!r} does not exist; use one of {', '.join(_PRESETS)}")
        return _PRESETS[name]

    def is_close(self, other: PreprocessSpec) -> bool:
        """Whether both make the same tensors.

        Mean and std may differ by 1e-6 of them: two releases sum the same training set in different orders.
        """
        mine, theirs = self.audio, other.audio
        pairs = zip((*mine.mean, *mine.std), (*theirs.mean, *theirs.std), strict=True)
        same = replace(self, audio=replace(mine, mean=theirs.mean, std=theirs.std)) == other
        return same and all(math.isclose(a, b, rel_tol=1e-6) for a, b in pairs)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives an equal specification back."""
        return {"version": SPEC_VERSION, **json.loads(json.dumps(asdict(self)))}

    @classmethod
    def from_dict(cls, data: Any) -> PreprocessSpec:
        """Inverse of `to_dict`.

        Raises:
            DataError: a field is unknown, missing, of the wrong type or out of range.
        """
        if not isinstance(data, dict):
            raise DataError(f"a specification must be a JSON object, not {type(data).__name__}")
        if data.get("version") != SPEC_VERSION:
            raise DataError(f"specification version is {data.get('version')!r}; this release reads {SPEC_VERSION}")
        unknown = set(data) - {"version", "skeleton", "audio"}
        if unknown:
            raise DataError(f"specification has unknown parts {sorted(unknown)}; it holds skeleton and audio")
        return cls(
            skeleton=_read(HeatmapSpec, data.get("skeleton"), "skeleton"),
            audio=_read(LogMelSpec, data.get("audio"), "audio"),
        )


def _read(kind: type[_Part], data: Any, part: str) -> _Part:
    """Build one part from its JSON object, check names and types against the defaults'."""
    if not isinstance(data, dict):
        raise DataError(f"specification part {part!r} is missing or not a JSON object")
    defaults = {item.name: getattr(kind(), item.name) for item in fields(kind)}
    if set(data) != set(defaults):
        difference = sorted(set(data) ^ set(defaults))
        raise DataError(f"specification part {part!r} has missing or unknown fields: {', '.join(difference)}")
    return kind(**{name: _typed(data[name], default, f"{part}.{name}") for name, default in defaults.items()})


def _typed(value: Any, default: Any, name: str) -> Any:
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_typed(item, default[0], name) for item in value)
    if isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise DataError(f"{name} is {value!r}; it must be of type {type(default).__name__}")
    return value


_PRESETS = {
    "paper": PreprocessSpec(),
    "nano": PreprocessSpec(
        skeleton=HeatmapSpec(size=96, sigma_px=2.0 * 96 / 224),
        audio=LogMelSpec(n_mels=64, frames=192, hop_samples=640),
    ),
}
