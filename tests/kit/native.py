"""The C++ preprocessing for tests: building it, calling its C interface through ctypes."""

from __future__ import annotations

import ctypes as c
import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from kit.fakes import make_manifest

from preprocess import HeatmapSpec, LogMelSpec, PreprocessSpec
from runtime.manifest import Label, TensorInfo

Array = npt.NDArray[Any]

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "android_bench" / "native"
FLOAT32, INT8 = 0, 1
OK, WRONG_USE, BAD_DATA = 0, 2, 4
NOTE_INVALID_JOINTS, NOTE_NO_BODY, NOTE_NO_PELVIS, NOTE_NO_TORSO = 1, 2, 4, 8


def require_program(name: str, package: str) -> None:
    """Skips the test where the program is missing."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed; run `apt install {package}`")


_TEMPORARY = tempfile.TemporaryDirectory(prefix="pocket-har-native-")
# A folder that is kept makes the next session's build quick.
BUILD_FOLDER = Path(os.environ.get("POCKET_HAR_NATIVE_BUILD") or _TEMPORARY.name)


@cache
def build(name: str, targets: tuple[str, ...], *options: str) -> Path:
    """Configures and builds targets once per session. Skips without a compiler."""
    require_program("cmake", "cmake")
    require_program("g++", "g++")
    folder = BUILD_FOLDER / name
    if not (folder / "CMakeCache.txt").exists():
        run(["cmake", "-S", SOURCE, "-B", folder, "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON", *options])
    run(["cmake", "--build", folder, "--parallel", "2", "--target", *targets])
    return folder


def run(command: list[Any], **options: Any) -> str:
    result = subprocess.run(
        [os.fspath(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def manifest_json(
    spec: PreprocessSpec,
    *,
    int8: dict[str, tuple[float, int]] | None = None,
    inputs: tuple[str, ...] = ("skeleton", "audio"),
) -> str:
    """A manifest as the exporter writes it; `int8` gives the inputs of that type their scale and zero point."""
    shapes = {"skeleton": spec.skeleton.shape, "audio": spec.audio.shape}
    tensors = []
    for name in inputs:
        quantized = (int8 or {}).get(name)
        tensors.append(TensorInfo(name, (1, *shapes[name]), *(("int8", *quantized) if quantized else ("float32",))))
    return make_manifest(
        spec=spec,
        labels=(Label("A001", "drink water"), Label("A003", "sich kämmen 🪥")),
        inputs=tuple(tensors),
        outputs=(TensorInfo("logits", (1, 2), "float32"),),
    ).to_json()


class Sizes(c.Structure):
    _fields_ = (
        ("skeleton", c.c_int32 * 3),
        ("audio", c.c_int32 * 3),
        ("skeleton_is_int8", c.c_int32),
        ("audio_is_int8", c.c_int32),
        ("joints", c.c_int32),
        ("sample_rate_hz", c.c_int32),
        ("audio_samples", c.c_int64),
    )


class Window(c.Structure):
    _fields_ = tuple(
        (name, c.c_int64) for name in ("frames", "first_index", "last_index", "first_sample", "end_sample")
    )


_P, _I32, _I64, _SIZE, _TEXT = c.c_void_p, c.c_int32, c.c_int64, c.c_size_t, c.c_char_p
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "har_create": (c.c_int, (_TEXT, _SIZE, c.POINTER(_P), _P, _SIZE)),
    "har_destroy": (None, (_P,)),
    "har_error": (_TEXT, (_P,)),
    "har_get_sizes": (c.c_int, (_P, c.POINTER(Sizes))),
    "har_label_count": (_I32, (_P,)),
    "har_label_name": (_TEXT, (_P, _I32)),
    "har_kernels": (_TEXT, ()),
    "har_heatmaps": (c.c_int, (_P, _P, _P, _I64, _I32, _TEXT, c.c_int, _P, _SIZE, c.POINTER(c.c_uint32))),
    "har_logmel": (c.c_int, (_P, _P, _I64, _I32, c.c_int, _P, _SIZE)),
    "har_stream_create": (c.c_int, (_P, _I32, _I32, _TEXT, c.POINTER(_P), _P, _SIZE)),
    "har_stream_destroy": (None, (_P,)),
    "har_stream_error": (_TEXT, (_P,)),
    "har_stream_reset": (c.c_int, (_P,)),
    "har_stream_push_frame": (c.c_int, (_P, _I64, _P, _P, _I32)),
    "har_stream_push_audio": (c.c_int, (_P, _P, _I64, _I32)),
    "har_stream_get_window": (c.c_int, (_P, c.POINTER(Window))),
    "har_stream_heatmaps": (c.c_int, (_P, c.c_int, _P, _SIZE, c.POINTER(c.c_uint32))),
    "har_stream_logmel": (c.c_int, (_P, c.c_int, _P, _SIZE)),
}


class HarError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@cache
def load(path: Path) -> c.CDLL:
    library = c.CDLL(os.fspath(path))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def library(*options: str) -> c.CDLL:
    """The shared library, built with the options."""
    name = "default" if not options else "".join(ch for ch in "-".join(options) if ch.isalnum())
    return load(build(name, ("har_shared",), *options) / "libpocket_har.so")


def _floats(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)


class Har:
    """`har`: batch functions. Outputs are given guard bytes, which must stay."""

    def __init__(self, lib: c.CDLL, manifest: str | bytes) -> None:
        self._lib, self._handle = lib, _P()
        text = manifest if isinstance(manifest, bytes) else manifest.encode()
        error = c.create_string_buffer(400)
        status = lib.har_create(text, len(text), c.byref(self._handle), error, len(error))
        if status != OK:
            raise HarError(status, error.value.decode(errors="replace"))
        self.sizes = Sizes()
        assert lib.har_get_sizes(self._handle, c.byref(self.sizes)) == OK
        self.notes = 0

    def __del__(self) -> None:
        if self._handle:
            self._lib.har_destroy(self._handle)

    def labels(self) -> list[str]:
        return [
            self._lib.har_label_name(self._handle, i).decode() for i in range(self._lib.har_label_count(self._handle))
        ]

    def _check(self, status: int) -> None:
        if status != OK:
            raise HarError(status, self._lib.har_error(self._handle).decode(errors="replace"))

    def heatmaps(self, joints: Array, confidence: Array, *, layout: str | None = None, type: int = FLOAT32) -> Array:
        joints, confidence = _floats(joints), _floats(confidence)
        notes = c.c_uint32()
        out = Output(tuple(self.sizes.skeleton), type)
        name = layout.encode() if layout else None
        self._check(
            self._lib.har_heatmaps(
                self._handle, joints.ctypes.data, confidence.ctypes.data, *confidence.shape[:2], name, type,
                out.address, out.bytes, c.byref(notes),
            )
        )  # fmt: skip
        self.notes = notes.value
        return out.checked()

    def logmel(self, waveform: Array, *, rate: int | None = None, type: int = FLOAT32) -> Array:
        waveform = _floats(waveform)
        out = Output(tuple(self.sizes.audio), type)
        rate = self.sizes.sample_rate_hz if rate is None else rate
        self._check(
            self._lib.har_logmel(self._handle, waveform.ctypes.data, waveform.size, rate, type, out.address, out.bytes)
        )
        return out.checked()

    def stream(self, window_frames: int, bodies: int, *, layout: str | None = None) -> Stream:
        return Stream(self._lib, self._handle, self.sizes, window_frames, bodies, layout)


class Stream:
    """`har_stream`."""

    def __init__(
        self, lib: c.CDLL, handle: c.c_void_p, sizes: Sizes, window_frames: int, bodies: int, layout: str | None
    ) -> None:
        self._lib, self._stream, self.sizes = lib, _P(), sizes
        error = c.create_string_buffer(400)
        name = layout.encode() if layout else None
        status = lib.har_stream_create(handle, window_frames, bodies, name, c.byref(self._stream), error, len(error))
        if status != OK:
            raise HarError(status, error.value.decode())
        self.notes = 0

    def __del__(self) -> None:
        if self._stream:
            self._lib.har_stream_destroy(self._stream)

    def _check(self, status: int) -> None:
        if status != OK:
            raise HarError(status, self._lib.har_stream_error(self._stream).decode())

    def reset(self) -> None:
        self._check(self._lib.har_stream_reset(self._stream))

    def push_frame(self, index: int, joints: Array, confidence: Array) -> None:
        joints, confidence = _floats(joints), _floats(confidence)
        self._check(
            self._lib.har_stream_push_frame(
                self._stream, index, joints.ctypes.data, confidence.ctypes.data, len(confidence)
            )
        )

    def push_audio(self, samples: Array, *, rate: int | None = None) -> None:
        samples = _floats(samples)
        rate = self.sizes.sample_rate_hz if rate is None else rate
        self._check(self._lib.har_stream_push_audio(self._stream, samples.ctypes.data, samples.size, rate))

    def window(self) -> Window:
        window = Window()
        assert self._lib.har_stream_get_window(self._stream, c.byref(window)) == OK
        return window

    def heatmaps(self, *, type: int = FLOAT32) -> Array:
        notes = c.c_uint32()
        out = Output(tuple(self.sizes.skeleton), type)
        self._check(self._lib.har_stream_heatmaps(self._stream, type, out.address, out.bytes, c.byref(notes)))
        self.notes = notes.value
        return out.checked()

    def logmel(self, *, type: int = FLOAT32) -> Array:
        out = Output(tuple(self.sizes.audio), type)
        self._check(self._lib.har_stream_logmel(self._stream, type, out.address, out.bytes))
        return out.checked()


class Output:
    """A tensor to be written, filled with a pattern, between guards that must not be touched."""

    def __init__(self, shape: tuple[int, ...], type: int) -> None:
        self._dtype = np.dtype(np.int8 if type == INT8 else np.float32)
        self._shape = shape
        self.bytes = int(np.prod(shape)) * self._dtype.itemsize
        self._memory = np.full(self.bytes + 128, 0xA5, np.uint8)
        self.address = self._memory[64:].ctypes.data

    def checked(self) -> Array:
        assert (self._memory[:64] == 0xA5).all()
        assert (self._memory[-64:] == 0xA5).all()
        return self._memory[64:-64].view(self._dtype).reshape(self._shape)


def spec_of(skeleton: HeatmapSpec | None = None, audio: LogMelSpec | None = None) -> PreprocessSpec:
    """A specification of which only one input matters; the other is as small as can be."""
    return PreprocessSpec(
        skeleton=skeleton or HeatmapSpec(size=8, sampled_frames=2),
        audio=audio or LogMelSpec(n_fft=64, window_samples=32, hop_samples=16, frames=9, n_mels=4),
    )


def nano() -> PreprocessSpec:
    """The nano preset with the standardisation of a trained model."""
    data = json.loads(PreprocessSpec.preset("nano").to_json())
    data["audio"] |= {"mean": [-39.4, -0.23, -0.004], "std": [24.7, 1.4, 0.7]}
    return PreprocessSpec.from_dict(data)
