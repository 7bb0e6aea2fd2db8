"""Where a number comes from: the command, the versions, the machine, the commit. Names no person, host or path."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .records import Environment, Machine

_CPUINFO = Path("/proc/cpuinfo")
# Instructions for products of 8-bit numbers, by their names in Linux. AVX2 has none; it is the fallback.
INSTRUCTIONS = ("avx2", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")


def environment(command: str, *, packages: Sequence[str]) -> Environment:
    """The origin of a result file.

    Args:
        command: the command that makes the result again, without paths of this machine.
        packages: distributions whose versions matter; None stands for one that is not installed.
    """
    return Environment(
        machine=machine(),
        versions={"python": platform.python_version(), **{name: package_version(name) for name in packages}},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=git_commit(),
        command=command,
    )


def machine() -> Machine:
    """This machine, and the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        cpu=_cpu_field(("model name", "Hardware", "Model")) or platform.processor() or "unknown",
        cores=cores,
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        memory_bytes=_memory_bytes(),
        instructions=instructions(),
    )


def instructions(cpuinfo: Path = _CPUINFO) -> tuple[str, ...] | None:
    """Those of INSTRUCTIONS that the processor has; None where the system does not list them."""
    flags = _cpu_field(("flags", "Features"), cpuinfo)
    return None if flags is None else tuple(name for name in INSTRUCTIONS if name in flags.split())


def git_commit() -> str | None:
    """The commit of the source tree, `-dirty` behind it when files differ from it; None outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _cpu_field(keys: Sequence[str], cpuinfo: Path = _CPUINFO) -> str | None:
    """The first value of any of the keys in Linux's description of the processor."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def package_version(package: str) -> str | None:
    """Of an installed distribution; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
