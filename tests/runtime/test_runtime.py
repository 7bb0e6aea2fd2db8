"""Quantizing at the border, the manifest, and the tolerances' arithmetic: no framework needed."""

from __future__ import annotations

import json
import math
from importlib import metadata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.fakes import describe, make_manifest

from preprocess.errors import DataError, MissingComponentError
from preprocess.spec import PreprocessSpec
from runtime.manifest import Label, Manifest, TensorInfo, read_artifact
from runtime.runners import dequantize, open_model, quantize

HEATMAP = TensorInfo("skeleton", (1, 8, 8, 13), "int8", 1 / 255, -128)


MANIFEST = make_manifest(
    labels=(Label("A001", "drink water"), Label("A002", "eat meal")),
    spec=PreprocessSpec.preset("nano"),
    inputs=(HEATMAP,),
    outputs=(TensorInfo("logits", (1, 2), "int8", 0.1, 3),),
    calibration={"size": 2},
    cost={"fused": {"parameters": 1, "macs": 2}},
    search={"max_drop_points": 1.0, "tried": [{"recipe": "static_wi8_ai8"}]},
    golden=("golden/a.npz",),
    versions={"numpy": "1.26.4"},
)


@given(st.floats(-3, 4))
@example(0.0)
@example(1.0)
def test_heatmap_pixels_are_stored_as_255_steps_from_minus_128_and_saturate(value):
    stored = int(quantize(np.array([value], np.float32), HEATMAP)[0])
    # An independent rule: nearest of 256 levels, ties to either side.
    assert abs((stored + 128) - 255 * min(max(value, 0), 1)) <= 0.5 + 1e-4


@given(st.floats(-4, 4), st.floats(0.01, 1), st.integers(-128, 127))
def test_dequantize_inverts_quantize_to_half_a_step(value, scale, zero_point):
    info = TensorInfo("x", (1,), "int8", scale, zero_point)
    low, high = scale * (-128 - zero_point), scale * (127 - zero_point)
    back = float(dequantize(quantize(np.array([value], np.float32), info), info)[0])
    assert math.isclose(back, min(max(value, low), high), abs_tol=0.501 * scale)


def test_float_tensors_pass_unchanged():
    info = TensorInfo("x", (2,), "float32")
    values = np.array([0.1, -2.0], np.float32)
    assert quantize(values, info).tobytes() == values.tobytes()
    assert dequantize(values, info).tobytes() == values.tobytes()


def test_manifest_round_trip():
    assert Manifest.from_dict(json.loads(MANIFEST.to_json())) == MANIFEST
    assert MANIFEST.spec == PreprocessSpec.preset("nano")
    assert MANIFEST.codes == ["A001", "A002"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("recipe"), "missing field 'recipe'"),
        (lambda d: d.update(extra=1), "unknown field 'extra'"),
        (lambda d: d.update(labels=["A001"]), r"labels\.0 is 'A001'; it must be an object"),
        (lambda d: d["inputs"][0].update(scale="x"), r"inputs\.0\.scale"),
        (lambda d: d.update(version=99), "version 99"),
        (lambda d: d.pop("version"), "version None"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(change, message):
    data = json.loads(MANIFEST.to_json())
    change(data)
    with pytest.raises(DataError, match=message):
        Manifest.from_dict(data)


def test_a_number_that_is_not_finite_is_not_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_manifest(verification={"snr_db": math.nan}).to_json()


def test_a_folder_without_manifest_or_with_a_changed_model_is_no_artifact(tmp_path):
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        read_artifact(tmp_path)
    model = tmp_path / "model.tflite"
    model.write_bytes(b"abc")
    describe(model)
    assert read_artifact(tmp_path)[1] == model
    model.write_bytes(b"abd")
    with pytest.raises(DataError, match="changed since the export"):
        read_artifact(tmp_path)


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime", "onnxruntime"])
def test_damaged_model_file_is_a_data_error(tmp_path, runtime):
    path = tmp_path / "model"
    path.write_bytes(b"this is no model")
    with pytest.raises(DataError, match=f"{runtime} cannot load"):
        open_model(path, runtime)


@pytest.mark.parametrize(
    ("runtime", "package"),
    [("litert", "ai-edge-litert"), ("tflite-runtime", "tflite-runtime"), ("onnxruntime", "onnxruntime")],
)
def test_a_runtime_that_is_missing_is_named_with_its_package(monkeypatch, tmp_path, runtime, package):
    monkeypatch.setattr("runtime.runners.is_installed", lambda name: False)
    with pytest.raises(MissingComponentError, match=f"runtime {runtime} is not installed; run `pip install {package}`"):
        open_model(tmp_path / "model", runtime)
    assert metadata.version(package)
