"""Rows of numbers in a skeleton text file, with errors that name the file and the line. Both formats build on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError

Row = list[str]

_NUMBER_BYTES = b"0123456789.+-eE" + b"aAfFiInNtTyY" + b" \t\r\n"  # the letters are those of nan, inf and infinity
_STRAY = re.compile(b"[^%b]" % re.escape(_NUMBER_BYTES))


class SkeletonText:
    """The rows of a file, read from top to bottom.

    A row is the list of a line's fields, still text: a reader checks the structure first and then converts the fields
    it uses in one call, which is several times faster than line by line. A field that no reader uses is checked only
    for characters that no number has.

    Raises:
        DataError: the file is missing, empty, or holds anything but numbers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise DataError(f"{path}: the skeleton file does not exist") from None
        if not content.strip():
            raise DataError(f"{path}: the file is empty; copy the recording again")
        if content.translate(None, _NUMBER_BYTES):
            raise self._stray_error(content)
        self._rows: list[Row] = [line.split() for line in content.decode("ascii").rstrip().split("\n")]
        self._next = 0

    def take(self, rows: int, columns: int, what: str) -> list[Row]:
        """The next `rows` rows, each of `columns` fields; `what` names one row in errors."""
        start, end = self._next, self._next + rows
        rows_read = self._rows[start:end]
        if not set(map(len, rows_read)) <= {columns}:
            index = next(i for i, row in enumerate(rows_read) if len(row) != columns)
            raise self._error(start + index, f"{what}: {columns} field(s) expected, {len(rows_read[index])} found")
        if len(rows_read) < rows:
            raise self._error(len(self._rows) - 1, f"the file ends before {what}; copy the recording again")
        self._next = end
        return rows_read

    def count(self, what: str) -> int:
        """The next row, which holds one whole number, 0 or more."""
        return self.counts(1, what)[0]

    def counts(self, columns: int, what: str) -> list[int]:
        """The next row, which holds `columns` whole numbers, 0 or more."""
        (row,) = self.take(1, columns, what)
        return [self.whole(field, what) for field in row]

    def whole(self, field: str, what: str) -> int:
        """Convert a field of the latest row to a whole number, 0 or more, of any size."""
        if not field.isdigit():
            raise self.error(f"{what} is {field!r}; it must be a whole number, 0 or more")
        return int(field)

    def finish(self) -> None:
        """Refuse rows after the last frame."""
        left = len(self._rows) - self._next
        if left:
            raise self._error(self._next, f"{left} line(s) follow the last frame; the frame count is wrong")

    def numbers(self, rows: Sequence[Row], columns: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Convert some columns of rows: float64 [rows, columns]. `nan` and `inf` are numbers here."""
        pick = itemgetter(*columns)
        fields = chain.from_iterable(map(pick, rows))
        try:
            flat = np.fromiter(map(float, fields), np.float64, len(rows) * len(columns))
        except ValueError:
            row, field = next((row, f) for row in rows for f in pick(row) if not _is_number(f))
            raise self.error_in(row, f"{field!r} is not a number") from None
        return flat.reshape(len(rows), len(columns))

    def error(self, message: str) -> DataError:
        """An error in the latest row."""
        return self._error(self._next - 1, message)

    def error_in(self, row: Row, message: str) -> DataError:
        """An error in a row that was read."""
        return self._error(next(i for i, known in enumerate(self._rows) if known is row), message)

    def _error(self, index: int, message: str) -> DataError:
        return DataError(f"{self._path}, line {index + 1}: {message}")

    def _stray_error(self, content: bytes) -> DataError:
        match = _STRAY.search(content)
        assert match is not None
        line = content.count(b"\n", 0, match.start())
        if not 32 < content[match.start()] < 127:
            return self._error(line, f"byte 0x{content[match.start()]:02X}; the file is not plain ASCII text")
        fields = content.split(b"\n")[line].decode("ascii", "replace").split()
        field = next(f for f in fields if match.group().decode() in f)
        return self._error(line, f"{field[:40]!r} is not a number")


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
