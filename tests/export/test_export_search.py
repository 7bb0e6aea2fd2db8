"""The search for a recipe: its decisions on made-up losses, then real files of the tiny recogniser."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnx
import pytest
from kit.networks import noise
from kit.tiny import tiny_config, tiny_spec

import export.pipeline as pipeline
from export.pipeline import convert_model, export
from export.plan import ExportPlan, ModelChoice
from export.search import Candidate, Trials, search
from export.targets import TARGETS
from model.checkpoint import Checkpoint
from model.evaluation import keras_model
from model.recogniser import build_recogniser
from preprocess.errors import AnswerIsNo, UsageError
from quantize.gate.paired import MaxDrop, PairedDrop
from quantize.prepare import CalibrationOptions, prepare
from quantize.recipes import STATIC_WI8_AI8, parse_recipe
from recordings.batches import Batch
from recordings.catalogue import scan
from recordings.sources import DataSource
from runtime.manifest import Label, read_artifact

HEAD = "fusion/norm,fusion/pool,logits"
PATTERNS = ["visual/stage3/block0*", HEAD, *(f"audio/stage2/block{i}*" for i in range(18))]
MINUTE_S = 60.0
COUNT = 100_000  # recordings: so many that an interval is hardly wider than its point
DYNAMIC = "dynamic_wi8_afp32"


class MadeUp:
    """Losses by the number of float blocks; every recipe takes a minute of a clock that stands still otherwise.

    Attributes:
        counts: float blocks of every recipe tried, −1 for dynamic quantization.
        rankings: how often the blocks were ranked.
    """

    def __init__(self, points, latency_ms=lambda count: 10.0 + count, dynamic_points=99.0):
        self._points, self._latency_ms, self._dynamic_points = points, latency_ms, dynamic_points
        self.counts: list[int] = []
        self.rankings = 0

    def clock(self):
        return MINUTE_S * len(self.counts)

    def rank(self):
        self.rankings += 1
        return PATTERNS

    def attempt(self, recipe):
        count = -1 if recipe.name == DYNAMIC else next(n for n in range(20) if mixed(n) == recipe)
        self.counts.append(count)
        points = self._dynamic_points if count < 0 else self._points(count)
        lost, gained = (max(0, round(sign * points * COUNT / 100)) for sign in (1, -1))
        return Candidate(recipe, PairedDrop(lost, gained, COUNT, 0.95), self._latency_ms(count), 1)

    def search(self, points=1.0, minutes=1000.0):
        chosen, tried = search(self.attempt, self.rank, MaxDrop(points), minutes * MINUTE_S, clock=self.clock)
        assert [candidate.recipe for candidate in tried] == [
            parse_recipe(DYNAMIC) if count < 0 else mixed(count) for count in self.counts
        ]
        return chosen.recipe


def mixed(count):
    return STATIC_WI8_AI8.with_exceptions(tuple(",".join(PATTERNS[:count]).split(",")) if count else ())


@pytest.mark.parametrize("points", [-0.5, 0.0, 0.9])
def test_full_int8_is_chosen_if_it_holds_and_nothing_is_ranked(points):
    fake = MadeUp(lambda count: points)
    assert fake.search(1.0) == STATIC_WI8_AI8
    assert (fake.counts, fake.rankings) == ([0], 0)


@pytest.mark.parametrize("needed", range(1, 9))
def test_smallest_number_of_float_blocks_is_found_by_halving(needed):
    fake = MadeUp(lambda count: 0.5 if count >= needed else 3.0)
    assert fake.search() == mixed(needed)
    assert fake.rankings == 1
    doubled = [0, *(n for n in (1, 2, 4, 8) if n < 2 * needed)]
    assert fake.counts[: len(doubled)] == doubled
    # Halving the gap between the last two takes as many steps as it has bits.
    assert len(fake.counts) == len(set(fake.counts)) <= len(doubled) + max(doubled[-1] // 2, 1).bit_length() - 1


def test_the_upper_end_of_the_interval_decides():
    """0.99 points are lost, but up to 1.05 cannot be excluded: no different from `quantize check`."""
    fake = MadeUp(lambda count: 0.99 if count == 0 else 0.9)
    assert fake.search(1.0) == mixed(1)


def test_the_fastest_within_the_budget_is_chosen_although_more_blocks_are_float():
    """Conversions at the borders cost time: four blocks in float can be faster than three."""
    latencies_ms = {0: 9.0, 1: 9.1, 2: 9.2, 3: 12.0, 4: 11.0}
    fake = MadeUp(lambda count: 0.0 if count >= 3 else 2.0, latencies_ms.get)
    assert fake.search() == mixed(4)
    assert sorted(fake.counts) == [0, 1, 2, 3, 4]
    assert MadeUp(lambda count: 2.0 - 1.2 * count, lambda count: 1.0 + 10 * count).search() == mixed(1)


def test_dynamic_quantization_is_the_last_resort():
    fake = MadeUp(lambda count: 7.0, dynamic_points=0.2)
    assert fake.search().name == DYNAMIC
    # No more than half of the blocks in float.
    assert fake.counts == [0, 1, 2, 4, 8, -1]


def test_nothing_within_the_budget_is_answered_in_one_line():
    with pytest.raises(AnswerIsNo) as caught:
        MadeUp(lambda count: 7.0 - count / 2, dynamic_points=4.25).search(0.5)
    message = str(caught.value)
    assert "\n" not in message
    for fragment in ("within 0.5 points", "among 6", f"the closest: {mixed(8).name} loses 3.00 points ["):
        assert fragment in message


@pytest.mark.parametrize(("minutes", "counts"), [(0.5, [0]), (1.5, [0, 1]), (3.5, [0, 1, 2, 4])])
def test_no_recipe_is_begun_after_the_time_limit(minutes, counts):
    """A recipe that was begun in time is finished; the last resort is not tried either."""
    fake = MadeUp(lambda count: 7.0, dynamic_points=0.0)
    with pytest.raises(AnswerIsNo, match=f"among {len(counts)} in {minutes:g} min"):
        fake.search(minutes=minutes)
    assert fake.counts == counts


def test_a_recipe_that_held_before_the_time_limit_is_chosen():
    fake = MadeUp(lambda count: 0.0 if count >= 5 else 2.0)
    assert fake.search(minutes=4.5) == mixed(8)
    assert fake.counts == [0, 1, 2, 4, 8]


# Real files


def test_trials_ask_the_float_model_once_and_put_ranked_blocks_back_into_float(tmp_path):
    config = tiny_config(norm="batch", spec=tiny_spec(side=40))
    recogniser = build_recogniser(config, seed=3)
    samples = noise(config, 8)
    prepared = prepare(
        config, recogniser.weights(), TARGETS["x86"].form, samples, CalibrationOptions("minmax", correct_biases=False)
    )
    float_model, asked, read = keras_model(recogniser), [], []
    labels = float_model({"skeleton": samples.skeleton, "audio": samples.audio}).argmax(axis=1).astype(np.int32)

    def counted(tensors):
        asked.append(len(tensors["audio"]))
        return float_model(tensors)

    def batches():
        for part in (slice(0, 5), slice(5, 8)):
            read.append(part)
            yield Batch(samples.skeleton[part], samples.audio[part], labels[part], samples.names[part])

    def convert(recipe, path):
        convert_model(prepared, recipe, TARGETS["x86"], path)

    trials = Trials(convert, "onnx", counted, batches(), recordings=8, folder=tmp_path)
    recipes = [STATIC_WI8_AI8, parse_recipe("static_wi8_ai8+fp32(visual/*)"), parse_recipe("static_wi8_ai8+fp32(*)")]
    candidates = [trials(recipe) for recipe in recipes]
    assert (asked, len(read)) == ([5, 3], 2)
    rounded = [
        sum(node.op_type == "QuantizeLinear" for node in onnx.load(trials.path(recipe)).graph.node)
        for recipe in recipes
    ]
    assert all(more > fewer for more, fewer in itertools.pairwise(rounded))
    for candidate in candidates:
        assert candidate.size_bytes == trials.path(candidate.recipe).stat().st_size
        assert candidate.latency_ms > 0
        # The true classes are those that the float model chooses.
        assert (candidate.drop.count, candidate.drop.gained) == (8, 0)
    assert candidates[-1].drop.lost == 0


@pytest.fixture
def tiny_plan(recordings_folder):
    """A search of the tiny recogniser, for its classes."""
    labels = tuple(Label(f"A{n:03d}", f"action {n}") for n in sorted({r.action for r in scan(recordings_folder).refs}))
    config = tiny_config(labels=labels, norm="batch", spec=tiny_spec(side=40))
    return ExportPlan(
        name="tiny",
        model=ModelChoice("onnx", TARGETS["arm"], STATIC_WI8_AI8, "fused", MaxDrop(99.0), 600.0),
        checkpoint=Checkpoint(config, build_recogniser(config, seed=3).weights(), {}),
        origin={"name": "random", "sha256": ""},
        calibration=CalibrationOptions(method="percentile"),
        calibration_count=16,
        held_out_count=24,
        command="",
    )


def test_the_chosen_file_is_the_artifact_s_and_other_recordings_certify_it(
    tmp_path, recordings_folder, tiny_plan, monkeypatch
):
    source, drawn, written = DataSource(recordings_folder, workers=0), [], []
    draw, write = DataSource.draw_with_selection, pipeline.convert_model
    monkeypatch.setattr(DataSource, "draw_with_selection", lambda *a, **k: drawn.append(draw(*a, **k)) or drawn[-1])

    def converted(prepared, recipe, target, path):
        write(prepared, recipe, target, path)
        written.append(path.read_bytes())

    monkeypatch.setattr(pipeline, "convert_model", converted)
    manifest, verification = export(tiny_plan, source, tmp_path / "a", force=False)
    assert read_artifact(tmp_path / "a")[0] == manifest
    assert (manifest.target, manifest.recipe) == ("arm", "static_wi8_ai8")
    # Converted once: the file that was tried is the artifact's.
    assert written == [(tmp_path / "a" / "model.onnx").read_bytes()]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    ((calibration, selection, held_out),) = drawn
    names = [*calibration.names, *(ref.name for ref in (*selection, *held_out))]
    assert len(names) == len(set(names)) == 64
    assert (verification.recordings, manifest.search["recordings"]) == (24, 24)
    assert (manifest.search["max_drop_points"], manifest.search["time_limit_s"]) == (99.0, 600.0)
    (tried,) = manifest.search["tried"]
    assert (tried["recipe"], tried["size_bytes"]) == ("static_wi8_ai8", manifest.size_bytes)
    assert tried["interval_points"][0] <= tried["drop_points"] <= tried["interval_points"][1] < 99
    assert manifest.calibration is not None
    assert (manifest.calibration["method"], manifest.calibration["size"]) == ("percentile", 16)


def test_too_few_recordings_for_both_sets_are_refused(tmp_path, recordings_folder, tiny_plan):
    """48 are left after calibration, 24 for each set: 13.8 points could be lost unnoticed."""
    model = replace(tiny_plan.model, max_drop=MaxDrop(13.0))
    source = DataSource(recordings_folder, workers=0)
    with pytest.raises(UsageError, match="on 24 recordings"):
        export(replace(tiny_plan, model=model, held_out_count=1000), source, tmp_path / "a", force=False)
    assert list(tmp_path.iterdir()) == []
