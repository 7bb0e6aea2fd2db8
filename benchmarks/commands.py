"""The project's own commands, run as a user would, for what they print as JSON."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

from console.program import log
from preprocess.errors import DataError


def call(package: str, *words: str, fails: bool = False) -> Any:
    """The JSON that `python -m package words… --json` prints; with `fails` its answer may be no.

    Raises:
        DataError: the command ended with another exit code; its own words stand above.
    """
    log(shlex.join(["python", "-m", package, *words]))
    result = subprocess.run([sys.executable, "-m", package, *words, "--json"], stdout=subprocess.PIPE, check=False)
    if result.returncode and not (fails and result.returncode == 1):
        raise DataError(f"python -m {package} {words[0]} ended with exit code {result.returncode}")
    return json.loads(result.stdout)
