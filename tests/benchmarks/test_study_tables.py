"""Tables 1 and 2, the comparison with other tools and the report, end to end on a tiny recogniser."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from kit.networks import random_weights
from kit.tiny import tiny_config, tiny_spec

from benchmarks.__main__ import build_parser, main
from benchmarks.measure.runner import golden_recordings
from benchmarks.report import report
from benchmarks.studies import paper_tables, peers
from model.checkpoint import RANDOM, Checkpoint, load_checkpoint, save_checkpoint
from model.config import labels_of
from model.cost import model_cost, resnet_cost
from model.recogniser import build_recogniser
from recordings.catalogue import scan
from runtime.artifact import Artifact
from runtime.manifest import read_artifact
from runtime.paper import PAPER_TABLE_1

pytestmark = pytest.mark.slow
WIDE = tiny_spec(side=64, bands=64, frames=192)
CALLS: list[tuple[str, ...]] = []


def call_here(package, *words, may_answer_no=False):
    """`console.child.run_command` in this process: another one would load TensorFlow every time."""
    CALLS.append((package, *words))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = import_module(f"{package}.__main__").main([*words, "--json"])
    assert code == 0 or (may_answer_no and code == 1), (package, words)
    return json.loads(out.getvalue())


def tiny_nano(folder, spec=None):
    """A tiny model of the recordings' classes that the commands take for `nano`."""
    return replace(tiny_config(labels=labels_of(scan(folder).refs), norm="batch", spec=spec), preset="nano")


@pytest.fixture(scope="module")
def study(tmp_path_factory, recordings_folder):
    """Options for a checkpoint and a pruned one, whose artifacts the first test makes."""
    folder = tmp_path_factory.mktemp("study")
    config = tiny_nano(recordings_folder)
    save_checkpoint(folder / "original.npz", Checkpoint(config, random_weights(config, 4), {}))
    with pytest.MonkeyPatch.context() as patch:
        for module in (paper_tables, report, peers):
            patch.setattr(module, "run_command", call_here)
        words = ["--criterion", "magnitude", "--uniform", "--macs", "0.7", "--multiple", "1"]
        call_here(
            "quantize", "prune", "--checkpoint", str(folder / "original.npz"), *words, "--out", f"{folder}/small.npz"
        )
        common = ["--checkpoint", f"{folder}/original.npz", "--pruned", f"{folder}/small.npz"]
        common += ["--folder", f"{folder}/artifacts", "--calibration", "8", "--recordings", "16", "--rounds", "10"]
        common += ["--data", str(recordings_folder), "--workers", "0"]
        yield folder, common


@pytest.fixture(scope="module")
def measured(study):
    folder, common = study
    assert main(["table1", *common, "--out", f"{folder}/table1.json"]) == 0
    return json.loads((folder / "table1.json").read_text())


def test_table_1_has_every_stream_in_every_precision(study, measured):
    folder, _ = study
    rows = {(row["stream"], row["precision"]): row for row in measured["rows"]}
    assert set(rows) == {(s, p) for s in ("visual", "audio", "fused") for p in ("float32", "INT8", "pruned INT8")}
    checkpoints = {name: load_checkpoint(folder / f"{name}.npz") for name in ("original", "small")}
    for (stream, precision), row in rows.items():
        config = checkpoints["small" if precision.startswith("pruned") else "original"].config
        recogniser = build_recogniser(config)
        cost = model_cost(config)
        if stream == "fused":
            heads = {"visual/classifier", "audio/classifier", "audio/norm"}
            trained = {
                v.name: int(np.prod(v.shape))
                for m in (recogniser.visual, recogniser.audio, recogniser.head)
                for v in m.trainable_weights
                if not any(v.name.startswith(head) for head in heads)
            }
            assert row["parameters"] == sum(trained.values())
            assert row["macs"] == cost.macs
        else:
            assert row["parameters"] == sum(int(np.prod(v.shape)) for v in recogniser.stream(stream).trainable_weights)
        side = config.spec.skeleton.size
        without = resnet_cost(config.visual, (side, side), 31).macs - resnet_cost(config.visual, (side, side), 3).macs
        assert row["macs"] - row["macs_three_channels"] == (0 if stream == "audio" else without)
        manifest, model = read_artifact(folder / "artifacts" / f"{stream}-{precision}".replace(" ", "-"))
        assert row["size_bytes"] == model.stat().st_size
        assert row["accuracy"]["count"] == 16
        assert manifest.stream == stream
        assert 0 < row["latency_ms"] <= row["latency_p90_ms"]
        assert 0 < row["arena_bytes"] < 1e6
        assert row["peak_bytes"] > 0
    assert len(measured["record"]["measurements"][0]["inference"]["samples_ms"]) == 10


def test_table_1_is_measured_again_from_the_artifacts_that_are_there(study, measured, capsys):
    _, common = study
    CALLS.clear()
    assert main(["table1", *common]) == 0
    assert CALLS == []
    text = capsys.readouterr().out
    _, paper = (line for line in text.splitlines() if line.startswith("fused, paper"))
    assert f"{PAPER_TABLE_1['fused'].latency_ms:.0f} ms" in paper
    assert "calls multiply-accumulates FLOPs" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--calibration", "4"], "other options; choose another --folder"),
        (["--preset", "nano"], "leave out --checkpoint"),
        ([], "--pruned needs --checkpoint"),
    ],
)
def test_what_table_1_refuses(study, measured, words, message, capsys):
    _, common = study
    assert main(["table1", *(common if words else common[2:]), *words]) == 2
    assert message in capsys.readouterr().err


def test_untrained_files_have_fewer_biases_than_their_manifest(tmp_path, recordings_folder):
    config = tiny_nano(recordings_folder, spec=WIDE)
    untrained = Checkpoint(config, build_recogniser(config).weights(), {RANDOM: True})
    save_checkpoint(tmp_path / "random.npz", untrained)
    words = ["--checkpoint", f"{tmp_path}/random.npz", "--recordings", "4", "--data", str(recordings_folder)]
    call_here("export", "tflite", *words, "--out", f"{tmp_path}/random")
    artifact = Artifact.open(tmp_path / "random")
    manifest, cost = artifact.manifest, paper_tables.checked_cost(artifact)
    assert not manifest.verification["judged_by_class"]
    assert cost.macs == manifest.cost["fused"]["macs"]
    assert cost.parameters < manifest.cost["fused"]["deployed_parameters"]


def test_table_2_is_the_accuracy_of_the_training_form(study, measured, recordings_folder, tmp_path):
    folder, _ = study
    names = [f"{stream}-float32" for stream in ("visual", "audio", "fused")]
    words = [f"{name}={folder / 'artifacts' / name}" for name in names]
    out = tmp_path / "table2.json"
    data = ["--data", str(recordings_folder), "--recordings", "64", "--workers", "0"]
    assert main(["table2", *words, *data, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["network"] for row in rows] == ["ResNet-14", "ConvNeXt 1-1-1-1", "fused"]
    for row, stream in zip(rows, ("visual", "audio", "fused"), strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as text:
            words = ["--checkpoint", str(folder / "original.npz"), "--stream", stream, "--data", str(recordings_folder)]
            assert import_module("model.__main__").main(["evaluate", *words, "--json"]) == 0
        assert row["correct"] == json.loads(text.getvalue())["correct"]
        assert row["count"] == 64


def test_the_report_is_one_page_that_needs_nothing_else(study, measured, tmp_path):
    _, common = study
    out = tmp_path / "report"
    words = ["--corrupted", "16", "--out", str(out)]
    assert main(["report", *common, *words]) == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    for tag in ("section", "figure", "table", "tr", "td", "pre", "nav"):
        assert len(re.findall(rf"<{tag}\b", page)) == page.count(f"</{tag}>")
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Table 1: cost, size, memory, time",
        "Accuracy against time and size",
        "Bad microphones, rooms and views",
        "The worth of each input",
        "Where the time and the noise are",
        "How these numbers came about",
    ]
    links = re.findall('(?:src|href)="([^"]*)"', page)
    assert all(link.startswith(("data:image/png;base64,", "#s")) for link in links)
    assert len(re.findall('<img [^>]*alt="[^"]', page)) == 7
    names = {path.name for path in out.iterdir()}
    assert {"table1.json", "layers.json", "robustness.json", "ablation.json", "pareto.png", "blocks.png"} <= names
    layers = json.loads((out / "layers.json").read_text())
    assert set(layers) == {"float32", "INT8", "pruned INT8"}


def test_peers_answer_on_the_same_recordings(study, recordings_folder, tmp_path, monkeypatch, capsys):
    folder, _ = study
    # Exports by other tools have tests in tests/export.
    monkeypatch.setattr(peers, "EXPORTS", (peers.EXPORTS[0], peers.EXPORTS[2]))
    out = tmp_path / "peers.json"
    words = ["--checkpoint", f"{folder}/original.npz", "--calibration", "8", "--rounds", "10"]
    words += ["--data", str(recordings_folder), "--workers", "0", "--recordings", "32"]
    words += ["--folder", str(tmp_path / "peers"), "--out", str(out)]
    assert main(["peers", *words]) == 0
    document = json.loads(out.read_text())
    rows = {row["name"]: row for row in document["rows"]}
    assert set(rows) == {name for name, _ in peers.EXPORTS}
    assert {row["count"] for row in rows.values()} == {32}
    # The same network: in float, it answers the same whoever converted it.
    assert rows["TFLiteConverter float32"]["correct"] == rows["our float32 TFLite"]["correct"]
    assert rows["TFLiteConverter float32"]["agreement"] == 1
    # Its maps are so small that a part of a depthwise is always zero, for which the other tool leaves no range.
    assert list(document["failed"]) == [peers.AI_EDGE]
    assert f"{peers.AI_EDGE}: litert cannot load" in capsys.readouterr().out


def test_what_ai_edge_quantizer_makes_is_an_artifact(tmp_path, recordings_folder):
    config = tiny_nano(recordings_folder, spec=WIDE)
    save_checkpoint(tmp_path / "original.npz", Checkpoint(config, random_weights(config, 4), {}))
    words = ["--checkpoint", f"{tmp_path}/original.npz", "--recordings", "4", "--data", str(recordings_folder)]
    call_here("export", "tflite", *words, "--out", f"{tmp_path}/float")
    words = ["peers", "--data", str(recordings_folder), "--workers", "0", "--calibration", "16"]
    options = build_parser().parse_args(words)
    exact = Artifact.open(tmp_path / "float")
    peers.quantize_with_ai_edge(exact, tmp_path / "int8", options)
    quantized = Artifact.open(tmp_path / "int8")
    manifest = quantized.manifest
    assert {tensor.dtype for tensor in (*manifest.inputs, *manifest.outputs)} == {"int8"}
    for recording in golden_recordings(quantized.folder, manifest):
        a, b = (artifact.load()(recording.tensors(manifest.spec)) for artifact in (exact, quantized))
        assert np.square(a - b).sum() < 0.1 * np.square(a).sum()
    assert exact.manifest.golden == manifest.golden
