"""Child processes of this project: one function in a fresh interpreter, a server behind a pipe, or a command."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from preprocess.errors import DataError, PocketHarError

from .program import load, log

_ROOT = str(Path(__file__).resolve().parents[1])
_END_S = 10.0
# -P: a folder of the working directory cannot take the place of a package of this project.
_PYTHON = (sys.executable, "-P")


def run_function(function: str, *arguments: Any, what: str, timeout_s: float | None = None) -> Any:
    """Calls a function in a fresh process, in an empty working directory, and returns its result.

    Args:
        function: `package.module:name`.
        arguments: JSON values.
        what: the work, for messages: `measuring model.tflite`.
        timeout_s: seconds until the process is killed.

    Returns:
        The function's result, which must be a JSON value. What the process prints is dropped.

    Raises:
        DataError: the function raised an error, or the process ended or did not end.
    """
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        result = Path(folder) / "result.json"
        words = [*_PYTHON, "-c", "from console.child import _run; _run()", function, json.dumps(arguments), str(result)]
        try:
            child = subprocess.run(
                words,
                capture_output=True,
                text=True,
                errors="replace",
                env=_environment(),
                cwd=folder,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(f"{what} was stopped after {timeout_s:g} s") from error
        if not result.exists():
            reason = child.stderr.strip().splitlines()[-1:] or [f"it ended {how_it_ended(child.returncode)}"]
            raise DataError(f"{what} failed: {reason[0]}")
        document = json.loads(result.read_text(encoding="utf-8"))
    if "error" in document:
        raise DataError(f"{what} failed: {document['error']}")
    return document["result"]


def run_command(package: str, *words: str, may_answer_no: bool = False) -> Any:
    """Runs `python -m package words… --json` and returns the JSON it prints; its standard error passes through.

    Raises:
        DataError: its exit code is not 0 (or 1 with `may_answer_no`).
    """
    log(shlex.join(["python", "-m", package, *words]))
    result = subprocess.run(
        [*_PYTHON, "-m", package, *words, "--json"], stdout=subprocess.PIPE, env=_environment(), check=False
    )
    if result.returncode and not (may_answer_no and result.returncode == 1):
        raise DataError(f"python -m {package} {words[0]} ended {how_it_ended(result.returncode)}")
    return json.loads(result.stdout)


class Server:
    """A process that answers messages over a pipe; use as a context manager, or drop it to end the process."""

    def __init__(self, function: str, *arguments: Any, what: str, environment: Mapping[str, str] | None = None) -> None:
        """Starts the process.

        Args:
            function: `package.module:name` of a function that takes `arguments` and returns the function that answers
                a message. Arguments, messages and answers are pickled.
            arguments: of the function.
            what: the process, for messages: `the process of model.tflite`.
            environment: further variables.
        """
        self._what = what
        self._connection, theirs = multiprocessing.Pipe()
        code = f"from console.child import _serve; _serve({theirs.fileno()})"
        # Not multiprocessing's child: that would import this program's main module, TensorFlow included.
        self._process = subprocess.Popen(
            [*_PYTHON, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**_environment(), **(environment or {})},
        )
        theirs.close()
        self._end = weakref.finalize(self, _end, self._connection, self._process)
        with contextlib.suppress(ConnectionError):
            self._connection.send((function, arguments))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends the process: the closed connection asks for it, and a process that does not end is killed."""
        self._end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self, timeout_s: float | None = None) -> None:
        """Waits until the function has returned. Call once, before `ask`. Raises as `ask`."""
        self._receive(timeout_s)

    def ask(self, message: Any, timeout_s: float | None = None) -> Any:
        """The answer to a message.

        Raises:
            DataError: the function raised an error, the process ended, or there was no answer in time.
        """
        try:
            self._connection.send(message)
        except ConnectionError:
            raise self._ended() from None
        return self._receive(timeout_s)

    def _receive(self, timeout_s: float | None) -> Any:
        try:
            if not self._connection.poll(timeout_s):
                self._process.kill()
                raise DataError(f"{self._what} gave no answer for {timeout_s:g} s")
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if isinstance(answer, Exception):
            raise DataError(f"{self._what} failed: {answer}") from answer
        return answer

    def _ended(self) -> DataError:
        return DataError(f"{self._what} ended {how_it_ended(self._process.wait())}")


def _end(connection: Connection, process: subprocess.Popen[bytes]) -> None:
    connection.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def how_it_ended(code: int) -> str:
    """`with exit code 3` or `by signal SIGKILL`."""
    if code >= 0:
        return f"with exit code {code}"
    return f"by signal {signal.Signals(-code).name if -code in set(signal.Signals) else -code}"


def _environment() -> dict[str, str]:
    """This process' environment, with its import path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([_ROOT, *(path for path in sys.path if path)])}


def _run() -> None:
    """The process of `run_function`. Libraries write on standard output, so the result goes to a file."""
    function, arguments, path = sys.argv[1:]
    try:
        document = {"result": load(function)(*json.loads(arguments))}
    except Exception as error:  # the parent reports it; libraries' errors have no base in common
        document = {"error": " ".join(str(error).split()) or type(error).__name__}
    temporary = Path(path).with_suffix(".tmp")
    temporary.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    temporary.rename(path)


def _serve(handle: int) -> None:
    """The process of a `Server`: answers until the other end closes."""
    connection = Connection(handle)
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        try:
            function, arguments = connection.recv()
            answer = load(function)(*arguments)
            connection.send(None)
            while True:
                connection.send(answer(connection.recv()))
        except (PocketHarError, ValueError, RuntimeError) as error:
            connection.send(error)


@contextlib.contextmanager
def changed_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of the environment for the processes started inside."""
    previous = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
