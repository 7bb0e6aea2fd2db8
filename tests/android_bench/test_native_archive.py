"""The C++ reader of recordings: archives as NumPy writes them, and everything that is refused."""

from __future__ import annotations

import ctypes as c
import io
import struct
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.native import BAD_DATA, build, require_program, run

from preprocess.errors import DataError

Array = npt.NDArray[Any]


@cache
def library() -> c.CDLL:
    return c.CDLL(str(build("default", ("har_archive_test",)) / "libhar_archive_test.so"))


def read(archive: bytes, name: str) -> Array:
    shape, dimensions, out = (c.c_int64 * 8)(), c.c_int(), np.zeros(100_000, np.float32)
    error, size, memory = c.create_string_buffer(400), c.c_size_t(out.size), c.c_void_p(out.ctypes.data)
    data = archive, c.c_size_t(len(archive)), name.encode()
    status = library().test_npz(*data, shape, c.byref(dimensions), memory, size, error)
    if status:
        assert status == BAD_DATA
        raise DataError(error.value.decode())
    lengths = tuple(shape[: dimensions.value])
    return out[: int(np.prod(lengths))].reshape(lengths)


def archive_of(save: Any = np.savez, **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def with_header(text: str) -> bytes:
    file = io.BytesIO()
    head = f"{{'descr': '<f4', {text}".encode().ljust(118 - 10, b" ") + b"\n"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("joints.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + bytes(24))
    return file.getvalue()


ARRAYS = {
    "joints": np.random.default_rng(1).normal(size=(7, 2, 25, 3)).astype(np.float32),
    "vector": np.random.default_rng(2).normal(size=11).astype(np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "one": np.float32(3.5),
}


def test_arrays_equal_numpys() -> None:
    archive = archive_of(**ARRAYS)
    for name, array in ARRAYS.items():
        result = read(archive, name)
        assert result.shape == np.shape(array)
        np.testing.assert_array_equal(result, array)


def changed(archive: bytes, at: int, new: bytes) -> bytes:
    return archive[:at] + new + archive[at + len(new) :]


PLAIN = archive_of(joints=np.arange(6, dtype=np.float32))
ENTRY, END = PLAIN.index(b"PK\1\2"), PLAIN.index(b"PK\5\6")


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"", "is no ZIP archive, or cut off"),
        (b"not an archive, but long enough to be one", "is no ZIP archive, or cut off"),
        (PLAIN[:-1], "is no ZIP archive, or cut off"),
        (PLAIN[5:], "directory is damaged"),
        (archive_of(np.savez_compressed, joints=np.zeros(3)), "'joints' is compressed; har_run reads stored arrays"),
        (archive_of(other=np.zeros(3)), "has no array 'joints'"),
        (archive_of(joints=np.zeros(3)), "has the type '<f8'; har_run reads float32"),
        (archive_of(joints=np.zeros((3, 2), np.float32, order="F")), "is in Fortran order"),
        (changed(PLAIN, ENTRY - 3, b"x"), "its checksum is wrong"),
        (changed(PLAIN, ENTRY + 8, b"\1"), "is encrypted"),
        (changed(PLAIN, ENTRY + 24, b"\x01"), "is stored with two different sizes"),
        (changed(PLAIN, ENTRY + 20, struct.pack("<II", 2**20, 2**20)), "is cut off"),
        (changed(PLAIN, ENTRY + 42, b"\x04"), "is not where the archive says"),
        (changed(PLAIN, 30, b"J"), "has another name in front of it"),
        (changed(PLAIN, END + 8, b"\2"), "spans several disks"),
        (changed(PLAIN, END + 10, b"\2\0\2"), "several disks|directory is damaged"),
        (with_header("'fortran_order': False, 'shape': (7,), }"), "another size than its shape says"),
        (with_header("'fortran_order': False, 'shape': (4294967295, 4294967295), }"), "another size"),
        (with_header("'fortran_order': False, 'shape': (-6,), }"), "a header that NumPy does not"),
        (with_header("'shape': (6,), }"), "a header that NumPy does not"),
        (with_header("'fortran_order': False, 'shape': (6,), } + 1"), "a header that NumPy does not"),
    ],
)
def test_other_archives_are_refused(archive: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(archive, "joints")


@given(st.data())
def test_a_damaged_archive_is_refused_or_read_unchanged(data: st.DataObject) -> None:
    expected = ARRAYS["joints"][:2]
    archive = bytearray(archive_of(joints=expected))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(archive[: data.draw(st.integers(0, len(archive)) | st.just(len(archive)))])
    try:
        result = read(cut, "joints")
    except DataError:
        return
    np.testing.assert_array_equal(result, expected)


@pytest.mark.toolchains
def test_no_bytes_break_the_reader(tmp_path: Path) -> None:
    """A short run of the fuzz target under the address and undefined-behaviour sanitizers."""
    require_program("clang++", "clang")
    options = ["-DHAR_FUZZ=ON", "-DHAR_PROGRAMS=OFF", "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"]
    program = build("fuzz", ("fuzz_archive",), *options) / "fuzz_archive"
    (tmp_path / "archive").write_bytes(b"\0" + archive_of(joints=np.zeros((2, 5, 3), np.float32)))
    (tmp_path / "array").write_bytes(b"\1" + archive_of(np.save, arr=np.ones((3, 2), np.float32)))
    # libFuzzer's limit of memory looks at ru_maxrss, which exec hands on from the process of the tests.
    limits = ["-rss_limit_mb=0", "-malloc_limit_mb=512"]
    run([program, "-max_total_time=5", "-max_len=4000", "-seed=1", *limits, tmp_path], cwd=tmp_path)
