"""Commands, the options they share, and the command line that repeats a result."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

Parser: TypeAlias = argparse.ArgumentParser
_Number = TypeVar("_Number", int, float)

# Options that change where a result goes, how it is shown or how fast it is made, but not the result.
_WITHOUT_EFFECT = {"help", "json", "debug", "out", "force", "workers", "resume", "folder", "keep", "junit", "markdown"}


def whole(text: str) -> int:
    """Argument type: a whole number, 0 or more."""
    return checked(text, int, lambda value: value >= 0, "a whole number, 0 or more")


def positive(text: str) -> int:
    """Argument type: a whole number, 1 or more."""
    return checked(text, int, lambda value: value >= 1, "a whole number, 1 or more")


def seed(text: str) -> int:
    """Argument type: a seed that NumPy and TensorFlow accept."""
    return checked(text, int, lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")


def share(text: str) -> float:
    """Argument type: a number above 0 and at most 1."""
    return checked(text, float, lambda value: 0 < value <= 1, "a share, above 0 and at most 1")


def points(text: str) -> float:
    """Argument type: percentage points, 0 to 100."""
    return checked(text, float, lambda value: 0 <= value <= 100, "a number of percentage points from 0 to 100")


def amount(text: str) -> float:
    """Argument type: a finite number above 0."""
    return checked(text, float, lambda value: 0 < value < math.inf, "a number above 0")


def rounds(text: str) -> int:
    """Argument type: a number of timed rounds, of which a median needs at least ten."""
    return checked(text, int, lambda value: value >= 10, "a whole number, 10 or more")


def checked(text: str, kind: Callable[[str], _Number], accept: Callable[[_Number], bool], wanted: str) -> _Number:
    """A number that `accept` takes, for an argument type; the message says what is `wanted`."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not accept(value):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is not {wanted}")
    return value


def add_checkpoint(parser: Parser, *, required: bool = False, help: str | None = None) -> None:
    """`--checkpoint FILE`."""
    default = "checkpoint" if required else "checkpoint (default: the demo that ships)"
    parser.add_argument("--checkpoint", type=Path, required=required, metavar="FILE", help=help or default)


def add_recordings(
    parser: Parser,
    *,
    required: bool = False,
    protocol: str | None = None,
    help: str = "your recordings (default: synthetic ones, cached)",
    protocol_help: str = "split; only its test part is used (default: all recordings)",
    seed_help: str = "seed of the choice of recordings (default 0)",
) -> None:
    """The options that choose and read recordings: `recordings.sources.DataSource.of` takes them."""
    parser.add_argument("--data", type=Path, required=required, metavar="DIR", help=help)
    parser.add_argument("--protocol", default=protocol, metavar="NAME", help=protocol_help)
    add_reading(parser)
    parser.add_argument("--workers", type=whole, default=2, metavar="N", help="processes that read (default 2)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help=seed_help)


def add_reading(parser: Parser) -> None:
    """`--audio DIR`, `--missing-list FILE` and `--on-error`: the options of `recordings.catalogue.scan`."""
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder of the sound files, if it is another one")
    parser.add_argument("--missing-list", type=Path, metavar="FILE", help="NTU's list of recordings without skeleton")
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="stop at a bad recording (default), or leave it out with a warning",
    )


def add_calibration(parser: Parser, *, count: int | None = None) -> None:
    """The options of static quantization: `quantize.prepare.CalibrationOptions.of` takes them."""
    parser.add_argument(
        "--calibration", type=positive, default=count, metavar="N", help=_default("recordings to calibrate with", count)
    )
    parser.add_argument(
        "--calibrate-by",
        choices=("minmax", "percentile", "mse"),
        default="mse",
        help="activation range: all values, all but 0.01 %% at each end, or the least error (default mse)",
    )
    parser.add_argument("--equalise", action="store_true", help="cross-layer equalisation before quantization")
    parser.add_argument("--keep-biases", action="store_true", help="no bias correction")


def add_count(parser: Parser, count: int | None, help: str = "recordings to compare on, at most") -> None:
    """`--recordings N`."""
    parser.add_argument("--recordings", type=positive, default=count, metavar="N", help=_default(help, count))


def add_settings(parser: Parser, example: str, *, resume: bool = True) -> None:
    """`--settings FILE` and `--set PART.FIELD=VALUE`, for `model.settings.choose_settings`, and `--resume`."""
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="constants of training as TOML, e.g. recipes/demo.toml"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PART.FIELD=VALUE",
        help=f"change a constant of training, e.g. {example}; may be repeated; wins over --settings",
    )
    if resume:
        parser.add_argument("--resume", action="store_true", help="continue the run in --out")


def add_timing(parser: Parser, *, count: int = 50) -> None:
    """`--threads N` and `--rounds N`."""
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="threads (default 1)")
    parser.add_argument(
        "--rounds", type=rounds, default=count, metavar="N", help=f"timed rounds, 10 or more (default {count})"
    )


def _default(text: str, value: object) -> str:
    return text if value is None else f"{text} (default {value})"


def forward(options: argparse.Namespace, *names: str) -> list[str]:
    """The words of these options, as they were given, for a command that takes them too. Defaults are left out."""
    return _words(options, lambda value, metavar: str(value), lambda name: name in names)


def command_line(options: argparse.Namespace) -> str:
    """The command that gives the same result again.

    It has every option that differs from its default and changes the result. Files stand by their names and folders
    as `DIR`, so that no path of this machine and no serial number of a device gets into a record.
    """
    words = _words(options, _without_paths, lambda name: name not in _WITHOUT_EFFECT)
    return shlex.join([*options.parser.prog.split(), *words])


def _words(options: argparse.Namespace, spell: Callable[[Any, Any], str], wanted: Callable[[str], bool]) -> list[str]:
    positional: list[str] = []
    optional: list[str] = []
    for action in options.parser._actions:
        if not wanted(action.dest) or (value := getattr(options, action.dest, None)) in (None, action.default):
            continue
        flag = max(action.option_strings, key=len, default="")
        values = list(value) if isinstance(value, list | tuple) else [value]
        spelled = [spell(item, action.metavar) for item in values]
        if not flag:
            positional += spelled
        elif action.nargs == 0:
            optional.append(flag)
        elif isinstance(action, argparse._AppendAction):
            optional += [word for item in spelled for word in (flag, item)]
        else:
            optional += [flag, *spelled]
    return [*positional, *optional]


def _without_paths(value: Any, metavar: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Path):
        return "DIR" if metavar == "DIR" else value.name
    if metavar == "DEVICE":
        return f"{value.partition('://')[0]}://DEVICE"
    if metavar == "[NAME=]DIR":
        name, sign, _ = value.partition("=")
        return f"{name if sign else Path(name).name}=DIR"
    return str(value)
