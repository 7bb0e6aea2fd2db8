"""The C++ preprocessing, `libpocket_har.so`: a ctypes binding of har.h, where every call is described.

Arrays are C-contiguous; inputs are float32, outputs float32 or int8 with the shape of the tensor, which `out` receives.
"""

from __future__ import annotations

import ctypes as c
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from preprocess.errors import DataError, MissingComponentError

if TYPE_CHECKING:
    import numpy.typing as npt

    from preprocess import PreprocessSpec

    from .manifest import TensorInfo

    Array = npt.NDArray[Any]

_BUILD = "cmake -S android_bench/native -B build/native && cmake --build build/native --target har_shared"
_TYPES = {np.dtype(np.float32): 0, np.dtype(np.int8): 1}  # har_type
_ERROR_BYTES = 400


class Sizes(c.Structure):
    """har_sizes."""

    _fields_ = (
        ("skeleton", c.c_int32 * 3),
        ("audio", c.c_int32 * 3),
        ("skeleton_is_int8", c.c_int32),
        ("audio_is_int8", c.c_int32),
        ("joints", c.c_int32),
        ("sample_rate_hz", c.c_int32),
        ("audio_samples", c.c_int64),
    )


_WINDOW = ("frames", "first_index", "last_index", "first_sample", "end_sample")  # har_stream_window, int64 each
_P, _I32, _I64, _SIZE, _TEXT = c.c_void_p, c.c_int32, c.c_int64, c.c_size_t, c.c_char_p
_FLOATS = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
_OUT = (c.c_int, np.ctypeslib.ndpointer(flags=("C_CONTIGUOUS", "WRITEABLE")), _SIZE)
_NOTES, _ERROR = (c.POINTER(c.c_uint32),), (_P, _SIZE)
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "har_create": (c.c_int, (_TEXT, _SIZE, c.POINTER(_P), *_ERROR)),
    "har_destroy": (None, (_P,)),
    "har_error": (_TEXT, (_P,)),
    "har_get_sizes": (c.c_int, (_P, c.POINTER(Sizes))),
    "har_label_count": (_I32, (_P,)),
    "har_label_name": (_TEXT, (_P, _I32)),
    "har_kernels": (_TEXT, ()),
    "har_heatmaps": (c.c_int, (_P, _FLOATS, _FLOATS, _I64, _I32, _TEXT, *_OUT, *_NOTES)),
    "har_logmel": (c.c_int, (_P, _FLOATS, _I64, _I32, *_OUT)),
    "har_stream_create": (c.c_int, (_P, _I32, _I32, _TEXT, c.POINTER(_P), *_ERROR)),
    "har_stream_destroy": (None, (_P,)),
    "har_stream_error": (_TEXT, (_P,)),
    "har_stream_reset": (c.c_int, (_P,)),
    "har_stream_push_frame": (c.c_int, (_P, _I64, _FLOATS, _FLOATS, _I32)),
    "har_stream_push_audio": (c.c_int, (_P, _FLOATS, _I64, _I32)),
    "har_stream_get_window": (c.c_int, (_P, c.POINTER(c.c_int64 * len(_WINDOW)))),
    "har_stream_heatmaps": (c.c_int, (_P, *_OUT, *_NOTES)),
    "har_stream_logmel": (c.c_int, (_P, *_OUT)),
}


class HarError(DataError):
    """A call of the library failed; `status` is its har_status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NativeLibrary:
    """The loaded library; `kernels` is "avx2" or "baseline".

    Raises:
        MissingComponentError: the file does not exist.
        DataError: it does not load.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MissingComponentError(f"{path} does not exist; run `{_BUILD}`, or name the library with --library")
        try:
            self.functions = c.CDLL(str(path.resolve()))
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(self.functions, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise DataError(f"{path} is no libpocket_har.so of this machine: {error}; build it again") from error
        self.kernels: str = self.functions.har_kernels().decode()

    def open(self, manifest: str | bytes) -> Har:
        """A handle for the specification and inputs of a manifest.json. Raises HarError."""
        text = manifest.encode() if isinstance(manifest, str) else manifest
        return Har(self.functions, _create(self.functions.har_create, text, len(text)))


class Har:
    """`har`: whole recordings. Every method raises HarError. `notes` are HAR_NOTE_* of the last heatmaps."""

    def __init__(self, functions: c.CDLL, handle: c.c_void_p) -> None:
        self._functions, self._handle = functions, handle
        weakref.finalize(self, functions.har_destroy, handle)
        self.notes = 0
        self.sizes = Sizes()
        self._check(functions.har_get_sizes(handle, c.byref(self.sizes)))

    def labels(self) -> list[str]:
        count = self._functions.har_label_count(self._handle)
        return [self._functions.har_label_name(self._handle, index).decode() for index in range(count)]

    def heatmaps(self, joints: Array, confidence: Array, out: Array, *, layout: str | None = None) -> Array:
        """joints [frames, bodies, J, 3] in metres, confidence [frames, bodies, J]; returns `out`."""
        notes, (frames, bodies) = c.c_uint32(), confidence.shape[:2]
        recording = (joints, confidence, frames, bodies, layout.encode() if layout else None)
        self._check(self._functions.har_heatmaps(self._handle, *recording, *_output(out), c.byref(notes)))
        self.notes = notes.value
        return out

    def logmel(self, waveform: Array, rate_hz: int, out: Array) -> Array:
        """waveform [samples]; returns `out`."""
        self._check(self._functions.har_logmel(self._handle, waveform, waveform.size, rate_hz, *_output(out)))
        return out

    def stream(self, window_frames: int, bodies: int, *, layout: str | None = None) -> HarStream:
        arguments = self._handle, window_frames, bodies, layout.encode() if layout else None
        return HarStream(self._functions, _create(self._functions.har_stream_create, *arguments))

    def _check(self, status: int) -> None:
        if status:
            raise HarError(status, self._functions.har_error(self._handle).decode(errors="replace"))


class HarStream:
    """`har_stream`: frames and samples that arrive in pieces, and the tensors of the window. Every method raises
    HarError. `notes` are HAR_NOTE_* of the last heatmaps.
    """

    def __init__(self, functions: c.CDLL, stream: c.c_void_p) -> None:
        self._functions, self._stream = functions, stream
        weakref.finalize(self, functions.har_stream_destroy, stream)
        self.notes = 0

    def push_frame(self, index: int, joints: Array, confidence: Array) -> None:
        """joints [bodies, J, 3], confidence [bodies, J]."""
        bodies = len(confidence)
        self._check(self._functions.har_stream_push_frame(self._stream, index, joints, confidence, bodies))

    def push_audio(self, samples: Array, rate_hz: int) -> None:
        self._check(self._functions.har_stream_push_audio(self._stream, samples, samples.size, rate_hz))

    def reset(self) -> None:
        self._check(self._functions.har_stream_reset(self._stream))

    def window(self) -> SimpleNamespace:
        """The fields of har_stream_window."""
        numbers = (c.c_int64 * len(_WINDOW))()
        self._check(self._functions.har_stream_get_window(self._stream, c.byref(numbers)))
        return SimpleNamespace(**dict(zip(_WINDOW, numbers, strict=True)))

    def heatmaps(self, out: Array) -> Array:
        notes = c.c_uint32()
        self._check(self._functions.har_stream_heatmaps(self._stream, *_output(out), c.byref(notes)))
        self.notes = notes.value
        return out

    def logmel(self, out: Array) -> Array:
        self._check(self._functions.har_stream_logmel(self._stream, *_output(out)))
        return out

    def _check(self, status: int) -> None:
        if status:
            raise HarError(status, self._functions.har_stream_error(self._stream).decode(errors="replace"))


def _create(function: Any, *arguments: Any) -> c.c_void_p:
    handle, error = c.c_void_p(), c.create_string_buffer(_ERROR_BYTES)
    status = function(*arguments, c.byref(handle), error, _ERROR_BYTES)
    if status:
        raise HarError(status, error.value.decode(errors="replace"))
    return handle


def _output(out: Array) -> tuple[int, Array, int]:
    return _TYPES[out.dtype], out, out.nbytes


def manifest_text(spec: PreprocessSpec, inputs: tuple[TensorInfo, ...]) -> str:
    """A manifest of which only the specification and the inputs matter."""
    from .manifest import Manifest

    texts = dict.fromkeys(("name", "model_file", "sha256", "preset", "recipe", "target", "command"), "")
    objects: dict[str, Any] = {name: {} for name in ("cost", "verification", "checkpoint", "versions")}
    nothing = dict.fromkeys(("calibration", "search", "measurement"))
    lists: dict[str, Any] = dict.fromkeys(("labels", "outputs", "golden"), ())
    fields = {"format": "tflite", "size_bytes": 0, **texts, **objects, **nothing, **lists}
    return Manifest(preprocess=spec.to_dict(), inputs=inputs, **fields).to_json()
