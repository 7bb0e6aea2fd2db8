"""The C++ preprocessing in tests: its build, and its binding with guards around every output."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from kit.fakes import make_manifest

from preprocess import HeatmapSpec, LogMelSpec, PreprocessSpec
from runtime.manifest import Label, TensorInfo
from runtime.native import NativeLibrary

Array = npt.NDArray[Any]

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "android_bench" / "native"
BUILD_FOLDER = ROOT / "build" / "tests"  # kept: the next session compiles only what has changed
BASELINE = "-DHAR_AVX2=OFF"
KERNELS = {"best": (), "baseline": (BASELINE,)}
QUANTIZED = {"skeleton": (1 / 255, -128), "audio": (0.03, 5)}  # scale and zero point
FLOAT32, INT8 = np.float32, np.int8
WRONG_USE, BAD_DATA = 2, 4  # har_status
NOTE_INVALID_JOINTS, NOTE_NO_BODY, NOTE_NO_PELVIS, NOTE_NO_TORSO = 1, 2, 4, 8


def require_program(name: str, package: str) -> None:
    """Skips the test where the program is missing."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed; run `apt install {package}`")


@cache
def build(name: str, targets: tuple[str, ...], *options: str) -> Path:
    """The folder with built targets, once per session; workers wait for each other. Skips without a compiler."""
    require_program("cmake", "cmake")
    require_program("g++", "g++")
    folder = BUILD_FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(["cmake", "-S", SOURCE, "-B", folder, "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON", *options])
        run(["cmake", "--build", folder, "--parallel", "2", "--target", *targets])
    return folder


def build_for_arm(target: str) -> list[str | Path]:
    """The words that run a program built for 64-bit ARM under qemu. Skips without the toolchain."""
    require_program("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    require_program("qemu-aarch64-static", "qemu-user-static")
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={SOURCE / 'cmake' / 'aarch64-linux-gnu.cmake'}"
    folder = build("arm", (target,), toolchain, "-DHAR_STATIC_PROGRAMS=ON")
    return ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu", folder / target]


def run(command: list[Any], **options: Any) -> str:
    result = subprocess.run(list(map(os.fspath, command)), capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def manifest_json(spec: PreprocessSpec, *, int8: Any = None, inputs: Sequence[str] = ("skeleton", "audio")) -> str:
    """A manifest as the exporter writes it; `int8` gives the inputs of that type their scale and zero point."""
    types = {name: ("int8", *numbers) for name, numbers in (int8 or {}).items()}
    tensors = [TensorInfo(name, (1, *getattr(spec, name).shape), *types.get(name, ("float32",))) for name in inputs]
    return make_manifest(
        spec=spec,
        labels=(Label("A001", "drink water"), Label("A003", "sich kämmen 🪥")),
        inputs=tuple(tensors),
        outputs=(TensorInfo("logits", (1, 2), "float32"),),
    ).to_json()


@cache
def library(*options: str) -> NativeLibrary:
    """The shared library, built with the options."""
    name = "default" if not options else "".join(filter(str.isalnum, "-".join(options)))
    return NativeLibrary(build(name, ("har_shared",), *options) / "libpocket_har.so")


class Har:
    """`runtime.native.Har` with inputs of any float type and outputs of the tensors' shapes, guarded."""

    def __init__(self, lib: NativeLibrary, manifest: str | bytes) -> None:
        self._har = lib.open(manifest)
        self.sizes, self.labels = self._har.sizes, self._har.labels()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._har, name)

    def heatmaps(self, joints: Array, confidence: Array, *, layout: str | None = None, type: Any = FLOAT32) -> Array:
        recording = _floats(joints), _floats(confidence)
        return guarded(self.sizes.skeleton, type, lambda out: self._har.heatmaps(*recording, out, layout=layout))

    def logmel(self, waveform: Array, *, rate: int | None = None, type: Any = FLOAT32) -> Array:
        rate = self.sizes.sample_rate_hz if rate is None else rate
        return guarded(self.sizes.audio, type, lambda out: self._har.logmel(_floats(waveform), rate, out))

    def stream(self, window_frames: int, bodies: int, *, layout: str | None = None) -> Stream:
        return Stream(self, window_frames, bodies, layout)


class Stream:
    """`runtime.native.HarStream`, likewise."""

    def __init__(self, har: Har, window_frames: int, bodies: int, layout: str | None) -> None:
        self.sizes, self._stream = har.sizes, har._har.stream(window_frames, bodies, layout=layout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def push_frame(self, index: int, joints: Array, confidence: Array) -> None:
        self._stream.push_frame(index, _floats(joints), _floats(confidence))

    def push_audio(self, samples: Array, *, rate: int | None = None) -> None:
        self._stream.push_audio(_floats(samples), self.sizes.sample_rate_hz if rate is None else rate)

    def heatmaps(self, *, type: Any = FLOAT32) -> Array:
        return guarded(self.sizes.skeleton, type, self._stream.heatmaps)

    def logmel(self, *, type: Any = FLOAT32) -> Array:
        return guarded(self.sizes.audio, type, self._stream.logmel)


def _floats(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)


def guarded(shape: Any, dtype: Any, write: Callable[[Array], Array]) -> Array:
    """A tensor that is written over a pattern, between guards that must not be touched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(size + 128, 0xA5, np.uint8)
    out = write(memory[64:-64].view(dtype).reshape(tuple(shape)))
    assert (memory[:64] == 0xA5).all()
    assert (memory[-64:] == 0xA5).all()
    return out


def spec_of(skeleton: HeatmapSpec | None = None, audio: LogMelSpec | None = None) -> PreprocessSpec:
    """A specification of which only one input matters; the other is as small as possible."""
    return PreprocessSpec(
        skeleton=skeleton or HeatmapSpec(size=8, sampled_frames=2),
        audio=audio or LogMelSpec(n_fft=64, window_samples=32, hop_samples=16, frames=9, n_mels=4),
    )


def nano() -> PreprocessSpec:
    """The nano preset with the standardisation of a trained model."""
    spec = PreprocessSpec.preset("nano")
    return replace(spec, audio=replace(spec.audio, mean=(-39.4, -0.23, -0.004), std=(24.7, 1.4, 0.7)))
