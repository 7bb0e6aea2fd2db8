"""TFLite files compiled ahead of time for Hexagon by LiteRT's compiler, with Qualcomm's libraries.

The compiler's plug-in is part of ai-edge-litert. It loads Qualcomm's libraries (QAIRT), which are under Qualcomm's
licence and are not copied.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.child import changed_environment
from preprocess.errors import DataError, MissingComponentError, UsageError
from runtime.npu import Placement

_SDK = "ai_edge_litert_sdk_qualcomm"
# Libraries that the compiler's plug-in is linked with or opens.
_LIBRARIES = ("libQnnHtp.so", "libQnnSystem.so")
_ONLY_LINKED = "libQnnLpai.so"
STAND_IN = "onnxruntime-qnn"
_DISPATCH = "DISPATCH_OP"
_LOG = re.compile(r"See (\S+) for details")


@dataclass(frozen=True)
class Qairt:
    """Qualcomm's libraries.

    Attributes:
        folder: contains them.
        stand_in: they are those of onnxruntime-qnn. They lack a library that the plug-in is linked with but never calls
            for Hexagon; another one takes its name. Fit for learning the placement, not for phones.
    """

    folder: Path
    stand_in: bool = False


def find_qairt(where: str | None) -> Qairt | None:
    """The libraries that the user names, or those of the package ai-edge-litert-sdk-qualcomm; None without either.

    Args:
        where: a folder, `onnxruntime-qnn`, or None.

    Raises:
        MissingComponentError: the named libraries do not exist.
    """
    if where == STAND_IN:
        if importlib.util.find_spec("onnxruntime_qnn") is None:
            raise MissingComponentError(f'{STAND_IN} is not installed; run `pip install -e ".[npu]"`')
        return Qairt(Path(importlib.import_module("onnxruntime_qnn").LIB_DIR_FULL_PATH), stand_in=True)
    if where is not None:
        missing = [name for name in (*_LIBRARIES, _ONLY_LINKED) if not (Path(where) / name).is_file()]
        if missing:
            raise MissingComponentError(
                f"{where} holds no {missing[0]}; name the folder lib/x86_64-linux-clang of Qualcomm's AI Runtime SDK"
            )
        return Qairt(Path(where).resolve())
    if importlib.util.find_spec(_SDK) is None:
        return None
    return Qairt(Path(str(importlib.import_module(_SDK).path_to_sdk_libs())))


def qairt_is_missing() -> MissingComponentError:
    """The error where `find_qairt` returns None."""
    return MissingComponentError(
        "Qualcomm's libraries, which LiteRT needs to compile TFLite files, are not installed; run `pip install "
        "ai-edge-litert-sdk-qualcomm`, or name their folder with --qairt DIR (onnxruntime-qnn, to learn the placement)"
    )


def require_known(socs: list[str]) -> None:
    """Raises UsageError where LiteRT's compiler does not know a chip."""
    names = known_socs()
    for soc in socs:
        if soc not in names:
            raise UsageError(
                f"LiteRT's compiler does not know {soc}; use one of {', '.join(sorted(names))}, or --format onnx"
            )


def known_socs() -> set[str]:
    """Chips that LiteRT's compiler knows."""
    from ai_edge_litert.aot.vendors.qualcomm.target import SocModel

    return {model.value for model in SocModel} - {"ALL"}


def compile_tflite(source: Path, out: Path, soc: str, libraries: Qairt) -> Placement:
    """Compiles a TFLite file for a chip.

    The placement in the compiled file must be the one that the compiler reports.

    Raises:
        DataError: the compiler failed, or its report contradicts its file.
    """
    from ai_edge_litert.aot.aot_compile import aot_compile
    from ai_edge_litert.aot.vendors.qualcomm.target import SocModel, Target

    with tempfile.TemporaryDirectory(prefix="pocket-har-") as name, _library_path(libraries, Path(name)):
        try:
            # It draws a progress bar.
            with contextlib.redirect_stderr(io.StringIO()):
                result = aot_compile(
                    str(source), output_dir=f"{name}/out", target=Target(SocModel(soc)), keep_going=False
                )
        except Exception as error:  # whatever its back end raises
            raise DataError(f"LiteRT's compiler failed on {source.name} for {soc}: {_reason(str(error))}") from error
        ((_, compiled),) = result.models_with_backend
        out.write_bytes(Path(compiled.path).read_bytes())
        (stats,) = compiled.partition_stats.subgraph_stats
    total, left = len(operators_of(source)), operators_of(out)
    partitions = left.count(_DISPATCH)
    fallback = tuple(kind for kind in left if kind != _DISPATCH)
    reported = (stats.num_ops_offloaded, stats.num_total_ops, stats.num_partitions_offloaded)
    if reported != (total - len(fallback), total, partitions):
        raise DataError(
            f"LiteRT's compiler reports {reported[0]} of {reported[1]} operations in {reported[2]} pieces for {soc}, "
            f"but its file has {partitions} pieces and {len(fallback)} other operations"
        )
    return Placement(total - len(fallback), total, partitions, fallback, {})


@contextlib.contextmanager
def _library_path(libraries: Qairt, folder: Path) -> Iterator[None]:
    """Puts the libraries on the search path of the compiler's process."""
    paths = [str(libraries.folder)]
    if libraries.stand_in:
        (folder / _ONLY_LINKED).symlink_to(libraries.folder / "libQnnSystem.so")
        paths.append(str(folder))
    paths += filter(None, [os.environ.get("LD_LIBRARY_PATH")])
    with changed_environment({"LD_LIBRARY_PATH": os.pathsep.join(paths)}):
        yield


def _reason(message: str) -> str:
    """The last error in the log that the message names, which is then removed; without a log, the message."""
    match = _LOG.search(message)
    if not match or not Path(match[1]).is_file():
        return " ".join(message.split())
    lines = Path(match[1]).read_text(errors="replace").splitlines()
    Path(match[1]).unlink()
    errors = [line for line in lines if re.search(r"error|fail|cannot", line, re.I)]
    return " ".join((errors or lines or [message])[-1].split())[-300:]


def operators_of(path: Path) -> list[str]:
    """All operators of the file: the output's name with the kind, or the name of a custom operator."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    graph, names = model.subgraphs[0], []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        name = graph.tensors[operator.outputs[0]].name.decode()
        names.append(code.customCode.decode() if kind == "CUSTOM" else f"{name} ({kind})")
    return names
