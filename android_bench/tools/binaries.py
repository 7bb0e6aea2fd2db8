"""Which program goes to a device: one that the user names, never a guess; the project's own is built."""

from __future__ import annotations

import shutil
from pathlib import Path

from preprocess.errors import MissingComponentError, UsageError

from .build import LITERT, build_har_run, litert_of_this_machine
from .tool import Tool

# ELF's e_machine (System V ABI), and what `uname -m` calls the same.
_MACHINES = {0x28: ("armv7l", "armv8l", "aarch64"), 0x3E: ("x86_64",), 0x03: ("i686", "x86_64"), 0xB7: ("aarch64",)}
_NAMES = {0x28: "32-bit ARM", 0x3E: "x86-64", 0x03: "32-bit x86", 0xB7: "64-bit ARM"}
# As Google names its prebuilt programs.
_ARCHITECTURES = {"aarch64": "aarch64", "armv7l": "arm", "armv8l": "arm", "x86_64": "x86-64"}


def find_binary(
    tool: Tool, path: Path | None, *, architecture: str, android: bool, here: bool
) -> tuple[Path, tuple[Path, ...]]:
    """The program, and the shared libraries that lie beside it where a folder is named.

    Args:
        tool: wanted.
        path: the program, or a folder with programs for several devices, such as `android_aarch64_benchmark_model`,
            `android_aarch64/benchmark_model` or `benchmark_model`; None for the one on the PATH of this machine, and
            for a tool of the project where there is none: it is built.
        architecture: of the device, as `uname -m` says.
        android: whether the device is one.
        here: whether the device is this machine.

    Raises:
        MissingComponentError: it is not there; the message says how to get it.
        UsageError: it is for another processor.
    """
    if path is None:
        found = shutil.which(tool.name) if here else None
        if found is None and not tool.is_ours:
            where = "on the PATH" if here else "named"
            raise MissingComponentError(f"{tool.name} is not {where}; {tool.remedy}, and name it with --tool-path")
        path = Path(found) if found else build_har_run(architecture, android=android)
    if path.is_dir():
        platform = f"{'android' if android else 'linux'}_{_ARCHITECTURES.get(architecture, architecture)}"
        names = (f"{platform}_{tool.name}", f"{platform}/{tool.name}", tool.name)
        program = next((path / name for name in names if (path / name).is_file()), None)
        if program is None:
            raise MissingComponentError(f"{path} holds none of {', '.join(names)}; {tool.remedy}")
        libraries = tuple(sorted(own for own in program.parent.glob("*.so*") if own.is_file()))
    else:
        program, libraries = path, ()
        if not program.is_file():
            raise MissingComponentError(f"{program} does not exist; {tool.remedy}")
    machine = elf_machine(program)
    if machine is not None and architecture not in _MACHINES.get(machine, (architecture,)):
        raise UsageError(f"{program} is for {_NAMES[machine]}, but the device is {architecture}; {tool.remedy}")
    if tool.is_ours and all(own.name != LITERT for own in libraries):
        library = litert_of_this_machine(architecture, android=android)
        libraries += (library,) if library else ()
    return program, libraries


def elf_machine(path: Path) -> int | None:
    """e_machine of a program (little endian); None for what is no ELF file, such as a script."""
    with open(path, "rb") as file:
        head = file.read(20)
    return int.from_bytes(head[18:20], "little") if head[:4] == b"\x7fELF" and len(head) == 20 else None
