"""The search for a recipe: its decisions on made-up losses, and one pass over real files of the tiny recogniser."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from kit.tiny import tiny_config, tiny_spec

from export import search as module
from export.__main__ import main
from export.artifact import ExportRequest, export_artifact, write_model
from export.search import Budget, Candidate, Comparison, search
from export.targets import TARGETS
from model.checkpoint import Checkpoint
from model.recogniser import build_recogniser
from preprocess.errors import AnswerIsNo
from quantize.prepare import CalibrationOptions, prepare
from quantize.recipes import STATIC_WI8_AI8
from recordings.actions import class_indices
from recordings.batches import Batch
from recordings.calibration import CalibrationSet
from recordings.catalogue import scan
from recordings.sources import DataSource
from runtime.manifest import Label, read_artifact

HEAD = "fusion/norm,fusion/pool,logits"
PATTERNS = ["visual/stage3/block0*", HEAD, *(f"audio/stage2/block{i}*" for i in range(18))]
MINUTE_S = 60.0


class MadeUp:
    """Stands for conversion, measurement and clock: one minute for every recipe, losses by the number of float blocks.

    Attributes:
        counts: blocks in float of every recipe tried, −1 for dynamic quantization.
        analyses: how often the blocks were ranked.
    """

    def __init__(self, monkeypatch, drop, latency, dynamic_drop):
        self._drop, self._latency, self._dynamic_drop = drop, latency, dynamic_drop
        self.counts: list[int] = []
        self.analyses = 0
        self._now_s = 1000.0
        monkeypatch.setattr(module, "_try", self._try)
        monkeypatch.setattr(module, "analyze", self._analyze)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self._now_s))

    def _analyze(self, prepared, samples):
        self.analyses += 1
        return SimpleNamespace(blocks=[SimpleNamespace(pattern=pattern) for pattern in PATTERNS])

    def _try(self, recipe, write, file_format, comparison, tried):
        if recipe.name == "dynamic_wi8_afp32":
            count, drop = -1, self._dynamic_drop
        else:
            count = next(n for n in range(len(PATTERNS)) if ",".join(PATTERNS[:n]) == ",".join(recipe.exceptions))
            drop = self._drop(count)
        self.counts.append(count)
        self._now_s += MINUTE_S
        tried[recipe.name] = Candidate(recipe.name, drop, self._latency(count), 1)
        return tried[recipe.name]


@pytest.fixture
def made_up(monkeypatch):
    def prepared(drop, latency=lambda count: 10.0 + count, dynamic_drop=99.0):
        return MadeUp(monkeypatch, drop, latency, dynamic_drop)

    return prepared


def run(max_drop_points=1.0, minutes=1000.0):
    calibration = SimpleNamespace(head=lambda count: None)
    return search(None, None, "tflite", None, calibration, Budget(max_drop_points, minutes * MINUTE_S))


def mixed(count):
    return STATIC_WI8_AI8.with_exceptions(tuple(",".join(PATTERNS[:count]).split(",")) if count else ())


@pytest.mark.parametrize("drop_points", [-0.5, 0.0, 1.0])
def test_full_int8_is_taken_when_it_holds_and_nothing_is_ranked(made_up, drop_points):
    fake = made_up(lambda count: drop_points)
    recipe, tried = run(max_drop_points=1.0)
    assert recipe == STATIC_WI8_AI8
    assert [own.recipe for own in tried] == ["static_wi8_ai8"]
    assert fake.analyses == 0


@pytest.mark.parametrize("needed", range(1, 9))
def test_smallest_number_of_float_blocks_is_found_by_halving(made_up, needed):
    fake = made_up(lambda count: 0.5 if count >= needed else 3.0)
    recipe, tried = run()
    assert recipe == mixed(needed)
    assert fake.analyses == 1
    doubled = [0, *(n for n in (1, 2, 4, 8) if n < 2 * needed)]
    assert fake.counts[: len(doubled)] == doubled
    # Halving the gap between the last two takes as many steps as it has bits.
    assert len(fake.counts) == len(set(fake.counts)) <= len(doubled) + max(doubled[-1] // 2, 1).bit_length() - 1
    assert {own.recipe for own in tried} == {mixed(n).name for n in fake.counts}


def test_fastest_of_those_within_is_taken_though_more_blocks_are_float(made_up):
    """Conversions at the borders cost time: four blocks in float can be faster than three."""
    latencies_ms = {0: 9.0, 1: 9.1, 2: 9.2, 3: 12.0, 4: 11.0}
    fake = made_up(lambda count: 0.0 if count >= 3 else 2.0, latencies_ms.get)
    assert run()[0] == mixed(4)
    assert sorted(fake.counts) == [0, 1, 2, 3, 4]


def test_fast_recipe_beyond_the_budget_is_not_taken(made_up):
    made_up(lambda count: 2.0 - count, lambda count: 1.0 + 10 * count)
    assert run(max_drop_points=1.0)[0] == mixed(1)


def test_dynamic_quantization_is_the_last_resort(made_up):
    fake = made_up(lambda count: 7.0, dynamic_drop=0.2)
    assert run()[0].name == "dynamic_wi8_afp32"
    # No more than half of the blocks in float.
    assert fake.counts == [0, 1, 2, 4, 8, -1]


def test_nothing_within_the_budget_is_answered_in_one_line(made_up):
    made_up(lambda count: 7.0 - count / 2, dynamic_drop=4.25)
    with pytest.raises(AnswerIsNo) as caught:
        run(max_drop_points=0.5)
    assert caught.value.exit_code == 1
    message = str(caught.value)
    assert "\n" not in message
    assert "within 0.5 points" in message
    assert f"the closest, {mixed(8).name}, loses 3.00" in message
    assert "among 6" in message


@pytest.mark.parametrize(("minutes", "counts"), [(0.5, [0]), (1.5, [0, 1]), (3.5, [0, 1, 2, 4])])
def test_nothing_new_is_tried_after_the_time_limit(made_up, minutes, counts):
    """A recipe that was begun in time is finished; the last resort is not tried either."""
    fake = made_up(lambda count: 7.0, dynamic_drop=0.0)
    with pytest.raises(AnswerIsNo, match=f"among {len(counts)} in {minutes:g} min"):
        run(minutes=minutes)
    assert fake.counts == counts


def test_what_held_before_the_time_limit_is_taken(made_up):
    fake = made_up(lambda count: 0.0 if count >= 5 else 2.0)
    assert run(minutes=4.5)[0] == mixed(8)
    assert fake.counts == [0, 1, 2, 4, 8]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-drop", "1", "--int8"], "leave out --int8 and --recipe"),
        (["--max-drop", "1", "--recipe", "float32"], "leave out --int8 and --recipe"),
        (["--max-drop", "-0.5"], "--max-drop is -0.5"),
        (["--max-drop", "1", "--time-limit", "0"], "--time-limit 0"),
        (["--max-drop", "1", "--init", "random"], "needs trained weights"),
        (["--max-drop", "little"], "invalid float value"),
    ],
)
def test_wrong_use_gets_one_line_and_exit_code_2(words, message, capsys, tmp_path):
    for file_format in ("tflite", "onnx"):
        assert main([file_format, *words, "--out", str(tmp_path / "a")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Real files


def test_blocks_that_the_analysis_ranks_become_float_in_real_files(monkeypatch):
    """The truth is what the float model says, so that no recipe can gain: every step of the search is taken."""
    ranked = module.analyze

    def four_blocks(*arguments):
        analysis = ranked(*arguments)
        return replace(analysis, blocks=analysis.blocks[:4])

    monkeypatch.setattr(module, "analyze", four_blocks)
    config = tiny_config(norm="batch", spec=tiny_spec(side=40))
    recogniser = build_recogniser(config, seed=3)
    rng = np.random.default_rng(0)
    skeleton = rng.random((8, *config.spec.skeleton.shape), dtype=np.float32)
    audio = rng.standard_normal((8, *config.spec.audio.shape), dtype=np.float32)
    calibration = CalibrationSet(tuple("abcdefgh"), np.zeros(8, np.int32), skeleton, audio, 0)
    options = CalibrationOptions("minmax", correct_biases=False)
    own = prepare(config, recogniser.weights(), TARGETS["x86"].form, calibration, options)
    labels = recogniser.fused([skeleton, audio]).numpy().argmax(axis=1).astype(np.int32)

    class Loader:
        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def epoch(self, number):
            yield Batch(skeleton, audio, labels, calibration.names)

    rounded, folders = [], set()

    def write(recipe, path):
        write_model(own, recipe, "x86", path)
        folders.add(path.parent)
        if recipe.static:
            rounded.append(sum(n.op_type == "QuantizeLinear" for n in onnx.load(path).graph.node))

    with pytest.raises(AnswerIsNo, match="among 4"):
        search(own, write, "onnx", Comparison(recogniser, "fused", Loader, 8), calibration, Budget(-1.0, 3600))
    assert len(rounded) == 3
    assert all(more > fewer for more, fewer in itertools.pairwise(rounded))
    assert not any(folder.exists() for folder in folders)


def test_manifest_says_what_was_searched(tmp_path, recordings_folder):
    refs = scan(recordings_folder).refs
    labels = tuple(Label(f"A{number:03d}", f"action {number}") for number in sorted({ref.action for ref in refs}))
    config = tiny_config(labels=labels, norm="batch", spec=tiny_spec(side=40))
    assert set(class_indices(refs, [label.code for label in labels]).tolist()) == set(range(16))
    recogniser = build_recogniser(config, seed=3)
    request = ExportRequest(
        name="tiny",
        file_format="onnx",
        recipe=STATIC_WI8_AI8,
        stream="fused",
        budget=Budget(max_drop_points=100.0, time_limit_s=600.0),
        target="arm",
        calibration=CalibrationOptions(method="percentile"),
        checkpoint=Checkpoint(config, recogniser.weights(), {}),
        origin={"name": "random", "sha256": ""},
        random_weights=True,
        calibration_count=16,
        held_out_count=16,
        command="",
    )
    source = DataSource(recordings_folder, workers=0)
    start = time.monotonic()
    manifest, _ = export_artifact(request, source, tmp_path / "a", force=False)
    assert read_artifact(tmp_path / "a")[0] == manifest
    assert (manifest.target, manifest.recipe) == ("arm", "static_wi8_ai8")
    assert manifest.search is not None
    assert (manifest.search["max_drop_points"], manifest.search["time_limit_s"]) == (100.0, 600.0)
    (tried,) = manifest.search["tried"]
    assert tried["recipe"] == "static_wi8_ai8"
    assert 0 < tried["latency_ms"] < 1e3 * (time.monotonic() - start)
    assert tried["size_bytes"] > 1000
    assert manifest.calibration is not None
    assert (manifest.calibration["method"], manifest.calibration["size"]) == ("percentile", 16)
