"""The C++ preprocessing, `libpocket_har.so`, through the C interface of har.h."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocess.errors import DataError, MissingComponentError

if TYPE_CHECKING:
    import numpy.typing as npt

    from preprocess import PreprocessSpec

    from .manifest import TensorInfo

    Array = npt.NDArray[Any]

_BUILD = "cmake -S android_bench/native -B build/native && cmake --build build/native --target har_shared"
_TYPES = {"float32": 0, "int8": 1}  # HAR_FLOAT32, HAR_INT8 of har.h


class NativeLibrary:
    """`libpocket_har.so` through the C interface of har.h; `open` comes before all else.

    Raises:
        MissingComponentError: it is not there.
        DataError: it does not load.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MissingComponentError(f"{path} does not exist; run `{_BUILD}`, or name the library with --library")
        try:
            self._library = ctypes.CDLL(str(path.resolve()))
            self._handle = ctypes.c_void_p()
            self._library.har_kernels.restype = ctypes.c_char_p
            self._library.har_error.restype = ctypes.c_char_p
            self._library.har_stream_error.restype = ctypes.c_char_p
            self.kernels: str = self._library.har_kernels().decode()
        except (OSError, AttributeError) as error:
            raise DataError(f"{path} is no libpocket_har.so of this machine: {error}; build it again") from error

    def open(self, manifest: str) -> None:
        """Takes the specification of a manifest, for the life of the process."""
        reason, text, size = ctypes.create_string_buffer(400), manifest.encode(), ctypes.c_size_t
        if self._library.har_create(text, size(len(text)), ctypes.byref(self._handle), reason, size(len(reason))):
            raise DataError(f"the library refuses the specification: {reason.value.decode()}")

    def heatmaps(self, joints: Array, confidence: Array, out: Array) -> Array:
        """`har_heatmaps` of float32 joints and confidence into `out`."""
        frames, bodies = confidence.shape[:2]
        status = self._library.har_heatmaps(
            self._handle, _address(joints), _address(confidence), ctypes.c_int64(frames), ctypes.c_int32(bodies), None,
            *_output(out), None,
        )  # fmt: skip
        return self._checked(status, out)

    def logmel(self, waveform: Array, rate_hz: int, out: Array) -> Array:
        """`har_logmel` of a float32 waveform into `out`."""
        status = self._library.har_logmel(
            self._handle, _address(waveform), ctypes.c_int64(waveform.size), ctypes.c_int32(rate_hz), *_output(out)
        )
        return self._checked(status, out)

    def stream(self, window_frames: int, bodies: int) -> NativeStream:
        """A window of the last frames and of the sound, for the life of the process."""
        stream, reason = ctypes.c_void_p(), ctypes.create_string_buffer(400)
        if self._library.har_stream_create(
            self._handle, ctypes.c_int32(window_frames), ctypes.c_int32(bodies), None, ctypes.byref(stream), reason,
            ctypes.c_size_t(len(reason)),
        ):  # fmt: skip
            raise DataError(f"the library refuses a stream: {reason.value.decode()}")
        return NativeStream(self._library, stream)

    def _checked(self, status: int, out: Array) -> Array:
        if status:
            raise DataError(f"the library failed: {self._library.har_error(self._handle).decode()}")
        return out


class NativeStream:
    """Frames and samples that arrive in pieces, and the tensors of the window (`NativeLibrary.stream`)."""

    def __init__(self, library: ctypes.CDLL, stream: ctypes.c_void_p) -> None:
        self._library, self._stream = library, stream

    def push(self, index: int, joints: Array, confidence: Array, samples: Array, rate_hz: int) -> None:
        """One frame, float32 [bodies, 25, 3] and [bodies, 25], and the samples [n] that came with it."""
        bodies = ctypes.c_int32(len(joints))
        self._check(
            self._library.har_stream_push_frame(
                self._stream, ctypes.c_int64(index), _address(joints), _address(confidence), bodies
            )
        )
        count, rate = ctypes.c_int64(samples.size), ctypes.c_int32(rate_hz)
        self._check(self._library.har_stream_push_audio(self._stream, _address(samples), count, rate))

    def read(self, heatmaps: Array, logmel: Array) -> None:
        """Both tensors of the window, each into an array of its shape and type."""
        self._check(self._library.har_stream_heatmaps(self._stream, *_output(heatmaps), None))
        self._check(self._library.har_stream_logmel(self._stream, *_output(logmel)))

    def _check(self, status: int) -> None:
        if status:
            raise DataError(f"the library failed: {self._library.har_stream_error(self._stream).decode()}")


def _output(out: Array) -> tuple[int, ctypes.c_void_p, ctypes.c_size_t]:
    return _TYPES[out.dtype.name], _address(out), ctypes.c_size_t(out.nbytes)


def _address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def manifest_text(spec: PreprocessSpec, inputs: tuple[TensorInfo, ...]) -> str:
    """The text of a manifest of which only the specification and the inputs matter."""
    from .manifest import Manifest

    return Manifest(
        name="native",
        format="tflite",
        model_file="model.tflite",
        sha256="",
        size_bytes=0,
        preset="",
        recipe="static_wi8_ai8",
        target="xnnpack",
        preprocess=spec.to_dict(),
        labels=(),
        inputs=inputs,
        outputs=(),
        calibration=None,
        cost={},
        search=None,
        verification={},
        measurement=None,
        checkpoint={},
        golden=(),
        versions={},
        command="",
    ).to_json()
