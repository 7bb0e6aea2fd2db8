"""The folder of a training run: it holds one run, which can be resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from console.files import atomic_file
from console.program import log
from preprocess.errors import DataError, UsageError

RUN_NAME = "run.json"


def open_run(
    out: Path, plan: Mapping[str, Any], *, resume: bool, start: Callable[[], dict[str, Any]] = dict
) -> dict[str, Any]:
    """Starts the run in `out` or reopens it.

    Args:
        out: folder of the run.
        plan: what must agree for a run to be resumed; JSON types, tuples allowed.
        resume: reopen a run that is there.
        start: what else to keep with a new run.

    Returns:
        What `start` gave when the run began.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds a run of another plan.
        DataError: what it holds is damaged.
    """
    path = out / RUN_NAME
    if not path.exists():
        if resume:
            log(f"{out} holds no run yet; starting one")
        kept = start()
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps({"plan": plan, **kept}), encoding="utf-8")
        return kept
    if not resume:
        raise UsageError(f"{out} holds a training run; continue it with --resume or choose another --out")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}; start again with another --out") from error
    # The round trip through JSON turns tuples into lists on both sides.
    if run.pop("plan") != json.loads(json.dumps(plan)):
        raise UsageError(f"{out} holds a run with other options or recordings; choose another --out")
    return dict(run)
