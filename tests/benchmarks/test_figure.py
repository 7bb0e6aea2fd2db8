"""The picture of one recording: probabilities of the streams, and the drawing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from kit.tiny_artifact import SPEC, expected_logits, write_artifact, write_onnx

from benchmarks.__main__ import main
from benchmarks.studies.figure import STREAMS, probabilities
from recordings.catalogue import scan
from recordings.reading import read_recording
from recordings.recording import preprocess_recording
from runtime.artifact import Artifact


@pytest.fixture
def streams(tmp_path):
    """The three streams of a tiny model as `export_streams` keeps them."""
    folder = tmp_path / "streams"
    for stream, names in {"visual": ("skeleton",), "audio": ("audio",), "fused": ("skeleton", "audio")}.items():
        (folder / stream).mkdir(parents=True)
        write_onnx(folder / stream / "model.onnx", names)
        write_artifact(folder / stream, "model.onnx", names=names)
        manifest = json.loads((folder / stream / "manifest.json").read_text())
        manifest["labels"] = [{"code": f"A{i:03d}", "name": f"action {i}"} for i in (1, 3, 8)]
        (folder / stream / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_probabilities_are_the_softmax_of_the_logits(streams, recordings_folder):
    ref = scan(recordings_folder).refs[0]
    recording = read_recording(ref, sample_rate_hz=SPEC.audio.sample_rate_hz)
    raw = {name: getattr(recording, name) for name in ("joints", "confidence", "waveform")}
    logits = expected_logits(raw)
    result = probabilities(Artifact.open(streams / "fused"), preprocess_recording(recording, SPEC))
    assert result.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.log(result / result.max()), logits - logits.max(), rtol=1e-4)


def test_figure(streams, recordings_folder, tmp_path, capsys):
    ref = next(ref for ref in scan(recordings_folder).refs if ref.action == 3)
    out = tmp_path / "picture.png"
    words = ["--data", str(recordings_folder), "--folder", str(streams), "--out", str(out)]
    assert main(["figure", "--recording", ref.name, *words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["truth"] == "action 3"
    assert list(document["answers"]) == list(STREAMS)
    for best in document["answers"].values():
        shares = [share for _, share in best]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_recording_is_named_before_anything_is_exported(recordings_folder, tmp_path, capsys):
    words = ["--data", str(recordings_folder), "--folder", str(tmp_path / "streams"), "--out", str(tmp_path / "a.png")]
    assert main(["figure", "--recording", "S999", *words]) == 2
    assert "no recording 'S999'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
