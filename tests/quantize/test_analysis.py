"""Where quantization adds noise: blocks, shares, ranks, and the command that writes them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from kit.networks import initial_weights, noise
from kit.tiny import tiny_config

from model.config import DeployForm
from model.folding import fold
from quantize.__main__ import main
from quantize.analysis import (
    PARTS,
    Analysis,
    BlockNoise,
    analysis_table,
    analyze,
    draw_analysis,
    part_of_block,
    pattern_of,
)
from quantize.prepare import CalibrationOptions, prepare
from quantize.recipes import STATIC_WI8_AI8
from quantize.rounding import feed, observed_deploy, quantized_deploy, round_weights
from runtime.blocks import block_of
from runtime.metrics import snr_db

XNNPACK = DeployForm("split", "convolutions")
AUDIO = DeployForm("whole", "layer", stream="audio")  # fewest layers
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Float32 sums of a batch in another order may move a value to the next level.
SAME_SNR_DB = 0.2


SLOW_STREAMS = [pytest.param(stream, marks=pytest.mark.slow) for stream in ("visual", "fused")]


@cache
def prepared(stream="audio"):
    config = tiny_config()
    weights, calibration = initial_weights(config), noise(config, 3, 2)
    form = AUDIO if stream == "audio" else replace(XNNPACK, stream=stream)
    return prepare(config, weights, form, calibration, CalibrationOptions())


@cache
def held_out():
    return noise(tiny_config(), 4, 3)


@cache
def analysis(stream="audio"):
    return analyze(prepared(stream), held_out())


def logits_of(network, weights, ranges):
    """Logits of the deploy form, rounded over these ranges."""
    model = quantized_deploy(network.config, network.form, weights, ranges)
    return model(feed(model, {"skeleton": held_out().skeleton, "audio": held_out().audio})).numpy()


def expected_blocks():
    """Block → part of the tiny network."""
    blocks = {"visual/stem": "ResNet", "audio/stem": "ConvNeXt"}
    blocks |= {f"visual/stage{level}/block0": "ResNet" for level in range(4)}
    blocks |= {f"audio/stage{level}/block0": "ConvNeXt" for level in range(4)}
    blocks |= {f"audio/stage{level}/downsample": "ConvNeXt" for level in range(1, 4)}
    return blocks | {"fusion/attention": "attention", "fusion/head": "head"}


@cache
def fused():
    """Names of the activations and of the weights."""
    config = tiny_config()
    weights = fold(config, initial_weights(config), XNNPACK)
    return list(observed_deploy(config, XNNPACK, weights)[1].values()), list(weights)


def test_every_tensor_and_weight_is_in_one_block():
    names, weights = fused()
    assert {block: part_of_block(block) for block in map(block_of, names)} == expected_blocks()
    assert set(map(block_of, weights)) == expected_blocks().keys()
    for name in [*names, *weights]:
        blocks = {block for block in expected_blocks() if name.startswith(f"{block}/") or name == block}
        assert blocks <= {block_of(name)}, name
    assert {name for name in names if block_of(name) == "visual/stem"} == {"skeleton", "visual/stem"}
    assert "audio" in {name for name in names if block_of(name) == "audio/stem"}
    head = {name for name in [*names, *weights] if block_of(name) == "fusion/head"}
    assert {"logits", "fusion/pool", "fusion/norm/mean", "fusion/classifier/kernel"} <= head
    assert not [name for name in head if name.startswith(("fusion/query", "fusion/output", "fusion/add"))]
    assert block_of("audio/stage2/block10/gelu") == "audio/stage2/block10"


def test_patterns_cover_their_block_and_nothing_else():
    names = [name for name in fused()[0] if name not in ("skeleton", "audio")]
    for block in expected_blocks():
        recipe = STATIC_WI8_AI8.with_exceptions(tuple(pattern_of(block, names).split(",")))
        assert [n for n in names if recipe.is_exception(n)] == [n for n in names if block_of(n) == block], block


@pytest.mark.parametrize("stream", ["audio", *SLOW_STREAMS])
def test_shares_add_up_and_blocks_are_ranked(stream):
    result = analysis(stream)
    blocks, tensors = result.blocks, result.tensors
    assert result.recordings == 4
    assert list(tensors) == list(prepared(stream).ranges)
    if stream == "fused":
        assert {block.name: block.part for block in blocks} == expected_blocks()
    else:
        streams = {block.name.split("/")[0] for block in blocks}
        assert stream in streams
        assert streams.isdisjoint({"visual", "audio"} - {stream})
    shares = [block.share for block in blocks]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert [block.logits_snr_db for block in blocks] == sorted(block.logits_snr_db for block in blocks)
    parts = result.by_part()
    assert tuple(parts) == PARTS
    assert sum(parts.values()) == pytest.approx(1)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["parts"] == pytest.approx(parts)
    assert document["blocks"][0]["name"] == blocks[0].name
    assert document["tensors"][-1] == {"name": "logits", "block": "fusion/head", "snr_db": tensors["logits"]}


@pytest.mark.parametrize("stream", ["audio", *SLOW_STREAMS])
def test_logits_are_compared_with_everything_quantized(stream):
    network, result = prepared(stream), analysis(stream)
    weights = network.static_weights
    exact, quantized = logits_of(network, weights, {}), logits_of(network, round_weights(weights), network.ranges)
    assert result.logits_snr_db == pytest.approx(snr_db(exact, quantized), abs=SAME_SNR_DB)
    assert result.tensors["logits"] == result.logits_snr_db


def test_the_reference_is_the_float_model_as_trained():
    """Only kernels are rounded here: corrected biases take away their noise."""
    unranged = replace(prepared(), ranges={})
    exact, rounded = (logits_of(unranged, w, {}) for w in (unranged.weights, round_weights(unranged.static_weights)))
    assert analyze(unranged, held_out()).logits_snr_db == pytest.approx(snr_db(exact, rounded), abs=0.05)


def test_a_block_alone_is_compared_with_the_float_model():
    """Against a graph in which nothing else has a range or a rounded kernel."""
    network, block = prepared(), "audio/stage1/block0"
    exact = network.equalised
    rounded = {name: v for name, v in round_weights(network.static_weights).items() if block_of(name) == block}
    ranges = {name: limits for name, limits in network.ranges.items() if block_of(name) == block}
    expected = snr_db(logits_of(network, exact, {}), logits_of(network, exact | rounded, ranges))
    noisy = next(entry for entry in analysis().blocks if entry.name == block)
    assert noisy.logits_snr_db == pytest.approx(expected, abs=SAME_SNR_DB)


def test_a_block_with_wide_ranges_comes_first_and_weights_stay():
    network = prepared()
    before = {name: value.copy() for name, value in network.static_weights.items()}
    # No other branch goes past a downsampling.
    quietest = next(block.name for block in reversed(analysis().blocks) if block.name.endswith("downsample"))
    ranges = {
        name: (200 * low, 200 * high) if block_of(name) == quietest else (low, high)
        for name, (low, high) in network.ranges.items()
    }
    assert analyze(replace(network, ranges=ranges), held_out()).blocks[0].name == quietest
    assert all(np.array_equal(before[name], network.static_weights[name]) for name in before)


def made_up(count):
    """An analysis of `count` blocks in all parts."""
    names = ["fusion/attention", "fusion/head", "audio/stem", *(f"visual/stage0/block{i}" for i in range(count - 3))]
    return Analysis(
        recordings=7,
        logits_snr_db=23.4,
        blocks=tuple(BlockNoise(name, part_of_block(name), 30.0 + i, 1 / count, name) for i, name in enumerate(names)),
        tensors={name.replace("/head", "/pool"): 200.0 - i for i, name in enumerate(names)},
    )


@pytest.mark.parametrize("count", [4, 40])
def test_a_table_and_a_picture_of_few_and_of_many_blocks(count, tmp_path):
    table = analysis_table(made_up(count))
    lines = table.splitlines()
    assert lines[0] == "INT8 against float on 7 recordings, logits' SNR 23.4 dB"
    assert len([line for line in lines if line.startswith("visual/stage0/block")]) == min(count, 12) - 3
    assert [line.split()[0] for line in lines[-4:]] == list(PARTS)
    assert lines[-1].split()[-3:] == ["fusion/pool", "199.0", "dB"]
    draw_analysis(made_up(count), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG_SIGNATURE)


@pytest.mark.slow
def test_the_demo_is_analyzed(recordings_folder, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    numbers = ["--calibration", "8", "--recordings", "4", "--workers", "0"]
    assert main(["analyze", "--data", str(recordings_folder), *numbers, "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "analysis.json").read_text(encoding="utf-8"))
    assert (out / "analysis.png").read_bytes().startswith(PNG_SIGNATURE)
    assert sorted(path.name for path in out.iterdir()) == ["analysis.json", "analysis.png"]
    assert document["recordings"] == 4
    assert sum(document["parts"].values()) == pytest.approx(1)
    assert 10 < document["logits_snr_db"] < 60
