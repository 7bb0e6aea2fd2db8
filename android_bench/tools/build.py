"""`har_run` for a device out of the project's sources, and LiteRT's library of this machine, which runs with it."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from console.files import cache_folder
from console.program import log
from preprocess.errors import MissingComponentError
from runtime.manifest import file_sha256

from ..device.errors import ToolFailed, quote

SOURCE = Path(__file__).parents[1] / "native"
LITERT = "libLiteRt.so"
_PACKAGE = "ai_edge_litert"
_BUILD_TIMEOUT_S = 1200.0
_NDK_VARIABLES = ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_NDK")
# As the NDK calls what `uname -m` says.
_ABIS = {"aarch64": "arm64-v8a", "armv7l": "armeabi-v7a", "armv8l": "armeabi-v7a", "x86_64": "x86_64"}


def build_har_run(architecture: str, *, android: bool) -> Path:
    """Configures and builds it in the project's cache folder; what did not change is not built again.

    Args:
        architecture: of the device, as `uname -m` says.
        android: whether it is one; the NDK's compiler is needed then.

    Raises:
        MissingComponentError: the sources, CMake or a compiler for the device are not there.
        ToolFailed: the build failed.
    """
    options = _options(architecture, android=android, environment=os.environ)
    if not (SOURCE / "CMakeLists.txt").is_file():
        raise MissingComponentError(f"{SOURCE} has no sources; install the project with `pip install -e .`")
    # CMake keeps to the sources and the compiler that it met first in a folder.
    own = hashlib.sha256("\n".join([str(SOURCE), *options]).encode()).hexdigest()[:8]
    folder = cache_folder() / f"native-{'android' if android else 'linux'}-{architecture}-{own}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log(f"building har_run for {'Android' if android else 'Linux'} on {architecture} in {folder}")
        _cmake("-S", str(SOURCE), "-B", str(folder), "-DHAR_PROGRAMS=OFF", *options)
        _cmake("--build", str(folder), "--parallel", "--target", "har_run")
    return folder / "har_run"


def _options(architecture: str, *, android: bool, environment: Mapping[str, str]) -> list[str]:
    """The compiler's, for CMake."""
    if shutil.which("cmake") is None:
        raise MissingComponentError(
            "har_run is built with CMake; run `apt install cmake`, or name one with --tool-path"
        )
    if android:
        ndk = next((environment[name] for name in _NDK_VARIABLES if environment.get(name)), None)
        if ndk is None or architecture not in _ABIS:
            raise MissingComponentError(
                f"har_run for Android on {architecture} needs Google's NDK; name its folder in ANDROID_NDK_HOME, or a "
                "har_run that you have with --tool-path"
            )
        toolchain = Path(ndk, "build/cmake/android.toolchain.cmake")
        return [
            f"-DCMAKE_TOOLCHAIN_FILE={toolchain}",
            f"-DANDROID_ABI={_ABIS[architecture]}",
            "-DANDROID_PLATFORM=android-26",
        ]
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
    if shutil.which(compiler) is None and (options or not environment.get("CXX")):
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
        raise ToolFailed(f"har_run could not be built: {quote(result.stdout + result.stderr, 400)}")


def litert_of_this_machine(architecture: str, *, android: bool) -> Path | None:
    """LiteRT's library out of the installed wheel, where the device can run it; else None."""
    if android or architecture != platform.machine():
        return None
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        return None
    library = Path(package.origin).with_name(LITERT)
    return library if library.is_file() else None


def litert_version(told: str) -> str:
    """The release that a library is, which it does not tell: it is known of the installed wheel's.

    Args:
        told: by har_run, such as `libLiteRt.so 0123456789ab`, the start of the SHA-256 of its file.
    """
    library = litert_of_this_machine(platform.machine(), android=False)
    if library and told == f"{LITERT} {file_sha256(library)[:12]}":
        return version(_PACKAGE.replace("_", "-"))
    return told
