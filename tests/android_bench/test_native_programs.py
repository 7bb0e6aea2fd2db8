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
from kit.native import INT8, SOURCE, Har, build, library, manifest_json, nano, require_program, run

from preprocess import MSR20, PreprocessSpec, skeleton_to_heatmaps, waveform_to_logmel

Array = npt.NDArray[Any]
QUANTIZED = {"skeleton": (1 / 255, -128), "audio": (0.03, 5)}
FRAMES, BODIES = 23, 2


def test_a_stream_allocates_nothing_after_its_creation() -> None:
    counted = json.loads(run([build("default", ("har_allocations",)) / "har_allocations"]))
    assert counted["at_creation"] > 10  # the counter counts
    assert counted["after_creation"] == 0


def test_the_benchmark_runs() -> None:
    document = json.loads(run([build("default", ("har_bench",)) / "har_bench", "--runs", "3"]))
    assert document["runs"] == 3
    names = {entry["name"] for entry in document["results"]}
    assert {"heatmaps int8, 2 bodies", "log-Mel float32", "stream update int8, 1 body"} <= names
    for entry in document["results"]:
        assert 0 < entry["cpu_min_ms"] <= entry["cpu_median_ms"]


class Golden:
    """A recording as files, what NumPy makes of it, and what a program wrote."""

    def __init__(self, folder: Path, spec: PreprocessSpec) -> None:
        self.folder, self.spec = folder, spec
        self.manifest = manifest_json(spec, int8=QUANTIZED)
        self.joints, self.confidence = scene(*[body(MSR20, FRAMES, seed=p, at=(p, 0, 3)) for p in range(BODIES)])
        self.confidence[:, 1] = 0.6
        self.joints[3, 0, 7] = np.nan
        rng = np.random.default_rng(0)
        self.waveform = rng.normal(0, 0.1, spec.audio.samples // 320 * 320).astype(np.float32)
        self.waveform[40_000:60_000] = 0
        (folder / "manifest.json").write_text(self.manifest, encoding="utf-8")
        for name in ("joints", "confidence", "waveform"):
            getattr(self, name).tofile(folder / f"{name}.bin")

    @property
    def arguments(self) -> list[str]:
        return [str(self.folder), str(FRAMES), str(BODIES), "msr20"]

    def written(self, name: str, dtype: type) -> Array:
        return np.fromfile(self.folder / f"{name}.bin", dtype)

    def assert_equals_numpy(self) -> None:
        heatmaps = skeleton_to_heatmaps(self.joints, self.confidence, self.spec.skeleton, layout=MSR20).tensor
        logmel = waveform_to_logmel(self.waveform, self.spec.audio)
        for start in ("", "stream_"):
            found = self.written(f"{start}heatmaps", np.float32).reshape(heatmaps.shape)
            np.testing.assert_allclose(found, heatmaps, rtol=0, atol=HEATMAP_TOLERANCE)
            difference = self.written(f"{start}logmel", np.float32).reshape(logmel.shape) - logmel
            assert np.abs(difference * np.array(self.spec.audio.std)).max() <= PARITY_DB
        for name in ("heatmaps", "logmel"):
            np.testing.assert_array_equal(self.written(f"stream_{name}", np.float32), self.written(name, np.float32))

    def assert_equals_library(self) -> None:
        har = Har(library(), self.manifest)
        heatmaps = har.heatmaps(self.joints, self.confidence, layout="msr20")
        np.testing.assert_array_equal(self.written("heatmaps", np.float32), heatmaps.ravel())
        np.testing.assert_array_equal(self.written("logmel", np.float32), har.logmel(self.waveform).ravel())
        heatmaps = har.heatmaps(self.joints, self.confidence, layout="msr20", type=INT8)
        np.testing.assert_array_equal(self.written("heatmaps_int8", np.int8), heatmaps.ravel())
        logmel = har.logmel(self.waveform, type=INT8)
        np.testing.assert_array_equal(self.written("logmel_int8", np.int8), logmel.ravel())


def test_the_golden_program_equals_numpy_and_the_library(tmp_path: Path) -> None:
    golden = Golden(tmp_path, nano())
    run([build("default", ("har_golden",)) / "har_golden", *golden.arguments])
    golden.assert_equals_numpy()
    golden.assert_equals_library()


@pytest.mark.slow
def test_java_gets_what_the_library_gives(tmp_path: Path) -> None:
    require_program("javac", "openjdk-17-jdk-headless")
    folder = build("jni", ("pocket_har_jni",), "-DHAR_JNI=ON", "-DHAR_PROGRAMS=OFF")
    jni = SOURCE / "jni"
    sources = [jni / "org" / "pocket_har" / "PocketHar.java", jni / "PocketHarCheck.java"]
    run(["javac", "-d", tmp_path / "classes", *sources])
    golden = Golden(tmp_path, nano())
    command = ["java", "-Xcheck:jni", "-Xint", f"-Djava.library.path={folder}", "-cp", tmp_path / "classes"]
    printed = run([*command, "PocketHarCheck", *golden.arguments]).splitlines()
    golden.assert_equals_numpy()
    golden.assert_equals_library()
    assert printed == [
        "notes: 1",
        "manifest: manifest version is missing or unknown; this release reads 1",
        "short joints: joints is shorter than frames, bodies and layout say",
        "unknown layout: layout is 'kinect'; use one of ntu25, msr20",
        "heap buffer: out is not a direct byte buffer; use ByteBuffer.allocateDirect",
        "small buffer: out has 8 bytes; the tensor has 147456",
        "other rate: sample rate is 8000 Hz; resample to 32000 Hz",
        "old index: frame index is 0; it must be above the last one, 22",
        "short frame: joints is shorter than bodies and layout say",
        "short sound: samples is shorter than count says",
        "empty window: the stream has no frame yet; push one",
        "closed: this PocketHar is closed",
        "closed stream: this Stream is closed",
    ]


@pytest.mark.slow
def test_arm_equals_numpy_under_qemu(tmp_path: Path) -> None:
    require_program("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    require_program("qemu-aarch64-static", "qemu-user-static")
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={SOURCE / 'cmake' / 'aarch64-linux-gnu.cmake'}"
    folder = build("arm", ("har_golden",), toolchain, "-DHAR_STATIC_PROGRAMS=ON")
    golden = Golden(tmp_path, nano())
    assert run(["qemu-aarch64-static", folder / "har_golden", *golden.arguments]) == "baseline\n"
    golden.assert_equals_numpy()


@pytest.mark.slow
def test_clang_with_link_time_optimization_equals_numpy(tmp_path: Path) -> None:
    require_program("clang++", "clang")
    options = ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"]
    if shutil.which("ld.lld"):
        options += ["-DHAR_LTO=ON", "-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=lld"]
    golden = Golden(tmp_path, nano())
    run([build("clang", ("har_golden",), *options) / "har_golden", *golden.arguments])
    golden.assert_equals_numpy()
