"""Tables 1 and 2, the comparison with other tools and the report, end to end on a tiny recogniser."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module

import numpy as np
import pytest
from kit.tiny import tiny_config, tiny_spec
from test_groups import random_weights

from benchmarks.__main__ import main
from benchmarks.report import report
from benchmarks.studies import peers, variants
from benchmarks.studies.table1 import checked_cost
from model.checkpoint import RANDOM, Checkpoint, load_checkpoint, save_checkpoint
from model.config import labels_of
from model.cost import model_cost, resnet_cost
from model.recogniser import build_recogniser
from recordings.catalogue import scan
from runtime.manifest import read_artifact
from runtime.paper import PAPER_TABLE_1, PAPER_TABLE_2
from runtime.runners import open_model

pytestmark = pytest.mark.slow
WIDE = tiny_spec(side=64, bands=64, frames=192)
CALLS: list[tuple[str, ...]] = []


def call_here(package, *words, fails=False):
    """`benchmarks.commands.call` without a process of its own, which would load TensorFlow every time."""
    CALLS.append((package, *words))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = import_module(f"{package}.__main__").main([*words, "--json"])
    assert code == 0 or (fails and code == 1), (package, words)
    return json.loads(out.getvalue())


def tiny_nano(folder, spec=None):
    """A tiny model of the recordings' classes that the commands take for `nano`."""
    return replace(tiny_config(labels=labels_of(scan(folder).refs), norm="batch", spec=spec), preset="nano")


@pytest.fixture(scope="module")
def study(tmp_path_factory, recordings_folder):
    """Options for a checkpoint and a pruned one, whose artefacts the first test makes."""
    folder = tmp_path_factory.mktemp("study")
    config = tiny_nano(recordings_folder)
    save_checkpoint(folder / "whole.npz", Checkpoint(config, random_weights(config, 4), {}))
    with pytest.MonkeyPatch.context() as patch:
        for module in (variants, report, peers):
            patch.setattr(module, "call", call_here)
        words = ["--criterion", "magnitude", "--uniform", "--macs", "0.7", "--multiple", "1"]
        call_here(
            "quantize", "prune", "--checkpoint", str(folder / "whole.npz"), *words, "--out", f"{folder}/small.npz"
        )
        common = ["--checkpoint", f"{folder}/whole.npz", "--pruned", f"{folder}/small.npz"]
        common += ["--folder", f"{folder}/artifacts", "--calibration", "8", "--recordings", "16", "--rounds", "10"]
        yield folder, common


@pytest.fixture(scope="module")
def table1(study):
    folder, common = study
    assert main(["table1", *common, "--out", f"{folder}/table1.json"]) == 0
    return json.loads((folder / "table1.json").read_text())


def test_table_1_has_every_stream_in_every_precision(study, table1):
    folder, _ = study
    found = {(own["stream"], own["precision"]): own for own in table1["rows"]}
    assert set(found) == {(s, p) for s in ("visual", "audio", "fused") for p in ("float32", "INT8", "pruned INT8")}
    checkpoints = {name: load_checkpoint(folder / f"{name}.npz") for name in ("whole", "small")}
    for (stream, precision), own in found.items():
        config = checkpoints["small" if precision.startswith("pruned") else "whole"].config
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
            assert own["parameters"] == sum(trained.values())
            assert own["macs"] == cost.total.macs
        else:
            assert own["parameters"] == sum(int(np.prod(v.shape)) for v in recogniser.stream(stream).trainable_weights)
        side = config.spec.skeleton.size
        without = resnet_cost(config.visual, (side, side), 31).macs - resnet_cost(config.visual, (side, side), 3).macs
        assert own["macs"] - own["macs_three_channels"] == (0 if stream == "audio" else without)
        manifest, model = read_artifact(folder / "artifacts" / f"{stream}-{precision}".replace(" ", "-"))
        assert own["size_bytes"] == model.stat().st_size
        assert own["accuracy"]["count"] == 16
        assert manifest.stream == stream
        assert 0 < own["latency_ms"] <= own["latency_p90_ms"]
        assert 0 < own["arena_bytes"] < 1e6
        assert own["peak_bytes"] > 0
    assert len(table1["record"]["measurements"][0]["inference"]["samples_ms"]) == 10


def test_table_1_puts_the_paper_beside_and_says_what_is_what(study, table1, capsys):
    _, common = study
    CALLS.clear()
    assert main(["table1", *common]) == 0
    assert CALLS == []  # the artefacts are there
    text = capsys.readouterr().out
    lines = text.splitlines()
    paper = next(line for line in lines if line.startswith("fused, paper"))
    assert "53.6 M q" in paper
    assert "8.6 G q" in paper
    assert f"{PAPER_TABLE_1['fused'].latency_ms:.0f} ms q" in paper
    ours = next(line for line in lines if line.startswith("fused, INT8"))
    assert ours.count(" c ") == 4
    assert ours.count(" m") >= 4
    assert "which the paper calls FLOPs" in text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--rounds", "3"], 2, "--rounds is 3; a median needs at least 10"),
        (["--threads", "0"], 2, "--threads is 0"),
        (["--calibration", "4"], 2, "holds results of other options; choose another --folder"),
        (["--preset", "nano"], 2, "--preset means random weights; leave out --checkpoint and --pruned"),
    ],
)
def test_what_table_1_cannot_do_is_told(study, table1, words, code, message, capsys):
    _, common = study
    assert main(["table1", *common, *words]) == code
    assert message in capsys.readouterr().err


def test_zero_biases_of_untrained_files_are_not_missed(tmp_path, recordings_folder):
    config = tiny_nano(recordings_folder, spec=WIDE)
    untrained = Checkpoint(config, build_recogniser(config).weights(), {RANDOM: True})
    save_checkpoint(tmp_path / "random.npz", untrained)
    words = ["--checkpoint", f"{tmp_path}/random.npz", "--recordings", "4", "--data", str(recordings_folder)]
    call_here("export", "tflite", *words, "--out", f"{tmp_path}/random")
    manifest, cost = checked_cost(variants.Variant("fused", "float32", tmp_path / "random"))
    assert not manifest.verification["judged_by_class"]
    assert cost.macs == manifest.cost["fused"]["macs"]
    assert cost.parameters < manifest.cost["fused"]["deployed_parameters"]


def test_a_pruned_checkpoint_needs_its_original(study, capsys):
    folder, _ = study
    assert main(["table1", "--pruned", f"{folder}/small.npz"]) == 2
    assert "--pruned needs --checkpoint" in capsys.readouterr().err


def test_table_2_is_the_accuracy_of_the_training_form(study, table1, recordings_folder, tmp_path, capsys):
    folder, _ = study
    names = [f"{stream}-float32" for stream in ("visual", "audio", "fused")]
    words = [f"{name}={folder / 'artifacts' / name}" for name in names]
    out = tmp_path / "table2.json"
    data = ["--data", str(recordings_folder), "--recordings", "64", "--workers", "0"]
    assert main(["table2", *words, *data, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [own["network"] for own in rows] == ["ResNet-14", "ConvNeXt 1-1-1-1", "fused"]
    for own, stream in zip(rows, ("visual", "audio", "fused"), strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as text:
            words = ["--checkpoint", str(folder / "whole.npz"), "--stream", stream, "--data", str(recordings_folder)]
            assert import_module("model.__main__").main(["evaluate", *words, "--json"]) == 0
        assert own["correct"] == json.loads(text.getvalue())["correct"]
        assert own["count"] == 64
    text = capsys.readouterr().out
    assert "rows compare with each other" in text
    assert f"{PAPER_TABLE_2['fused'][0]} % q" in text


class Outline(HTMLParser):
    """Checks that tags are closed in order, and notes headings, pictures and what is loaded from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.pictures, self.loaded = [], [], [], []

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        if tag == "img":
            self.pictures.append(own)
        self.loaded += [own[key] for key in ("src", "href") if key in own]
        if tag not in ("img", "meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_the_report_is_one_page_that_needs_nothing_else(study, table1, recordings_folder, tmp_path):
    _, common = study
    out = tmp_path / "report"
    words = ["--data", str(recordings_folder), "--corrupted", "16", "--out", str(out)]
    assert main(["report", *common, *words]) == 0
    page = Outline()
    page.feed((out / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.headings == [
        "Table 1: cost, size, memory, time",
        "What is given for what is gained",
        "Bad microphones, rooms and views",
        "What each sense knows",
        "Where the time and the noise are",
        "How these numbers came about",
    ]
    assert all(own.startswith(("data:image/png;base64,", "#s")) for own in page.loaded)
    assert len(page.pictures) == 7
    assert all(own["alt"] for own in page.pictures)
    names = {path.name for path in out.iterdir()}
    assert {"table1.json", "layers.json", "robustness.json", "ablation.json", "pareto.png", "blocks.png"} <= names
    layers = json.loads((out / "layers.json").read_text())
    assert set(layers) == {"float32", "INT8", "pruned INT8"}


def test_peers_answer_on_the_same_recordings(study, tmp_path, monkeypatch, capsys):
    folder, _ = study
    monkeypatch.setattr(peers, "EXPORTS", peers.EXPORTS[:5])  # what the other tools make of ONNX has its own test
    out = tmp_path / "peers.json"
    words = ["--checkpoint", f"{folder}/whole.npz", "--calibration", "8", "--rounds", "10"]
    words += ["--recordings", "32", "--folder", str(tmp_path / "peers"), "--out", str(out)]
    assert main(["peers", *words]) == 0
    document = json.loads(out.read_text())
    rows = {own["name"]: own for own in document["rows"]}
    assert set(rows) == {name for name, _ in peers.EXPORTS}
    assert {own["count"] for own in rows.values()} == {32}
    # The same network: in float, it answers the same whoever converted it.
    assert rows["TFLiteConverter float32"]["correct"] == rows["our float32 TFLite"]["correct"]
    assert rows["TFLiteConverter float32"]["agreement"] == 1
    # Its maps are so small that a part of a depthwise is always zero, for which the other tool leaves no range.
    assert list(document["failed"]) == [peers.AI_EDGE]
    assert f"{peers.AI_EDGE}: litert cannot load" in capsys.readouterr().out


def test_what_ai_edge_quantizer_makes_is_an_artifact(tmp_path, recordings_folder):
    config = tiny_nano(recordings_folder, spec=WIDE)
    save_checkpoint(tmp_path / "whole.npz", Checkpoint(config, random_weights(config, 4), {}))
    words = ["--checkpoint", f"{tmp_path}/whole.npz", "--recordings", "4", "--data", str(recordings_folder)]
    call_here("export", "tflite", *words, "--out", f"{tmp_path}/float")
    peers.quantize_with_ai_edge(tmp_path / "float", tmp_path / "int8", count=16)
    exact, source = read_artifact(tmp_path / "float")
    manifest, model = read_artifact(tmp_path / "int8")
    assert {tensor.dtype for tensor in (*manifest.inputs, *manifest.outputs)} == {"int8"}
    for name in manifest.golden:
        tensors = dict(np.load(tmp_path / "int8" / name))
        a, b = (open_model(path, "litert")(tensors) for path in (source, model))
        assert np.square(a - b).sum() < 0.1 * np.square(a).sum()
    assert exact.golden == manifest.golden
