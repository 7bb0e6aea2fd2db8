"""Around the C++ library: allocations, the benchmark, Java on a desktop, 64-bit ARM under qemu, clang."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from kit.inputs import HEATMAP_TOLERANCE, PARITY_DB, body, scene
from kit.native import (
    INT8,
    QUANTIZED,
    SOURCE,
    Har,
    build,
    build_for_arm,
    library,
    manifest_json,
    nano,
    require_program,
    run,
)

from preprocess import MSR20, skeleton_to_heatmaps, waveform_to_logmel

Array = npt.NDArray[Any]
FRAMES, BODIES = 23, 2


def test_a_stream_allocates_nothing_after_its_creation() -> None:
    counts = json.loads(run([build("default", ("har_allocations",)) / "har_allocations"]))
    assert counts["at_creation"] > 10  # the counter counts
    assert counts["after_creation"] == 0


def test_the_benchmark_runs() -> None:
    document = json.loads(run([build("default", ("har_bench",)) / "har_bench", "--runs", "3"]))
    assert document["runs"] == 3
    names = {entry["name"] for entry in document["results"]}
    assert {"heatmaps int8, 2 bodies", "log-Mel float32", "stream update int8, 1 body"} <= names
    for entry in document["results"]:
        assert 0 < entry["cpu_min_ms"] <= entry["cpu_median_ms"]


class Golden:
    """A recording as files for a program, and the comparison of its results with NumPy and with the library."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.spec = folder, nano()
        self.manifest = manifest_json(self.spec, int8=QUANTIZED)
        self.joints, self.confidence = scene(*[body(MSR20, FRAMES, seed=p, at=(p, 0, 3)) for p in range(BODIES)])
        self.confidence[:, 1] = 0.6
        self.joints[3, 0, 7] = np.nan
        rng = np.random.default_rng(0)
        self.waveform = rng.normal(0, 0.1, self.spec.audio.samples // 320 * 320).astype(np.float32)
        self.waveform[40_000:60_000] = 0
        (folder / "manifest.json").write_text(self.manifest, encoding="utf-8")
        for name in ("joints", "confidence", "waveform"):
            getattr(self, name).tofile(folder / f"{name}.bin")

    def run(self, *command: str | Path) -> str:
        return run([*command, self.folder, str(FRAMES), str(BODIES), "msr20"])

    def written(self, name: str, dtype: type = np.float32) -> Array:
        return np.fromfile(self.folder / f"{name}.bin", dtype)

    def assert_equals_numpy(self) -> None:
        heatmaps = skeleton_to_heatmaps(self.joints, self.confidence, self.spec.skeleton, layout=MSR20).tensor
        logmel = waveform_to_logmel(self.waveform, self.spec.audio)
        np.testing.assert_allclose(self.written("heatmaps"), heatmaps.ravel(), rtol=0, atol=HEATMAP_TOLERANCE)
        difference = self.written("logmel").reshape(logmel.shape) - logmel
        assert np.abs(difference * np.array(self.spec.audio.std)).max() <= PARITY_DB
        for name in ("heatmaps", "logmel"):
            np.testing.assert_array_equal(self.written(f"stream_{name}"), self.written(name))

    def assert_equals_library(self) -> None:
        har = Har(library(), self.manifest)
        for suffix, dtype in (("", np.float32), ("_int8", INT8)):
            heatmaps = har.heatmaps(self.joints, self.confidence, layout="msr20", type=dtype)
            np.testing.assert_array_equal(self.written(f"heatmaps{suffix}", dtype), heatmaps.ravel())
            logmel = har.logmel(self.waveform, type=dtype)
            np.testing.assert_array_equal(self.written(f"logmel{suffix}", dtype), logmel.ravel())


def test_the_golden_program_equals_numpy_and_the_library(tmp_path: Path) -> None:
    golden = Golden(tmp_path)
    golden.run(build("default", ("har_golden",)) / "har_golden")
    golden.assert_equals_numpy()
    golden.assert_equals_library()


@pytest.mark.toolchains
def test_java_equals_numpy_and_the_library(tmp_path: Path) -> None:
    require_program("javac", "openjdk-17-jdk-headless")
    folder = build("jni", ("pocket_har_jni",), "-DHAR_JNI=ON", "-DHAR_PROGRAMS=OFF")
    jni, classes = SOURCE / "jni", tmp_path / "classes"
    run(["javac", "-d", classes, jni / "org" / "pocket_har" / "PocketHar.java", jni / "PocketHarCheck.java"])
    golden = Golden(tmp_path)
    java = ["java", "-Xcheck:jni", "-Xint", f"-Djava.library.path={folder}", "-cp", str(classes), "PocketHarCheck"]
    printed = golden.run(*java).splitlines()
    golden.assert_equals_numpy()
    golden.assert_equals_library()
    assert printed == [
        "notes: 1",
        "manifest: manifest version is missing or unknown; this release reads 1",
        "short joints: joints is shorter than frames, bodies and layout require",
        "unknown layout: layout is 'kinect'; use one of ntu25, msr20",
        "heap buffer: out is not a direct byte buffer; use ByteBuffer.allocateDirect",
        "small buffer: out has 8 bytes; the tensor has 147456",
        "other rate: sample rate is 8000 Hz; resample to 32000 Hz",
        "old index: frame index is 0; it must be above the last one, 22",
        "short frame: joints is shorter than bodies and layout require",
        "short sound: samples is shorter than count",
        "empty window: the stream has no frame yet; push one",
        "closed: this PocketHar is closed",
        "closed stream: this Stream is closed",
    ]


@pytest.mark.toolchains
def test_arm_equals_numpy_under_qemu(tmp_path: Path) -> None:
    golden = Golden(tmp_path)
    assert golden.run(*build_for_arm("har_golden")) == "baseline\n"
    golden.assert_equals_numpy()


@pytest.mark.toolchains
def test_clang_with_link_time_optimization_equals_numpy(tmp_path: Path) -> None:
    require_program("clang++", "clang")
    options = ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"]
    if shutil.which("ld.lld"):
        options += ["-DHAR_LTO=ON", "-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=lld"]
    golden = Golden(tmp_path)
    golden.run(build("clang", ("har_golden",), *options) / "har_golden")
    golden.assert_equals_numpy()
