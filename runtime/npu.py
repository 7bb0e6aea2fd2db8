"""Model files compiled for Snapdragon's NPU, Hexagon, and Qualcomm's emulator of it. Chips: `runtime.npu_chips`.

Compiler and emulator are those of the package onnxruntime-qnn. The emulator has the NPU's arithmetic, not its speed.
Both run in a separate process: the native libraries write on standard output, where results go, and hold a hundred MB.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from console.child import run_function
from console.strict_json import decode
from preprocess.errors import DataError, MissingComponentError

from .npu_chips import SNAPDRAGONS, Snapdragon

_PACKAGE = "onnxruntime_qnn"
_NPU = "QNNExecutionProvider"
# Conversions between numbers and their stored form, which the NPU merges into the operations around them.
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_TIMEOUT_S = 3600
# Inputs and output are float32; without this the CPU would round them.
_QUANTIZE_ON_NPU = {"offload_graph_io_quantization": "0"}


def partitions_of(path: Path) -> list[str]:
    """Names of the nodes of a compiled ONNX file that are pieces for the NPU."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return [node.name for node in nodes if node.op_type == "EPContext"]


@dataclass(frozen=True)
class Placement:
    """Where the nodes of a model file run.

    Attributes:
        npu_ops, total_ops: operations of the graph as the runtime simplifies it, without conversions between numbers
            and their stored form.
        partitions: pieces on the NPU.
        fallback: names of the nodes on the CPU, including conversions, with their kind: `norm (LayerNormalization)`.
        profile: pieces or nodes that each execution provider ran in an inference, by the runtime's profile.
    """

    npu_ops: int
    total_ops: int
    partitions: int
    fallback: tuple[str, ...]
    profile: dict[str, int]

    @property
    def full(self) -> bool:
        """All of it in one piece on the NPU."""
        return not self.fallback and self.partitions == 1

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "fallback": list(self.fallback), "full": self.full}


def require_emulator() -> None:
    """Raises MissingComponentError where onnxruntime-qnn is not installed."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise MissingComponentError(
            'Hexagon\'s compiler and emulator are not installed; run `pip install -e ".[npu]"` on x86-64 Linux'
        )


def compile_context(source: Path, out: Path, chip: Snapdragon) -> Placement:
    """Compiles an ONNX file for a chip, and runs the result once.

    Args:
        source: ONNX file with float32 inputs and output, quantized in QDQ form.
        out: ONNX file to write: one node with its binary for every piece on the NPU, and the nodes left for the CPU.
        chip: the compiler gets its Hexagon version and Qualcomm's number.

    Raises:
        DataError: the compiler refused the file, or file, runtime and profile contradict each other.
        MissingComponentError: onnxruntime-qnn is not installed.
    """
    require_emulator()
    result = run_function(
        "runtime.npu:compile_here",
        str(source.resolve()),
        str(out.resolve()),
        chip.soc_model,
        chip.arch,
        what=f"compiling {source.name} for {chip.name}",
        timeout_s=_TIMEOUT_S,
    )
    placement: Placement = decode(Placement, result, "placement")
    return placement


def compile_here(source: str, out: str, soc_model: int, arch: int) -> dict[str, Any]:
    """`compile_context` in this process; returns the fields of the `Placement`."""
    options, file = _options(), Path(out)
    # Embedded: the hash in the manifest then covers the binary.
    for key, value in {
        "ep.context_enable": "1",
        "ep.context_file_path": out,
        "ep.context_embed_mode": "1",
        "session.record_ep_graph_assignment_info": "1",
    }.items():
        options.add_session_config_entry(key, value)
    session = _session(Path(source), options, {"soc_model": str(soc_model), "htp_arch": str(arch)})
    nodes = [
        (part.ep_name, node.name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]
    ops = [provider for provider, _, kind in nodes if kind not in _CONVERSIONS]
    fallback = tuple(f"{name} ({kind})" for provider, name, kind in nodes if provider != _NPU)
    recorded = sum(part.ep_name == _NPU for part in session.get_provider_graph_assignment_info())
    if not file.exists():
        raise ValueError(f"Hexagon can run none of its {len(ops)} operations; export it with --target qnn")
    profile, partitions = _profile(file), len(partitions_of(file))
    on_cpu = bool(set(profile) - {_NPU})
    # The runtime may compute a conversion of constants when it loads the file, but never an operation.
    agreed = fallback if on_cpu else len(ops) == ops.count(_NPU)
    if recorded != partitions or recorded != profile.get(_NPU, 0) or not agreed:
        raise DataError(
            f"the runtime reports {recorded} pieces on the NPU and {len(fallback)} nodes on the CPU, the file has "
            f"{partitions} pieces, and an inference ran {profile}"
        )
    return asdict(Placement(ops.count(_NPU), len(ops), partitions, fallback, profile))


def _profile(path: Path) -> dict[str, int]:
    """Nodes that each execution provider ran in an inference of zeros."""
    import numpy as np

    options = _options()
    options.enable_profiling = True
    options.profile_file_prefix = "profile"  # in the working directory, which is a temporary one
    session = _session(path, options, {})
    session.run(None, {node.name: np.zeros(node.shape, np.float32) for node in session.get_inputs()})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = {
        (event["args"]["provider"], event["name"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["args"].get("provider")
    }
    return dict(Counter(provider for provider, _ in sorted(ran)))


def _options() -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    return options


def _session(path: Path, options: Any, provider: dict[str, str]) -> Any:
    """A session that runs in the emulator every node that the NPU can run."""
    import onnxruntime as ort
    import onnxruntime_qnn as qnn

    if not any(device.ep_name == _NPU for device in ort.get_ep_devices()):
        ort.register_execution_provider_library(_NPU, qnn.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == _NPU]
    options.add_provider_for_devices(
        devices[:1], {"backend_path": qnn.get_qnn_htp_path(), **_QUANTIZE_ON_NPU, **provider}
    )
    return ort.InferenceSession(os.fspath(path), options)


def npu_session(path: Path, soc: str | None) -> Any:
    """A session of ONNX Runtime in which the emulator runs every node; `soc`: None for the chip of a compiled file.

    Raises:
        ValueError: the NPU cannot run a node, or the file does not load.
    """
    chip = SNAPDRAGONS[soc] if soc else None
    provider = {"soc_model": str(chip.soc_model), "htp_arch": str(chip.arch)} if chip else {}
    options = _options()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        return _session(path, options, provider)
    except Exception as error:  # its exceptions have no other base in common
        raise ValueError(" ".join(str(error).split())) from error
