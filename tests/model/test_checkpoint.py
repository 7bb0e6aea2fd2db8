"""A checkpoint comes back bit by bit, or is refused; nothing in it is executed."""

from __future__ import annotations

import io
import json
import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kit.tiny import tiny_config

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from preprocess.errors import DataError

WEIGHTS = {
    "visual/stem/kernel": np.random.default_rng(0).normal(size=(7, 7, 3, 4)).astype(np.float32),
    "fusion/classifier/bias": np.array([0.0, -0.0, 1e-42, 3.4e38], np.float32),
}
CHECKPOINT = Checkpoint(tiny_config(), WEIGHTS, {"command": "python -m model train", "seed": 3, "σ": [1.5, None]})


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return (
        a.config == b.config
        and a.history == b.history
        and a.weights.keys() == b.weights.keys()
        and all(a.weights[name].tobytes() == value.tobytes() for name, value in b.weights.items())
        and all(a.weights[name].shape == value.shape for name, value in b.weights.items())
    )


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.npz", CHECKPOINT)
    return tmp_path / "checkpoint.npz"


def test_round_trip_is_bit_equal(path):
    assert same(load_checkpoint(path), CHECKPOINT)
    assert list(path.parent.iterdir()) == [path]
    with np.load(path, allow_pickle=False) as document:
        assert json.loads(document["config.json"].tobytes()) == json.loads(CHECKPOINT.config.to_json())


@given(
    st.dictionaries(
        st.text("abc/_0", min_size=1, max_size=8).filter(lambda name: name != "file"),
        hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, max_side=3)),
        max_size=4,
    )
)
def test_round_trip_of_any_float32(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("any") / "checkpoint.npz"
    checkpoint = Checkpoint(CHECKPOINT.config, weights, {})
    save_checkpoint(path, checkpoint)
    assert same(load_checkpoint(path), checkpoint)


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def text(string: str):
    return np.frombuffer(string.encode(), np.uint8)


CONFIG = text(CHECKPOINT.config.to_json())
FOREIGN = {
    "empty": (b"", "damaged or no file of arrays"),
    "other arrays": (archive(readme=text("no configuration")), "holds no config.json"),
    "no history": (archive(**{"config.json": CONFIG}), "holds no history.json"),
    "configuration is no JSON": (
        archive(**{"config.json": text("{"), "history.json": text("{}")}),
        "its configuration is not JSON",
    ),
    "configuration of another release": (
        archive(**{"config.json": text('{"version": 99}'), "history.json": text("{}")}),
        r"foreign\.npz: configuration version is 99; this release reads 1",
    ),
    "float64 weights": (
        archive(**{"config.json": CONFIG, "history.json": text("{}"), "w": np.ones(3)}),
        "weight 'w' is float64, not float32",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_file_is_refused(tmp_path, case):
    content, message = FOREIGN[case]
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_checkpoint(path)


def test_a_truncated_file_is_refused_wherever_it_ends(path):
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="damaged or no file of arrays"):
            load_checkpoint(path)


def test_a_flipped_byte_is_refused_or_changes_nothing(path):
    content, rng = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path)
        except DataError:
            refused += 1
        else:
            # The central directory and the local headers hold fields that are read by nobody, and names.
            assert same(loaded, CHECKPOINT) or loaded.weights.keys() != WEIGHTS.keys()
    assert refused > 300


class Bomb:
    def __reduce__(self):
        return (exec, ("open('executed', 'w').close()",))


@pytest.mark.parametrize("where", ["weight", "config.json", "whole file"])
def test_a_pickle_is_never_executed(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bomb.npz"
    bomb = np.array([Bomb()], dtype=object)
    parts = {"config.json": CONFIG, "history.json": text("{}"), "w": np.ones(3, np.float32)}
    if where == "whole file":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        path.write_bytes(archive(**parts | {"w" if where == "weight" else where: bomb}))
    with pytest.raises(DataError, match="damaged or no file of arrays"):
        load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_a_failed_save_leaves_the_old_file(path):
    with pytest.raises(TypeError):
        save_checkpoint(path, Checkpoint(CHECKPOINT.config, {}, {"when": object()}))
    assert same(load_checkpoint(path), CHECKPOINT)
