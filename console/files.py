"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from preprocess.errors import UsageError


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces `path` in one step when the block succeeds.

    When the block fails or the process is killed, `path` is unchanged. SIGKILL may leave a file whose name starts with
    `.tmp-`, never one that looks finished.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, which is renamed to `path` when the block succeeds.

    Raises:
        UsageError: `path` exists and `force` is not set (before any work is done).
    """
    check_free(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{path.name}-", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        check_free(path, force=force)
        if path.exists():
            _swap(temporary, path)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cache_folder() -> Path:
    """Folder of files that can be made again: `POCKET_HAR_CACHE`, else `pocket-har` in the user's cache folder."""
    if folder := os.environ.get("POCKET_HAR_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pocket-har"


def check_free(path: Path, *, force: bool) -> None:
    """Raises UsageError when `path` exists and `force` is not set. An empty folder counts as free."""
    if force or not path.exists():
        return
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        return
    raise UsageError(f"{path} exists; choose another --out or replace it with --force")


def _swap(new: Path, path: Path) -> None:
    """Renames `new` to `path`; the old folder comes back when that fails or is interrupted."""
    aside = Path(tempfile.mkdtemp(prefix=f".tmp-old-{path.name}-", dir=path.parent))
    old = aside / path.name
    try:
        path.rename(old)
        new.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
