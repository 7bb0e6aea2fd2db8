"""Where quantization adds noise: blocks, shares, ranks, and the command that writes them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from kit.tiny import tiny_config

from model.config import DeployForm
from model.deploy import build_deploy, set_deploy_weights
from model.recogniser import build_recogniser
from quantize.__main__ import main
from quantize.analysis import PARTS, Analysis, BlockNoise, TensorNoise, analyze, block_of, part_of, pattern_of
from quantize.commands import analysis_table
from quantize.drawing import draw_analysis
from quantize.prepare import CalibrationOptions, prepare
from quantize.recipes import STATIC_WI8_AI8
from quantize.rounding import observed_deploy, quantized_deploy, round_weights
from recordings.calibration import CalibrationSet
from runtime.metrics import snr_db

XNNPACK = DeployForm("split", "convolutions")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Float32 sums of a batch in another order may move a value to the next level.
SAME_SNR_DB = 0.2


def samples_of(config, count, seed):
    rng = np.random.default_rng(seed)
    skeleton = rng.random((count, *config.spec.skeleton.shape)).astype(np.float32)
    audio = rng.normal(size=(count, *config.spec.audio.shape)).astype(np.float32)
    return CalibrationSet(tuple(f"R{i}" for i in range(count)), np.zeros(count, np.int32), skeleton, audio, seed=0)


@cache
def prepared():
    config = tiny_config()
    weights = build_recogniser(config, seed=1).weights()
    return prepare(config, weights, XNNPACK, samples_of(config, 4, seed=2), CalibrationOptions())


@cache
def held_out():
    return samples_of(prepared().config, 5, seed=3)


@cache
def analysis():
    return analyze(prepared(), held_out())


def logits_of(model):
    return model([held_out().skeleton, held_out().audio]).numpy()


@cache
def exact_logits():
    """Of the float deploy form with the weights that static quantization starts from."""
    own = prepared()
    model = build_deploy(own.config, own.form)
    set_deploy_weights(model, own.static_weights)
    return logits_of(model)


# Names


def expected_blocks():
    """Block → part of the tiny network."""
    blocks = {"visual/stem": "ResNet", "audio/stem": "ConvNeXt"}
    blocks |= {f"visual/stage{level}/block0": "ResNet" for level in range(4)}
    blocks |= {f"audio/stage{level}/block0": "ConvNeXt" for level in range(4)}
    blocks |= {f"audio/stage{level}/downsample": "ConvNeXt" for level in range(1, 4)}
    return blocks | {"fusion/attention": "attention", "fusion/head": "head"}


def test_every_tensor_and_weight_is_in_one_block():
    own = prepared()
    names = list(own.ranges)
    assert {block: part_of(block) for block in map(block_of, names)} == expected_blocks()
    assert set(map(block_of, own.weights)) == expected_blocks().keys()
    for name in [*names, *own.weights]:
        block = block_of(name)
        starts = {own for own in expected_blocks() if name.startswith(f"{own}/") or name == own}
        assert starts <= {block}, name
    assert {name for name in names if block_of(name) == "visual/stem"} == {"skeleton", "visual/stem"}
    assert "audio" in {name for name in names if block_of(name) == "audio/stem"}
    head = {name for name in [*names, *own.weights] if block_of(name) == "fusion/head"}
    assert {"logits", "fusion/pool", "fusion/norm/mean", "fusion/classifier/kernel"} <= head
    assert not [name for name in head if name.startswith(("fusion/query", "fusion/output", "fusion/add"))]


def test_blocks_with_two_digits_are_others():
    assert block_of("audio/stage2/block10/gelu") == "audio/stage2/block10"
    assert block_of("audio/stage2/block1/gelu") == "audio/stage2/block1"


def test_patterns_cover_their_block_and_nothing_else():
    names = [name for name in prepared().ranges if name not in ("skeleton", "audio")]
    for block in expected_blocks():
        recipe = STATIC_WI8_AI8.with_exceptions(tuple(pattern_of(block, names).split(",")))
        assert [n for n in names if recipe.is_exception(n)] == [n for n in names if block_of(n) == block], block


# Noise


def test_noise_is_shared_out():
    found = analysis()
    assert found.recordings == 5
    assert [own.name for own in found.tensors] == list(observed_deploy_names())
    assert {own.name: own.part for own in found.blocks} == expected_blocks()
    assert all(own.block == block_of(own.name) for own in found.tensors)
    assert sum(own.share for own in found.blocks) == pytest.approx(1)
    shares = [own.share for own in found.blocks]
    assert shares == sorted(shares, reverse=True)
    assert [own.logits_snr_db for own in found.blocks] == sorted(own.logits_snr_db for own in found.blocks)
    parts = found.by_part()
    assert tuple(parts) == PARTS
    assert sum(parts.values()) == pytest.approx(1)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["parts"] == pytest.approx(parts)
    assert document["blocks"][0]["name"] == found.blocks[0].name


def observed_deploy_names():
    own = prepared()
    return observed_deploy(own.config, own.form, own.weights).names


def test_logits_are_compared_with_everything_quantized():
    own = prepared()
    quantized = quantized_deploy(own.config, own.form, round_weights(own.static_weights), own.ranges)
    found = snr_db(exact_logits(), logits_of(quantized))
    assert analysis().logits_snr_db == pytest.approx(found, abs=SAME_SNR_DB)
    assert analysis().tensors[-1] == TensorNoise("logits", "fusion/head", analysis().logits_snr_db)


def test_the_reference_is_the_float_model_as_trained():
    """Only kernels are rounded here, for their noise is what corrected biases take away."""
    own = replace(prepared(), ranges={})
    model = build_deploy(own.config, own.form)
    set_deploy_weights(model, own.weights)
    exact = logits_of(model)
    set_deploy_weights(model, round_weights(own.static_weights))
    assert analyze(own, held_out()).logits_snr_db == pytest.approx(snr_db(exact, logits_of(model)), abs=0.05)


def test_a_block_alone_is_compared_with_the_float_model():
    """Against a graph in which nothing else has a range or a rounded kernel."""
    own, block = prepared(), "fusion/attention"
    rounded = round_weights(own.static_weights)
    weights = {name: (rounded if block_of(name) == block else own.static_weights)[name] for name in rounded}
    ranges = {name: limits for name, limits in own.ranges.items() if block_of(name) == block}
    alone = logits_of(quantized_deploy(own.config, own.form, weights, ranges))
    found = next(entry for entry in analysis().blocks if entry.name == block)
    expected = snr_db(exact_logits(), alone)
    assert found.logits_snr_db == pytest.approx(expected, abs=SAME_SNR_DB)


def test_the_same_twice_and_a_block_with_wide_ranges_comes_first():
    before = {name: value.copy() for name, value in prepared().static_weights.items()}
    again = analyze(prepared(), held_out())
    assert again == analysis()
    quietest = next(own.name for own in reversed(analysis().blocks) if own.name.startswith("visual/stage"))
    ranges = {
        name: (50 * low, 50 * high) if block_of(name) == quietest else (low, high)
        for name, (low, high) in prepared().ranges.items()
    }
    first = analyze(replace(prepared(), ranges=ranges), held_out()).blocks[0]
    assert first.name == quietest
    assert all(np.array_equal(before[name], prepared().static_weights[name]) for name in before)


# Output


def made_up(count):
    """An analysis of `count` blocks in all parts."""
    names = ["fusion/attention", "fusion/head", "audio/stem", *(f"visual/stage0/block{i}" for i in range(count - 3))]
    return Analysis(
        recordings=7,
        logits_snr_db=23.4,
        blocks=tuple(BlockNoise(name, part_of(name), 30.0 + i, 1 / count, name) for i, name in enumerate(names)),
        tensors=tuple(TensorNoise(f"{name}/x", name, 200.0 - i) for i, name in enumerate(names)),
    )


@pytest.mark.parametrize("count", [4, 40])
def test_a_table_and_a_picture_of_few_and_of_many_blocks(count, tmp_path):
    table = analysis_table(made_up(count))
    lines = table.splitlines()
    assert lines[0] == "INT8 against float on 7 recordings, logits' SNR 23.4 dB"
    assert len([line for line in lines if line.startswith("visual/stage0/block")]) == min(count, 12) - 3
    assert [line.split()[0] for line in lines[-4:]] == list(PARTS)
    assert lines[-1].split()[-3:] == ["fusion/head/x", "199.0", "dB"]
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


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--calibration", "0"], 2, "--calibration is 0; use a positive number"),
        (["--recordings", "-3"], 2, "--recordings is -3; use a positive number"),
        (["--recordings", "few"], 2, "invalid int value: 'few'"),
        (["--workers", "-1"], 2, "workers is -1"),
        (["--seed", "-1"], 2, "--seed is -1"),
        (["--calibrate-by", "entropy"], 2, "invalid choice: 'entropy'"),
        (["--form", "sparse"], 2, "invalid choice: 'sparse'"),
        (["--checkpoint", "missing.npz"], 4, "missing.npz does not exist"),
        (["--data", "missing"], 4, "missing"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(recordings_folder, tmp_path, capsys, options, code, message):
    out = tmp_path / "out"
    assert main(["analyze", "--data", str(recordings_folder), "--out", str(out), *options]) == code
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.count("\n") == 1
    assert message in said
    assert not Path(out).exists()
