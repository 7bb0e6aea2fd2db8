"""The project's errors. Each carries the exit code with which a command that meets it ends.

They live here, in the package that everything else may import, so that one hierarchy serves all.
A message is one line: what was wrong, the value received, the remedy.
"""

from __future__ import annotations


class PocketHarError(Exception):
    """Base of every error that a user can cause or cure; never raised itself."""

    exit_code = 70


class AnswerIsNo(PocketHarError):
    """The work ran and its answer is no: a gate failed or a verification missed its tolerance."""

    exit_code = 1


class UsageError(PocketHarError):
    """The options do not fit together or name something that does not exist."""

    exit_code = 2


class MissingComponentError(PocketHarError):
    """A device, package or program is not there; the message says how to get it."""

    exit_code = 3


class DataError(PocketHarError, ValueError):
    """Input data (a recording, an array, a specification, a checkpoint) is not valid."""

    exit_code = 4
