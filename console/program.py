"""The frame of a program: parse the options, run the command, turn every outcome into one line and an exit code.

Results go to standard output; progress, warnings and errors go to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from preprocess.errors import AnswerIsNo, MissingComponentError, PocketHarError, UsageError

_ROOT = Path(__file__).resolve().parents[1]
EXIT_DEFECT = 70
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


@dataclass(frozen=True)
class Command:
    """A sub-command of a program.

    Attributes:
        name: the word on the command line.
        help: one line for the program's help.
        handler: `package.module:function`, loaded when the command runs; it takes the parsed options.
        options: adds the command's options to its parser.
        description: first paragraph of the command's help; without one, `help` is used.
    """

    name: str
    help: str
    handler: str
    options: Callable[[argparse.ArgumentParser], None] | None = None
    description: str = ""


def make_program(package: str, description: str, commands: Sequence[Command]) -> argparse.ArgumentParser:
    """The parser of `python -m package COMMAND`. Every command gets `--json` and `--debug`."""
    program = _Parser(prog=_program_name(package), description=description)
    parsers = program.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in commands:
        parser = parsers.add_parser(command.name, help=command.help, description=command.description or command.help)
        if command.options:
            command.options(parser)
        add_common_options(parser)
        # The parser travels with the options: `console.options.command_line` reads it.
        parser.set_defaults(handler=lambda options, name=command.handler: load(name)(options), parser=parser)
    return program


def _program_name(package: str) -> str:
    """As the user calls it: `python -m export`, or `pocket-har export` by the console script."""
    if Path(sys.argv[0]).name != "pocket-har":
        return f"python -m {package}"
    return "pocket-har" if package == "pocket_har" else f"pocket-har {package}"


def load(function: str) -> Callable[..., Any]:
    """A function by its name `package.module:function`."""
    module, _, name = function.partition(":")
    attribute: Callable[..., Any] = getattr(import_module(module), name)
    return attribute


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """`--json` and `--debug`, which every command has."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run_program(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parses `argv`, calls the chosen handler and returns the exit code.

    0 success, 1 the answer is no, 2 wrong usage, 3 missing component, 4 bad data, 70 a defect, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        options = parser.parse_args(arguments)
        if not hasattr(options, "handler"):
            parser.print_help()
            return 0
        with _terminate_as_interrupt():
            options.handler(options)
            sys.stdout.flush()
        return 0
    except AnswerIsNo as error:
        _say("no", str(error))
        return error.exit_code
    except PocketHarError as error:
        _say("error", str(error), debug=debug)
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted", "nothing half-written was left behind")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        _say("error", _missing_module(error.name or ""), debug=debug)
        return MissingComponentError.exit_code
    except OSError as error:
        _say("error", f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", debug=debug)
        return 4
    except Exception as error:
        _say("defect", f"{type(error).__name__}: {error}; run again with --debug and report the traceback", debug=debug)
        return EXIT_DEFECT


def _missing_module(name: str) -> str:
    """What to do about a module that cannot be imported."""
    package = name.partition(".")[0]
    if package != name and (other := sys.modules.get(package)) is not None:
        place = Path(next(iter(getattr(other, "__path__", [])), getattr(other, "__file__", None) or "")).resolve()
        if place.exists() and place.parent != _ROOT and (_ROOT / package).is_dir():
            return f"{place} hides the package {package!r} of pocket-har; run `pocket-har` instead of `python -m`"
    remedy = 'pip install -e ".[plots]"' if package == "matplotlib" else "pip install -e ."
    return f"Python package {name!r} is not installed; run `{remedy}`"


def run_as_main(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> NoReturn:
    """`run_program` for a `__main__` module: native libraries are kept quiet unless --debug is given."""
    if "--debug" not in sys.argv:
        _silence_native_libraries()
    sys.exit(run_program(parser, argv))


def _silence_native_libraries() -> None:
    """Points file descriptor 2 at /dev/null and Python's standard error at the old descriptor 2.

    TensorFlow, its converter and the runtimes write dozens of lines there that no setting turns off.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that temporary files are removed."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _say(kind: str, message: str, *, debug: bool = False) -> None:
    if debug:
        traceback.print_exc()
    line = " ".join(message.split())
    print(f"{paint(kind, 'red', sys.stderr)}: {line}", file=sys.stderr)  # noqa: T201


def warn(message: str) -> None:
    """One warning line on standard error."""
    print(f"{paint('warning', 'yellow', sys.stderr)}: {message}", file=sys.stderr)  # noqa: T201


def log(message: str) -> None:
    """One line of progress on standard error."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def show(text: str) -> None:
    """A result for people, on standard output."""
    print(text)  # noqa: T201


def show_json(document: Any) -> None:
    """A result for programs: one JSON document on standard output. Non-finite numbers are refused."""
    print(json.dumps(document, indent=2, allow_nan=False))  # noqa: T201


def paint(text: str, colour: str, stream: Any) -> str:
    """`text` in a colour where the stream is a terminal and NO_COLOR is not set."""
    codes = {"red": "31", "yellow": "33"}
    if os.environ.get("NO_COLOR") or not stream.isatty():
        return text
    return f"\033[{codes[colour]}m{text}\033[0m"
