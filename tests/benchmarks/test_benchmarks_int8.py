"""The INT8 benchmark and the plain export it compares with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.provenance import INSTRUCTIONS, instructions
from benchmarks.studies import plain
from benchmarks.studies.int8 import PLAIN_FLOAT, RESULT, gemm_table, latency_table, summary
from preprocess.errors import PocketHarError

ROOT = Path(__file__).resolve().parents[2]
# Float32 sums of a few hundred products in another order.
SAME_FLOAT = 1e-4


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.studies.int8", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_timing_has_its_ratio_to_the_same_rounds_of_the_base():
    base = np.random.default_rng(3).gamma(9, 10, 40)
    entry = summary((base / 2).tolist(), base.tolist())
    assert entry["median_ms"] == pytest.approx(np.median(base) / 2)
    assert entry["p90_ms"] == pytest.approx(np.percentile(base, 90) / 2)
    assert entry["ratio"] == pytest.approx(0.5)
    assert entry["ratio_interval95"] == pytest.approx([0.5, 0.5])
    json.dumps(entry, allow_nan=False)


def test_the_committed_intervals_are_those_of_the_committed_samples():
    files = json.loads(RESULT.read_text(encoding="utf-8"))["files"]
    base = next(entry for entry in files if (entry["runtime"], entry["name"]) == ("litert", PLAIN_FLOAT))
    for entry in files:
        if entry["runtime"] == "litert":
            for threads, timing in entry["latency"].items():
                assert summary(timing["samples_ms"], base["latency"][threads]["samples_ms"]) == timing


def test_without_a_plain_file_there_is_no_ratio():
    entry = summary([1.0, 2.0, 3.0])
    assert (entry["median_ms"], entry["ratio"], entry["ratio_interval95"]) == (2.0, None, None)


def test_tables_show_every_file_and_the_processor():
    timing = {"median_ms": 41.26, "ratio": 0.4126, "ratio_interval95": [0.4, 0.42]}
    alone = {"median_ms": 99.0, "ratio": None, "ratio_interval95": None}
    document = {
        "threads": [1, 2],
        "cpu_flags": {"avx2": True, "avx512_vnni": False},
        "files": [
            {
                "name": name,
                "runtime": "litert",
                "size_bytes": 54_500_000,
                "peak_bytes": 144_000_000,
                "peak_bytes_mapped": 79_000_000,
                "latency": {"1": timing, "2": alone},
            }
            for name in ("plain float32", "batch norm INT8")
        ],
        "gemm": {
            "rows": 196,
            "depth": 1024,
            "columns": 256,
            "results": [{"name": "int8", "runtime": "litert", "gmac_per_s": {"1": 48.2, "2": 90.0}}],
        },
    }
    header, _, _, last = latency_table(document).splitlines()
    assert header.split("  ")[0] == "file"
    assert last.split() == (
        "litert, batch norm INT8 54.5 MB 41.3 ms, 2.42× [2.38, 2.50] 99.0 ms 144 MB 79 MB".split()  # noqa: SIM905
    )
    text = gemm_table(document)
    assert "product 196 × 1024 by 1024 × 256" in text
    assert text.splitlines()[2].split() == ["litert,", "int8", "48.2", "90.0"]
    assert text.endswith("processor: avx2 yes, avx512_vnni no")
    assert gemm_table({**document, "cpu_flags": None}).endswith("processor: flags unknown")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni_not avx_vnni", {"avx2", "avx_vnni"}),
        ("Features\t: fp asimd asimddp i8mm", {"asimddp", "i8mm"}),
    ],
)
def test_instructions_are_read_as_whole_words(tmp_path, line, found):
    (tmp_path / "cpuinfo").write_text(f"model name : x\n{line}\n", encoding="utf-8")
    assert instructions(tmp_path / "cpuinfo") == tuple(name for name in INSTRUCTIONS if name in found)
    assert len(found) == len(instructions(tmp_path / "cpuinfo"))


def test_instructions_are_unknown_where_the_system_does_not_say(tmp_path):
    assert instructions(tmp_path / "cpuinfo") is None


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory):
    """One product of matrices with a skeleton and a sound, as float32 TFLite, INT8 TFLite and ONNX."""
    import onnx
    import tensorflow as tf
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("tiny")
    specs = [tf.TensorSpec((1, 8), name="skeleton"), tf.TensorSpec((1, 8), name="audio")]
    function = tf.function(lambda skeleton, audio: tf.matmul(skeleton + audio, tf.ones((8, 4))), input_signature=specs)
    for name in ("plain-float32", "plain-int8"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
        if name == "plain-int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: [[np.ones((1, 8), np.float32)] * 2]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        (folder / f"{name}.tflite").write_bytes(converter.convert())
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 8)) for name in ("skeleton", "audio", "logits")
    }
    node = helper.make_node("Add", ["skeleton", "audio"], ["logits"])
    graph = helper.make_graph([node], "tiny", [values["skeleton"], values["audio"]], [values["logits"]])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "tiny.onnx")
    return folder


@pytest.mark.slow
def test_benchmark_measures_named_files_beside_the_plain_ones(tmp_path, tiny_files):
    out = tmp_path / "new" / "int8.json"
    ours = [f"tiny INT8={tiny_files}/plain-int8.tflite", f"tiny={tiny_files}/tiny.onnx"]
    options = ["--runs", "10", "--threads", "1", "--out", str(out), "--json"]
    result = run("--plain", str(tiny_files), "--ours", *ours, *options)
    assert result.returncode == 0, result.stderr
    text = out.read_text(encoding="utf-8")
    document = json.loads(text)
    assert json.loads(result.stdout) == document
    assert [(entry["runtime"], entry["name"]) for entry in document["files"]] == [
        ("litert", "plain float32"),
        ("litert", "plain INT8"),
        ("litert", "tiny INT8"),
        ("onnxruntime", "tiny"),
    ]
    for entry in document["files"]:
        timing = entry["latency"]["1"]
        assert len(timing["samples_ms"]) == 10
        assert min(timing["samples_ms"]) <= timing["median_ms"] <= timing["p90_ms"] <= max(timing["samples_ms"])
        assert (timing["ratio"] is None) == (entry["runtime"] == "onnxruntime")
        assert isinstance(entry["peak_bytes"], int)
    assert document["files"][0]["latency"]["1"]["ratio"] == 1
    assert document["files"][1]["size_bytes"] == (tiny_files / "plain-int8.tflite").stat().st_size
    speeds = {(entry["runtime"], entry["name"]): entry["gmac_per_s"]["1"] for entry in document["gemm"]["results"]}
    assert set(speeds) == {
        ("litert", "float32"),
        ("litert", "int8"),
        ("onnxruntime", "float32"),
        ("onnxruntime", "int8"),
        ("onnxruntime", "uint8"),
    }
    assert min(speeds.values()) > 0
    command = "python -m benchmarks.int8 --runs 10 --threads 1 --plain DIR --ours NAME=FILE --seed 0"
    assert document["provenance"]["command"] == command
    assert str(tiny_files) not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--runs", "3"], 2, "error: --runs is 3; a median needs at least 10"),
        (["--threads", "1", "0"], 2, "error: --threads has 0; use positive numbers"),
        (["--ours", "a.tflite"], 2, "error: --ours has 'a.tflite'; write NAME=FILE"),
        (["--ours", "a=a.pb"], 2, "error: a.pb is no model file; use one that ends in .tflite or .onnx"),
        (["--ours", "a=no.onnx"], 4, "error: no.onnx does not exist"),
        (
            ["--plain", "no"],
            4,
            "error: no holds no plain-float32.tflite; make it with `python -m benchmarks.plain no`",
        ),
    ],
)
def test_wrong_options_are_refused(arguments, code, message):
    result = run(*arguments)
    assert (result.returncode, result.stderr.strip()) == (code, message)


def test_two_files_of_one_name_and_a_damaged_file_are_refused(tmp_path, tiny_files):
    (tmp_path / "plain-float32.tflite").write_bytes(b"no model")
    twice = run("--plain", str(tiny_files), "--ours", f"plain INT8={tiny_files}/plain-int8.tflite")
    assert twice.returncode == 2
    assert twice.stderr.strip() == "error: two litert files are called 'plain INT8'; give them different names"
    damaged = run("--plain", str(tmp_path), "--ours", f"a={tiny_files}/tiny.onnx", "--out", str(tmp_path / "int8.json"))
    assert damaged.returncode == 4
    last = damaged.stderr.strip().splitlines()[-1]
    assert last.startswith("error: plain float32 (litert, threads: 1) failed: ")
    assert not (tmp_path / "int8.json").exists()


def narrow_model():
    """As the plain model, but one block of 8 channels at each resolution, and the sound alone."""
    import tf_keras as keras
    from tf_keras.src.applications import convnext

    skeleton, audio = keras.Input((8, 8, 3), batch_size=1), keras.Input((32, 32, 3), batch_size=1)
    net = convnext.ConvNeXt(
        depths=(1, 1, 1, 1),
        projection_dims=(8, 8, 8, 8),
        layer_scale_init_value=1.0,
        include_preprocessing=False,
        include_top=False,
        input_shape=(32, 32, 3),
    )
    pooled = keras.layers.GlobalAveragePooling2D()
    return keras.Model([skeleton, audio], keras.layers.Concatenate()([pooled(skeleton), pooled(net(audio))]))


@pytest.mark.slow
def test_plain_files_compute_what_keras_applications_does(tmp_path):
    import onnxruntime
    from ai_edge_litert import schema_py_generated as schema

    original = narrow_model()
    with plain.convertible_layers():
        model = narrow_model()
    weights = [w + np.random.default_rng(i).normal(0, 0.3, w.shape) for i, w in enumerate(model.get_weights())]
    model.set_weights(weights)
    # A grouped convolution keeps [h, w, 1, channels], a depthwise one [h, w, channels, 1].
    original.set_weights([w.reshape(o.shape) for w, o in zip(weights, original.get_weights(), strict=True)])
    plain.write_files(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(plain.FILES)

    rng = np.random.default_rng(0)
    feed = {
        "skeleton": rng.random((1, 8, 8, 3), dtype=np.float32),
        "audio": rng.standard_normal((1, 32, 32, 3), np.float32),
    }
    expected = original(list(feed.values())).numpy()
    session = onnxruntime.InferenceSession(str(tmp_path / "plain-float32.onnx"))
    np.testing.assert_allclose(session.run(None, feed)[0], expected, atol=SAME_FLOAT)
    assert onnxruntime.InferenceSession(str(tmp_path / "plain-int8.onnx")).run(None, feed)[0].shape == (1, 11)
    for name in ("plain-float32.tflite", "plain-int8.tflite"):
        content = schema.ModelT.InitFromObj(schema.Model.GetRootAs((tmp_path / name).read_bytes(), 0))
        codes = [content.operatorCodes[operator.opcodeIndex].builtinCode for operator in content.subgraphs[0].operators]
        counts = Counter(codes)
        assert counts[schema.BuiltinOperator.GELU] == 4
        assert counts[schema.BuiltinOperator.DEPTHWISE_CONV_2D] == 4


def test_an_operation_that_tf2onnx_cannot_convert_is_an_error(tmp_path):
    import tf_keras as keras

    skeleton, audio = keras.Input((4,), batch_size=1), keras.Input((4,), batch_size=1)
    model = keras.Model([skeleton, audio], keras.layers.Activation("gelu")(skeleton + audio))
    with pytest.raises(PocketHarError, match=r"tf2onnx could not convert the plain model: .*Erfc"):
        plain.write_files(model, tmp_path)
    assert not (tmp_path / "plain-float32.onnx").exists()
