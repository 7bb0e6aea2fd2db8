"""`synthesize`: the command that makes a synthetic data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from console.program import add_common_options, show, show_json

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_synthesize_command(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `synthesize` to a program."""
    parser = subparsers.add_parser(
        "synthesize",
        help="make synthetic recordings (skeleton and sound) in the NTU RGB+D layout",
        description="Make synthetic recordings of 16 actions, skeleton and sound, in the NTU RGB+D layout.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--count", type=int, required=True, metavar="N", help="number of recordings")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="equal seeds give equal files (default 0)")
    parser.add_argument("--subjects", type=int, default=40, metavar="N", help="performers, 1 to 40 (default 40)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--force", action="store_true", help="replace DIR if it exists")
    add_common_options(parser)
    parser.set_defaults(handler=_synthesize)


def _synthesize(options: argparse.Namespace) -> None:
    from .generate import synthesize

    summary = synthesize(
        options.out,
        count=options.count,
        seed=options.seed,
        subjects=options.subjects,
        workers=options.workers,
        force=options.force,
    )
    if options.json:
        show_json(
            {
                "out": str(summary.out),
                "recordings": summary.recordings,
                "actions": list(summary.actions),
                "subjects": summary.subjects,
                "seed": summary.seed,
                "size_bytes": summary.size_bytes,
            }
        )
        return
    show(
        f"{summary.out}: {summary.recordings} recordings of {len(summary.actions)} actions by up to "
        f"{summary.subjects} subjects, {summary.size_bytes / 1e6:.0f} MB (seed {summary.seed})"
    )
