"""The C++ reader of recordings: inflate against zlib, archives against NumPy, and what both refuse."""

from __future__ import annotations

import ctypes as c
import io
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.native import BAD_DATA, build, require_program, run

Array = npt.NDArray[Any]
STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)


class Refused(Exception):
    pass


@cache
def library() -> c.CDLL:
    return c.CDLL(str(build("default", ("har_archive_test",)) / "libhar_archive_test.so"))


def call(function: str, *arguments: Any) -> None:
    error = c.create_string_buffer(400)
    status = getattr(library(), function)(*arguments, error)
    if status:
        assert status == BAD_DATA
        raise Refused(error.value.decode())


def inflate(data: bytes, size: int) -> bytes:
    out = c.create_string_buffer(max(size, 1))
    call("test_inflate", data, c.c_size_t(len(data)), out, c.c_size_t(size))
    return out.raw[:size]


def read(archive: bytes, name: str) -> Array:
    shape, dimensions, out = (c.c_int64 * 8)(), c.c_int(), np.zeros(100_000, np.float32)
    size = c.c_size_t(out.size)
    call(
        "test_npz", archive, c.c_size_t(len(archive)), name.encode(), shape, c.byref(dimensions),
        c.c_void_p(out.ctypes.data), size,
    )  # fmt: skip
    own = tuple(shape[: dimensions.value])
    return out[: int(np.prod(own))].reshape(own)


def deflate(data: bytes, *, level: int = 9, strategy: int = zlib.Z_DEFAULT_STRATEGY, flush_at: int = 0) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    head = packer.compress(data[:flush_at]) + packer.flush(zlib.Z_FULL_FLUSH) if flush_at else b""
    return head + packer.compress(data[flush_at:]) + packer.flush()


def texts() -> st.SearchStrategy[bytes]:
    """Data of very different kinds: noise, few symbols, runs, and repetitions near and far."""

    def make(kind: str, seed: int, size: int) -> bytes:
        rng = np.random.default_rng(seed)
        if kind == "noise":
            return rng.bytes(size)
        if kind == "few":
            return bytes(rng.integers(0, rng.integers(1, 6), size, np.uint8))
        if kind == "runs":
            return bytes(np.repeat(rng.integers(0, 256, size, np.uint8), rng.integers(1, 600, size))[:size])
        piece = rng.bytes(max(1, size // int(rng.integers(1, 9))))
        return (piece * 9)[:size]

    return st.builds(
        make, st.sampled_from(["noise", "few", "runs", "repeated"]), st.integers(0, 2**32 - 1), st.integers(0, 70_000)
    )


@given(texts(), st.integers(0, 9), st.sampled_from(STRATEGIES), st.integers(0, 5000))
def test_inflate_undoes_zlib(data: bytes, level: int, strategy: int, flush_at: int) -> None:
    packed = deflate(data, level=level, strategy=strategy, flush_at=flush_at)
    assert inflate(packed, len(data)) == data
    assert library().test_crc32(data, c.c_size_t(len(data))) & 0xFFFFFFFF == zlib.crc32(data)


@given(texts(), st.integers(0, 9), st.data())
def test_a_damaged_stream_is_what_zlib_says_or_refused(data: bytes, level: int, draw: st.DataObject) -> None:
    packed = bytearray(deflate(data[:3000], level=level))
    for _ in range(draw.draw(st.integers(1, 3))):
        packed[draw.draw(st.integers(0, len(packed) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    unpacker = zlib.decompressobj(-15)
    try:
        expected = unpacker.decompress(bytes(packed))
        valid = unpacker.eof and not unpacker.unused_data
    except zlib.error:
        valid = False
    if valid:
        assert inflate(bytes(packed), len(expected)) == expected
    else:
        with pytest.raises(Refused):
            inflate(bytes(packed), len(data[:3000]))


@pytest.mark.parametrize(
    ("packed", "size", "message"),
    [
        (b"", 0, "is cut off"),
        (deflate(b"a text of some length")[:-3], 21, "is cut off"),
        (deflate(b"abc") + b"\0", 3, "something follows the end"),
        (deflate(b"abc"), 2, "is longer than its archive says"),
        (deflate(b"abc"), 4, "is shorter than its archive says"),
        (b"\x07", 0, "a block of an unknown kind"),
        (b"\x01\x05\x00\x00\x00hello", 5, "a stored block of a wrong length"),
        (b"\x03\x02\x00", 3, "refers to what was before its beginning|unknown"),
    ],
)
def test_what_inflate_refuses(packed: bytes, size: int, message: str) -> None:
    with pytest.raises(Refused, match=message):
        inflate(packed, size)


def archive_of(*, compressed: bool = True, **arrays: Array) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


ARRAYS = {
    "joints": np.random.default_rng(1).normal(size=(7, 2, 25, 3)).astype(np.float32),
    "wide": np.random.default_rng(2).normal(size=(11,)),
    "empty": np.zeros((0, 3), np.float32),
    "one": np.float32(3.5),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_archives_are_read_as_numpy_reads_them(compressed: bool) -> None:
    archive = archive_of(compressed=compressed, **ARRAYS)
    for name, array in ARRAYS.items():
        found = read(archive, name)
        assert found.shape == np.shape(array)
        np.testing.assert_array_equal(found, np.asarray(array, np.float32))
    commented = archive[:-2] + struct.pack("<H", 9) + b"a comment"
    assert zipfile.ZipFile(io.BytesIO(commented)).comment == b"a comment"
    np.testing.assert_array_equal(read(commented, "joints"), ARRAYS["joints"])


def changed(archive: bytes, at: int, new: bytes) -> bytes:
    return archive[:at] + new + archive[at + len(new) :]


PLAIN = archive_of(compressed=False, joints=np.arange(6, dtype=np.float32))
ENTRY, END = PLAIN.index(b"PK\1\2"), PLAIN.index(b"PK\5\6")


def with_header(text: str) -> bytes:
    file = io.BytesIO()
    head = text.encode().ljust(118 - 10, b" ") + b"\n"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("joints.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + bytes(24))
    return file.getvalue()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"", "is no ZIP archive, or cut off"),
        (b"not an archive, but long enough to be one", "is no ZIP archive, or cut off"),
        (PLAIN[:-1], "is no ZIP archive, or cut off"),
        (PLAIN[5:], "directory is damaged"),
        (archive_of(other=np.zeros(3)), "has no array 'joints'"),
        (archive_of(joints=np.zeros(3, np.int64)), "has the type '<i8'; use float32 or float64"),
        (archive_of(joints=np.zeros((3, 2), np.float32, order="F")), "is in Fortran's order"),
        (changed(PLAIN, ENTRY - 3, b"x"), "its checksum is wrong"),
        (changed(PLAIN, ENTRY + 8, b"\1"), "is encrypted"),
        (changed(PLAIN, ENTRY + 10, b"\x0c"), "is packed by method 12; use stored or deflate"),
        (changed(PLAIN, ENTRY + 24, struct.pack("<I", 2**31)), "claims to have 2147483648 bytes"),
        (changed(PLAIN, ENTRY + 24, b"\x01"), "is stored with two different sizes"),
        (changed(PLAIN, ENTRY + 20, struct.pack("<I", 2**20)), "is cut off"),
        (changed(PLAIN, ENTRY + 42, b"\x04"), "is not where the archive says"),
        (changed(PLAIN, 30, b"J"), "has another name in front of it"),
        (changed(PLAIN, END + 8, b"\2"), "is one of several disks"),
        (changed(PLAIN, END + 10, b"\2\0\2"), "several disks|directory is damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }"), "another size than its shape says"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967295, 4294967295), }"), "another size"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-6,), }"), "a header that NumPy does not"),
        (with_header("{'descr': '<f4', 'shape': (6,), }"), "a header that NumPy does not"),
        (with_header("{'descr': '<f4', 'descr': '<f4', 'shape': (6,), }"), "a header that NumPy does not"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), } + 1"), "a header that NumPy does not"),
    ],
)
def test_what_an_archive_may_not_be(archive: bytes, message: str) -> None:
    with pytest.raises(Refused, match=message):
        read(archive, "joints")


def test_a_good_header_is_read() -> None:
    assert read(with_header("{'shape': (2, 3,), 'fortran_order': False, 'descr': '<f4'}"), "joints").shape == (2, 3)


@given(st.data())
def test_a_damaged_archive_is_refused_or_what_it_was(data: st.DataObject) -> None:
    archive = bytearray(archive_of(compressed=data.draw(st.booleans()), joints=ARRAYS["joints"][:2]))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(archive[: data.draw(st.integers(0, len(archive)) | st.just(len(archive)))])
    try:
        found = read(cut, "joints")
    except Refused:
        return
    np.testing.assert_array_equal(found, ARRAYS["joints"][:2])


@pytest.mark.slow
def test_no_bytes_break_the_reader(tmp_path: Path) -> None:
    """A short run of the fuzz target under the address and undefined-behaviour sanitizers."""
    require_program("clang++", "clang")
    options = ["-DHAR_FUZZ=ON", "-DHAR_PROGRAMS=OFF", "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"]
    program = build("fuzz", ("fuzz_archive",), *options) / "fuzz_archive"
    head = io.BytesIO()
    np.save(head, np.ones((3, 2), np.float32))
    seeds = [b"\0\0\0" + archive_of(compressed=own, joints=np.zeros((2, 5, 3)), w=np.ones(4)) for own in (False, True)]
    seeds.append(b"\1\0\0" + head.getvalue())
    text = bytes(range(200)) * 3
    seeds += [
        b"\2" + struct.pack("<H", len(text)) + deflate(text, level=level, strategy=own)
        for level in (0, 1, 9)
        for own in STRATEGIES
    ]
    for number, seed in enumerate(seeds):
        (tmp_path / str(number)).write_bytes(seed)
    # libFuzzer's limit of memory looks at ru_maxrss, which exec hands on from the process of the tests.
    limits = ["-rss_limit_mb=0", "-malloc_limit_mb=512"]
    run([program, "-max_total_time=5", "-max_len=4000", "-seed=1", *limits, tmp_path], cwd=tmp_path)
