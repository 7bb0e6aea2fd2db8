"""The project's errors. Each carries the exit code of a command that ends with it.

They live here, in the package that every other one may import, so that there is one hierarchy.
A message is one line: what was wrong, the value received, the remedy.
"""

from __future__ import annotations


class PocketHarError(Exception):
    """Base of every error that a user can cause or cure; raise one of its subclasses."""

    exit_code = 70


class AnswerIsNo(PocketHarError):
    """The work ran and its answer is no: a gate failed or a verification missed its tolerance."""

    exit_code = 1


class UsageError(PocketHarError):
    """The options do not fit together or name something that does not exist."""

    exit_code = 2


class MissingComponentError(PocketHarError):
    """A device, package or program is missing; the message says how to get it."""

    exit_code = 3


class DataError(PocketHarError, ValueError):
    """Input data (a recording, an array, a specification, a checkpoint) is not valid."""

    exit_code = 4


def require(condition: bool, name: str, value: object, remedy: str, error: type[PocketHarError] = DataError) -> None:
    """Raise `error` with the name, the value and the remedy unless the condition holds."""
    if not condition:
        raise error(f"{name} is {value!r}; {remedy}")
