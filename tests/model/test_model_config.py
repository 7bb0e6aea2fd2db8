"""The configuration: presets, JSON round trip, and what it refuses."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.tiny import THREE_LABELS, model_configs, tiny_config

from model.config import (
    ConvNeXtStage,
    FusionConfig,
    ModelConfig,
    convnext,
    preset_config,
    resnet,
)
from preprocess.errors import DataError
from preprocess.spec import PreprocessSpec
from runtime.manifest import Label


def test_paper_is_the_published_network_and_nano_has_its_depths():
    nano, paper = (preset_config(name, THREE_LABELS) for name in ("nano", "paper"))
    assert (paper.visual, paper.audio) == (resnet(50), convnext())
    assert paper.fusion == FusionConfig(256, 256, heads=4, key_dim=64, value_dim=64)
    assert paper.spec == PreprocessSpec()
    assert [len(s.inner) for s in nano.visual.stages] == [len(s.inner) for s in paper.visual.stages] == [3, 4, 6, 3]
    assert [len(s.expanded) for s in nano.audio.stages] == [len(s.expanded) for s in paper.audio.stages] == [3, 3, 9, 3]
    assert nano.fusion.heads == paper.fusion.heads
    assert (nano.spec.skeleton.shape, nano.spec.audio.shape) == ((96, 96, 31), (64, 192, 3))


@given(model_configs())
@example(preset_config("nano", (*THREE_LABELS, Label("A004", "naïve 動作")), audio_norm="batch"))
@example(preset_config("paper", THREE_LABELS, visual_depth=18))
def test_json_round_trip_of_any_widths(config):
    assert ModelConfig.from_dict(json.loads(config.to_json())) == config


def changed(path: str, value: object) -> dict:
    document = json.loads(tiny_config().to_json())
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    inner = document
    for key in way:
        inner = inner[key]
    inner[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec.audio.colour", 1, "colour"),
        ("spec", None, "specification must be"),
        ("version", 2, "configuration version is 2; this release reads 1"),
        ("visual.stem", 0, r"ResNet width is \[0\]"),
        ("visual.stride_on", "5x5", "stride_on is '5x5'; it must be one of 3x3, 1x1"),
        ("visual.stages.1.inner", [], r"number of ResNet blocks by stage is \[1, 0, 1, 1\]"),
        ("visual.stages.1.inner", [[4]], "ResNet inner widths"),
        ("visual.stages.1.inner", [[4, -1]], r"ResNet width is \[-1\]"),
        ("audio.stages", [], r"number of ConvNeXt blocks by stage is \[\]"),
        ("audio.layer_scale_init", math.nan, "layer_scale_init is nan"),
        ("fusion.heads", 0, r"fusion width is \[0\]"),
        ("spec.skeleton.size", 2, "size is 2"),
        ("labels", [{"code": "A001", "name": "alone"}], "number of classes is 1"),
        ("labels.1.code", "A001", "every class must have its own code"),
    ],
)
def test_a_value_that_cannot_work_is_named(path, value, message):
    with pytest.raises(DataError, match=message):
        ModelConfig.from_dict(changed(path, value))


def places(node: object, path: tuple = ()) -> list[tuple]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


DOCUMENT = json.loads(tiny_config().to_json())
ODD = st.sampled_from([None, True, False, "", "x", [], {}, [[]]])
JSON_VALUE = ODD | st.integers(-2, 5) | st.floats()


@given(st.sampled_from(places(DOCUMENT)), JSON_VALUE)
def test_any_damage_is_a_data_error_or_another_valid_configuration(place, value):
    document = {"top": copy.deepcopy(DOCUMENT)}
    inner = document
    for key in ("top", *place)[:-1]:
        inner = inner[key]
    inner[("top", *place)[-1]] = value
    try:
        config = ModelConfig.from_dict(document["top"])
    except DataError:
        return
    assert ModelConfig.from_dict(json.loads(config.to_json())) == config


def test_backbones_have_their_published_names_and_others_are_refused():
    assert [resnet(depth, width=1 / 8).name for depth in (18, 34, 50)] == ["ResNet-18", "ResNet-34", "ResNet-50"]
    audio = convnext((8, 16, 24, 32))
    assert audio.name == "ConvNeXt-T"
    assert replace(audio, stages=(*audio.stages[:3], ConvNeXtStage(8, (32,)))).name == "ConvNeXt 3-3-9-1"
    with pytest.raises(DataError, match="preset 'micro' does not exist"):
        preset_config("micro", THREE_LABELS)
    with pytest.raises(DataError, match="ResNet depth is 101; use 18, 34 or 50"):
        resnet(101)
