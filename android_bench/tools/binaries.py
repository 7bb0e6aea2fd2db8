"""The program for a device and its libraries: the user names it, and the project's tool is built."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from console.files import cache_folder
from console.program import log
from preprocess.errors import DataError, MissingComponentError, UsageError
from runtime.manifest import Manifest, file_sha256
from runtime.npu_chips import SNAPDRAGONS

from ..device.connection import quote
from .tool import Tool

SOURCE = Path(__file__).parents[1] / "native"
LITERT = "libLiteRt.so"
DISPATCH = "libLiteRtDispatch_Qualcomm.so"
_PACKAGE = "ai_edge_litert"
_BUILD_TIMEOUT_S = 1200.0
_NDK_VARIABLES = ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_NDK")
# As the NDK calls what `uname -m` says.
_ABIS = {"aarch64": "arm64-v8a", "armv7l": "armeabi-v7a", "armv8l": "armeabi-v7a", "x86_64": "x86_64"}
# ELF's e_machine (System V ABI), and what `uname -m` calls the same.
_MACHINES = {0x28: ("armv7l", "armv8l", "aarch64"), 0x3E: ("x86_64",), 0x03: ("i686", "x86_64"), 0xB7: ("aarch64",)}
_NAMES = {0x28: "32-bit ARM", 0x3E: "x86-64", 0x03: "32-bit x86", 0xB7: "64-bit ARM"}
# As Google names its prebuilt programs.
_ARCHITECTURES = {"aarch64": "aarch64", "armv7l": "arm", "armv8l": "arm", "x86_64": "x86-64"}


def find_binary(
    tool: Tool, path: Path | None, *, architecture: str, android: bool, here: bool
) -> tuple[Path, tuple[Path, ...]]:
    """The program, and the shared libraries beside it if a folder is named.

    Args:
        tool: to find.
        path: the program, or a folder with programs for several devices, such as `android_aarch64_benchmark_model`,
            `android_aarch64/benchmark_model` or `benchmark_model`; None for the one on the PATH of this machine. A
            tool of the project that is not on the PATH is built.
        architecture: of the device, as `uname -m` prints it.
        android: whether the device runs Android.
        here: whether the device is this machine.

    Raises:
        MissingComponentError: the program is missing; the message says how to get it.
        UsageError: the program is for another processor.
    """
    if path is None:
        installed = shutil.which(tool.name) if here else None
        if installed is None and not tool.is_ours:
            where = "on the PATH" if here else "named"
            raise MissingComponentError(f"{tool.name} is not {where}; {tool.remedy}, and name it with --tool-path")
        path = Path(installed) if installed else build_har_run(architecture, android=android)
    if path.is_dir():
        platform = f"{'android' if android else 'linux'}_{_ARCHITECTURES.get(architecture, architecture)}"
        names = (f"{platform}_{tool.name}", f"{platform}/{tool.name}", tool.name)
        program = next((path / name for name in names if (path / name).is_file()), None)
        if program is None:
            raise MissingComponentError(f"{path} holds none of {', '.join(names)}; {tool.remedy}")
        libraries = tuple(sorted(file for file in program.parent.glob("*.so*") if file.is_file()))
    else:
        program, libraries = path, ()
        if not program.is_file():
            raise MissingComponentError(f"{program} does not exist; {tool.remedy}")
    machine = elf_machine(program)
    if machine is not None and architecture not in _MACHINES.get(machine, (architecture,)):
        raise UsageError(f"{program} is for {_NAMES[machine]}, but the device is {architecture}; {tool.remedy}")
    if tool.is_ours and all(library.name != LITERT for library in libraries):
        litert = litert_of_this_machine(architecture, android=android)
        libraries += (litert,) if litert else ()
    return program, libraries


def elf_machine(path: Path) -> int | None:
    """e_machine of a program (little endian); None if it is not an ELF file, for example a script."""
    with open(path, "rb") as file:
        head = file.read(20)
    return int.from_bytes(head[18:20], "little") if head[:4] == b"\x7fELF" and len(head) == 20 else None


def build_har_run(architecture: str, *, android: bool) -> Path:
    """Builds `har_run` for an architecture (`uname -m`) in the cache folder; unchanged sources are not built again.

    Raises:
        MissingComponentError: the sources, CMake or a compiler for the device are missing.
        DataError: the build failed.
    """
    options = _options(architecture, android=android)
    if not (SOURCE / "CMakeLists.txt").is_file():
        raise MissingComponentError(f"{SOURCE} has no sources; install the project with `pip install -e .`")
    # CMake binds a folder to the sources and the compiler of its first use.
    digest = hashlib.sha256("\n".join([str(SOURCE), *options]).encode()).hexdigest()[:8]
    folder = cache_folder() / f"native-{'android' if android else 'linux'}-{architecture}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log(f"building har_run for {'Android' if android else 'Linux'} on {architecture} in {folder}")
        _cmake("-S", str(SOURCE), "-B", str(folder), "-DHAR_PROGRAMS=OFF", *options)
        _cmake("--build", str(folder), "--parallel", "--target", "har_run")
    return folder / "har_run"


def _options(architecture: str, *, android: bool) -> list[str]:
    """CMake's options for the compiler."""
    if shutil.which("cmake") is None:
        raise MissingComponentError(
            "har_run is built with CMake; run `apt install cmake`, or name one with --tool-path"
        )
    if android:
        ndk = next(filter(None, map(os.environ.get, _NDK_VARIABLES)), None)
        if ndk is None or architecture not in _ABIS:
            raise MissingComponentError(
                f"har_run for Android on {architecture} needs Google's NDK; name its folder in ANDROID_NDK_HOME, or a "
                "built har_run with --tool-path"
            )
        toolchain = f"-DCMAKE_TOOLCHAIN_FILE={ndk}/build/cmake/android.toolchain.cmake"
        return [toolchain, f"-DANDROID_ABI={_ABIS[architecture]}", "-DANDROID_PLATFORM=android-26"]
    if architecture == platform.machine():
        compiler, package, options = "g++", "g++", []
    elif architecture == "aarch64":
        compiler, package = "aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"
        options = [f"-DCMAKE_TOOLCHAIN_FILE={SOURCE / 'cmake' / 'aarch64-linux-gnu.cmake'}"]
    else:
        raise MissingComponentError(
            f"har_run cannot be built here for {architecture}; build it there as android_bench/native/README.md says, "
            "and name it with --tool-path"
        )
    if shutil.which(compiler) is None and (options or not os.environ.get("CXX")):
        raise MissingComponentError(
            f"har_run for {architecture} needs the compiler {compiler}; run `apt install {package}`, or name a har_run "
            "with --tool-path"
        )
    return options


def _cmake(*words: str) -> None:
    result = subprocess.run(
        ["cmake", *words], capture_output=True, text=True, errors="replace", check=False, timeout=_BUILD_TIMEOUT_S
    )
    if result.returncode:
        raise DataError(f"har_run could not be built: {quote(result.stdout + result.stderr, 400)}")


def litert_of_this_machine(architecture: str, *, android: bool) -> Path | None:
    """LiteRT's library in the installed wheel, if the device can run it; else None."""
    if android or architecture != platform.machine():
        return None
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        return None
    library = Path(package.origin).with_name(LITERT)
    return library if library.is_file() else None


def litert_version(library_id: str) -> str:
    """The release of the installed wheel's library; for another one the argument.

    `library_id` is as har_run prints it: `libLiteRt.so 0123456789ab`, the start of the SHA-256 of its file.
    """
    library = litert_of_this_machine(platform.machine(), android=False)
    if library and library_id == f"{LITERT} {file_sha256(library)[:12]}":
        return version(_PACKAGE.replace("_", "-"))
    return library_id


def require_npu(manifest: Manifest, accelerator: str) -> None:
    """Raises UsageError if a file compiled for an NPU is to run on another accelerator."""
    if manifest.npu and accelerator != "npu":
        raise UsageError(
            f"{manifest.name} is compiled for {manifest.npu['soc']}'s NPU; use --accelerator npu, not {accelerator}"
        )


def require_chip(manifest: Manifest, soc: str | None) -> None:
    """Raises UsageError if the device has another chip than the one the file is compiled for."""
    if manifest.npu and soc is not None and soc != manifest.npu["soc"]:
        raise UsageError(
            f"{manifest.name} is compiled for {manifest.npu['soc']}, but the device has {soc}; use the artifact of "
            f"`python -m export npu --soc {soc}`"
        )


def require_libraries(soc: str, present: Sequence[str], *, more: Sequence[str] = ()) -> None:
    """Raises MissingComponentError if a library that loads a compiled file is missing beside the tool.

    Args:
        soc: that the file is compiled for.
        present: names of the libraries beside the tool.
        more: further libraries that the tool needs.
    """
    chip = SNAPDRAGONS.get(soc or "")
    of_chip = [f"libQnnHtp{chip.hexagon.upper()}{kind}.so" for kind in ("Stub", "Skel")] if chip else []
    missing = [name for name in (*more, "libQnnHtp.so", "libQnnSystem.so", *of_chip) if name not in present]
    if missing:
        raise MissingComponentError(
            f"a file compiled for {soc} needs {', '.join(missing)} beside the tool; take the libQnn* files for Android "
            "from Qualcomm's AI Runtime SDK, of the release that compiled it or a newer one, and name their folder "
            "with --tool-path"
        )
