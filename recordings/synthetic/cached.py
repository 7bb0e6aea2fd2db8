"""Synthetic recordings made once and kept in the user's cache folder, for commands that are given no data."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from console.files import cache_folder
from console.program import log
from preprocess.errors import UsageError

from .difficulty import Difficulty

# To be raised with every change of the generator that changes its recordings, so that old ones are not taken for new.
GENERATOR_VERSION = 1
CALIBRATION_SEED = 8001
HELD_OUT_SEED = 9001


def cached_recordings(count: int, *, seed: int, workers: int) -> Path:
    """The folder of `count` recordings drawn from `seed`; made when it is not there yet.

    It lies under `POCKET_HAR_CACHE`, or `XDG_CACHE_HOME`/pocket-har, or ~/.cache/pocket-har, and may be deleted at
    any time.
    """
    from .generate import synthesize

    key = hashlib.sha256(repr((GENERATOR_VERSION, asdict(Difficulty()))).encode()).hexdigest()[:8]
    folder = cache_folder() / f"synthetic-{key}-seed{seed}-{count}"
    if not folder.exists():
        log(f"no --data given: synthesizing {count} recordings (seed {seed}), kept in {cache_folder()}")
        try:
            synthesize(folder, count=count, seed=seed, workers=workers)
        except UsageError:
            if not folder.exists():  # another process may have made the same recordings meanwhile
                raise
    return folder
