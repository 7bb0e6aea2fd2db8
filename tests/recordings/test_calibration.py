"""Calibration sets and the constants that standardise the audio input."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import DataError
from preprocess.logmel import waveform_to_logmel
from preprocess.spec import HeatmapSpec, LogMelSpec, PreprocessSpec
from recordings.calibration import audio_statistics, balanced_order, calibration_set
from recordings.catalogue import scan
from recordings.reading import read_recording
from recordings.sound import read_waveform

AUDIO = LogMelSpec(8000, window_samples=200, n_fft=256, hop_samples=80, n_mels=8, fmax_hz=4000, frames=32)
SPEC = PreprocessSpec(skeleton=HeatmapSpec(size=16, sigma_px=0.5), audio=AUDIO)
LABELS = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 7]


@pytest.fixture(scope="module")
def refs(recordings_folder):
    return scan(recordings_folder).refs[:12]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 2**32))
def test_any_beginning_of_the_order_is_balanced(labels, seed):
    order = balanced_order(labels, seed=seed)
    assert sorted(order) == list(range(len(labels)))
    available = Counter(labels)
    for count in range(1, len(order) + 1):
        drawn = Counter(labels[index] for index in order[:count])
        most = max(drawn.values())
        assert all(drawn[label] >= min(most - 1, available[label]) for label in available)


def test_samples_are_those_of_evaluation_with_their_own_labels(refs):
    samples = calibration_set(refs, LABELS, SPEC, count=6, seed=1, workers=0)
    by_name = {ref.name: (ref, label) for ref, label in zip(refs, LABELS, strict=True)}
    for index, name in enumerate(samples.names):
        ref, label = by_name[name]
        expected = read_recording(ref, sample_rate_hz=8000).tensors(SPEC)
        np.testing.assert_array_equal(samples.skeleton[index], expected["skeleton"][0])
        np.testing.assert_array_equal(samples.audio[index], expected["audio"][0])
        assert samples.labels[index] == label
    assert not samples.skeleton.flags.writeable


def test_the_hash_is_that_of_names_and_tensors_and_the_same_for_any_number_of_workers(refs):
    alone, helped = (calibration_set(refs, LABELS, SPEC, count=5, seed=2, workers=workers) for workers in (0, 2))
    text = "\n".join(alone.names) + "\n"
    content = text.encode() + alone.skeleton.astype("<f4").tobytes() + alone.audio.astype("<f4").tobytes()
    assert alone.sha256 == helped.sha256 == hashlib.sha256(content).hexdigest()
    assert replace(alone, audio=alone.audio + 1).sha256 != alone.sha256
    assert replace(alone, names=alone.names[::-1]).sha256 != alone.sha256
    others = [calibration_set(refs, LABELS, SPEC, count=5, seed=seed, workers=0).names for seed in (0, 1)]
    assert len({alone.names, *others}) == 3


@pytest.mark.parametrize(
    ("count", "classes"), [(7, {"0": 2, "1": 2, "2": 2, "7": 1}), (50, {"0": 6, "1": 3, "2": 2, "7": 1})]
)
def test_classes_take_turns_until_they_run_out_and_the_provenance_counts_them(refs, count, classes):
    samples = calibration_set(refs, LABELS, SPEC, count=count, seed=2, workers=0)
    provenance = {"sha256": samples.sha256, "size": min(count, 12), "class_counts": classes, "seed": 2}
    assert json.loads(json.dumps(samples.provenance())) == provenance


def test_an_unusable_recording_is_replaced_and_reported(refs, tmp_path, capsys):
    first = balanced_order(LABELS, seed=0)[0]
    damaged = list(refs)
    damaged[first] = replace(refs[first], skeleton_path=tmp_path / "none.skeleton")
    samples = calibration_set(damaged, LABELS, SPEC, count=5, seed=0, workers=0)
    assert len(samples.names) == 5
    assert refs[first].name not in samples.names
    assert "the calibration set leaves out 1 recording(s); the first: " in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_statistics_are_those_of_all_values_at_once(refs, workers):
    standardised = replace(SPEC, audio=replace(AUDIO, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0)))
    mean, std = audio_statistics(refs, standardised, workers=workers)
    tensors = [waveform_to_logmel(read_waveform(ref.audio_path, sample_rate_hz=8000), AUDIO) for ref in refs]
    values = np.concatenate(tensors).reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-9)
    replace(AUDIO, mean=mean, std=std)  # plain floats that the specification takes


def test_a_limit_takes_a_seeded_sample(refs):
    results = [audio_statistics(refs, SPEC, limit=3, workers=0, seed=seed) for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
    assert audio_statistics(refs, SPEC, limit=99, workers=0) == audio_statistics(refs, SPEC, workers=0, seed=5)


def test_recordings_without_sound_are_left_out_of_the_statistics_and_reported(refs, capsys):
    mute = [replace(refs[0], audio_path=None), *refs[1:]]
    assert audio_statistics(mute, SPEC, workers=0) == audio_statistics(refs[1:], SPEC, workers=0)
    assert "leave out 1 recording(s); the first: " in capsys.readouterr().err
    with pytest.raises(DataError, match="none of the 1 recordings can be used"):
        audio_statistics(mute[:1], SPEC, workers=0)


def test_constant_sound_has_no_usable_deviation(refs, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "silence.wav", np.zeros(8000), 8000)
    silent = replace(refs[0], audio_path=tmp_path / "silence.wav")
    with pytest.raises(DataError, match="the audio of all 1 recordings is constant"):
        audio_statistics([silent], SPEC, workers=0)
