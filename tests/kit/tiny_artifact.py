"""Artifacts of a one-line recogniser, with golden recordings: means of heatmaps and sound, times weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from kit.fakes import describe
from kit.tiny import tiny_spec

from preprocess import PreprocessSpec, skeleton_to_heatmaps, waveform_to_logmel
from runtime.manifest import Label, TensorInfo

CLASSES = 3
SPEC = tiny_spec()
SHAPES = {"skeleton": (1, *SPEC.skeleton.shape), "audio": (1, SPEC.audio.n_mels, SPEC.audio.frames, 3)}
RNG = np.random.default_rng(7)
WEIGHTS = {name: RNG.normal(0, 10, (shape[-1], CLASSES)).astype(np.float32) for name, shape in SHAPES.items()}


def raw_recording(seed: int) -> dict[str, np.ndarray]:
    """A random walk of all joints, and noise."""
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, 0.3, (1, 1, 25, 3)) + rng.normal(0, 0.05, (30, 1, 25, 3)).cumsum(axis=0)
    return {
        "joints": joints.astype(np.float32),
        "confidence": np.ones(joints.shape[:-1], np.float32),
        "waveform": rng.normal(0, 0.1, 9000).astype(np.float32),
    }


def expected_logits(raw: dict[str, np.ndarray], spec: PreprocessSpec = SPEC) -> np.ndarray:
    """The logits of the model, by NumPy: float32 [CLASSES]."""
    heatmaps = skeleton_to_heatmaps(raw["joints"], raw["confidence"], spec.skeleton).tensor
    sound = waveform_to_logmel(raw["waveform"], spec.audio)
    return heatmaps.mean((0, 1)) @ WEIGHTS["skeleton"] + sound.mean((0, 1)) @ WEIGHTS["audio"]


def write_artifact(folder: Path, model: str, *, names: tuple[str, ...] = ("skeleton", "audio")) -> Path:
    """Adds manifest and golden recordings to a folder that contains the file `model`; returns the folder."""
    path = folder / model
    (folder / "golden").mkdir()
    golden = []
    for seed in range(2):
        golden.append(f"golden/S{seed}.npz")
        np.savez(folder / golden[-1], **raw_recording(seed))
    return describe(
        path,
        target="x86",
        spec=SPEC,
        labels=tuple(Label(f"A{i}", f"action {i}") for i in range(CLASSES)),
        inputs=tuple(TensorInfo(name, SHAPES[name], "float32") for name in names),
        outputs=(TensorInfo("logits", (1, CLASSES), "float32"),),
        golden=tuple(golden),
        stream={("skeleton",): "visual", ("audio",): "audio"}.get(names, "fused"),
    )


def write_onnx(path: Path, names: tuple[str, ...] = ("skeleton", "audio")) -> None:
    """The model in ONNX; with one name, that stream alone."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    for name in names:
        nodes.append(helper.make_node("ReduceMean", [name], [f"{name}_mean"], axes=[1, 2], keepdims=0))
        nodes.append(helper.make_node("MatMul", [f"{name}_mean", f"{name}_weights"], [f"{name}_logits"]))
    nodes.append(helper.make_node("Sum", [f"{name}_logits" for name in names], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPES[name]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, CLASSES))],
        [numpy_helper.from_array(WEIGHTS[name], f"{name}_weights") for name in names],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_tflite(path: Path, names: tuple[str, ...] = ("skeleton", "audio")) -> None:
    """The model in TFLite, float32; with one name, that stream alone."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(SHAPES[name], name=name) for name in names])
    def model(*tensors):
        parts = [tf.reduce_mean(x, axis=(1, 2)) @ WEIGHTS[name] for name, x in zip(names, tensors, strict=True)]
        return {"logits": tf.add_n(parts)}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([model.get_concrete_function()], model)
    path.write_bytes(converter.convert())
