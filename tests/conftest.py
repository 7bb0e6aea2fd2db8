"""What tests of several files share."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# A background job of a shell ignores Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run; no deadline, since other work may share the machine.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that at the end no process waits long for another."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter, config):
    if config.option.markexpr == "not slow and not toolchains":
        terminalreporter.write_line('left out: tests marked slow or toolchains; `python -m pytest -m ""` runs them all')


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A temporary folder that all processes of this test run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(shared_folder):
    """No test touches the user's cache; child processes inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCKET_HAR_CACHE", str(shared_folder / "cache"))
        yield


@pytest.fixture(scope="session")
def recordings_folder(shared_folder):
    """Sixty-four synthetic recordings, four of each action."""
    from kit.once import make_once

    from recordings.synthetic.generate import synthesize

    return make_once(shared_folder / "recordings", lambda folder: synthesize(folder, count=64, seed=5, workers=2))
