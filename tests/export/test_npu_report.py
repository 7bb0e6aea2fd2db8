"""Reports of compiled files, and requests that fail: no compiler is needed for these."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from kit.fakes import make_manifest

from console.strict_json import decode
from export import npu_compile, npu_litert
from export.__main__ import main
from export.npu_compile import Compiled, Emulated, chips_table
from preprocess.errors import DataError, MissingComponentError
from quantize.__main__ import main as quantize
from runtime import npu
from runtime.manifest import Manifest
from runtime.npu import Placement
from runtime.npu_chips import CURRENT, SNAPDRAGONS, check_chip, compiled_for

FULL = Placement(186, 186, 1, (), {"QNNExecutionProvider": 1})
PART = Placement(
    185, 186, 2, ("fusion/norm (LayerNormalization)",), {"QNNExecutionProvider": 2, "CPUExecutionProvider": 1}
)


def binary(*chips: str) -> bytes:
    """The settings that the compiler stores among its instructions."""
    return b"\x00\xff".join(f"dump=false;{chip};num_nsps=1;".encode() for chip in chips)


# The chip in the binary


def test_the_chip_is_the_one_that_every_graph_of_the_binary_states():
    content = binary("soc_type=SM8650;arch=75", "soc_type=SM8650;arch=75")
    assert compiled_for(content) == ("SM8650", 75)
    assert check_chip(content, "SM8650") == 75
    # An older Hexagon's instructions run on a newer one, as the compiler does it for this chip.
    assert check_chip(binary("soc_type=SM8475;arch=68"), "SM8475") == 68


@pytest.mark.parametrize(
    ("content", "soc", "message"),
    [
        (binary("soc_type=SM8550;arch=73"), "SM8650", "is for SM8550, v73, not for SM8650"),
        (binary("soc_type=SM8650;arch=79"), "SM8650", "is for Hexagon v79, but SM8650 has v75"),
        (binary("soc_type=SM8250;arch=68"), "SM8250", "is for Hexagon v68, but SM8250 has v66"),
        (binary("soc_type=SM8650;arch=75", "soc_type=SM8750;arch=79"), "SM8650", "names SM8650, v75 and SM8750, v79"),
        (b"nothing", "SM8650", "names no chip"),
    ],
)
def test_a_binary_for_another_chip_is_refused(content, soc, message):
    with pytest.raises(DataError, match=re.escape(message)):
        check_chip(content, soc)


def test_chips_that_are_compiled_for_by_default_are_in_the_table():
    assert set(CURRENT) <= SNAPDRAGONS.keys()
    assert all(SNAPDRAGONS[soc].hexagon == f"v{SNAPDRAGONS[soc].arch}" for soc in SNAPDRAGONS)
    assert set(CURRENT) <= npu_litert.known_socs()


# The report


def compiled(placement: Placement, emulated: Emulated | None = None) -> Compiled:
    return Compiled("SM8650", "onnx", 1_430_000, 75, placement, emulated, ())


def test_the_table_names_what_stays_on_the_cpu():
    table = chips_table([compiled(FULL, Emulated(3, 3, 26.54)), compiled(PART)])
    rows = [re.split(r"  +", line) for line in table.splitlines()]
    assert rows[2] == ["SM8650 (8 Gen 3), onnx", "186 of 186", "1", "SM8650, v75", "1.43 MB", "3 of 3, 26.5 dB"]
    assert rows[3][1:] == ["185 of 186", "2", "SM8650, v75", "1.43 MB", "not run"]
    assert table.endswith("SM8650 onnx, on the CPU: fusion/norm (LayerNormalization)")
    names = tuple(f"node{i} (Add)" for i in range(11))
    assert chips_table([compiled(Placement(1, 12, 1, names, {}))]).endswith("node7 (Add) and 3 more")


def test_only_a_manifest_with_a_chip_has_the_field():
    with_chip = make_manifest(npu={"soc": "SM8650"})
    assert "npu" not in json.loads(make_manifest().to_json())
    assert Manifest.from_dict(json.loads(with_chip.to_json())) == with_chip


# What is missing


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(npu, "_PACKAGE", "no_such_package")
    monkeypatch.setattr(npu_litert, "_SDK", "no_such_package")


def one_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 3, 'pip install -e ".[npu]"'),
        (["--format", "onnx"], 3, 'pip install -e ".[npu]"'),
        (["--format", "tflite"], 3, "pip install ai-edge-litert-sdk-qualcomm"),
        (["--format", "tflite", "--qairt", "nowhere"], 3, "nowhere holds no libQnnHtp.so"),
        (["--soc", "SM9999"], 2, "invalid choice: 'SM9999'"),
        (["--soc", "SM8635", "--format", "tflite"], 2, "LiteRT's compiler does not know SM8635"),
        (["--recipe", "float32"], 2, "keeps float tensors"),
        (["--recipe", "static_wi8_ai16", "--format", "tflite"], 2, "does not exist for tflite"),
        (["--recipe", "w8a8"], 2, "is unknown"),
        (["--preset", "paper"], 2, "needs --init random"),
    ],
)
def test_impossible_requests_get_one_line(words, code, message, nothing_installed, capsys, tmp_path):
    assert main(["npu", *words, "--out", str(tmp_path / "a")]) == code
    assert message in one_line(capsys)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("a --backend qnn-htp", 3, 'pip install -e ".[npu]"'),
        ("a --backend qnn-htp --baseline b.json", 2, "--baseline does not go with --backend"),
        ("a --backend qnn-htp --int8-runtime onnxruntime", 2, "--int8-runtime does not go with --backend"),
        ("a --backend qnn-htp --min-cpu-agreement 98", 2, "--min-cpu-agreement: '98' is not a share"),
        ("a b", 2, "--int8 names 2 artifacts; without --backend name one"),
    ],
)
def test_impossible_checks_in_the_emulator_get_one_line(words, code, message, nothing_installed, capsys, tmp_path):
    assert quantize(["check", "--float", str(tmp_path), "--int8", *words.split()]) == code
    assert message in one_line(capsys)


# The command, with stand-ins for converter and compiler


@pytest.fixture
def converted(monkeypatch):
    """The placement that the compiler will return; conversion writes nothing."""
    placements: list[Placement] = []
    exported = (make_manifest(), SimpleNamespace(failures=()))
    monkeypatch.setattr(npu_compile, "require_emulator", lambda: None)
    monkeypatch.setattr("export.pipeline.export", lambda *_, **__: exported)
    monkeypatch.setattr(npu_compile, "compile_artifact", lambda *_, **__: compiled(placements[0], Emulated(3, 3, 26.5)))
    return placements


@pytest.mark.parametrize(
    ("placement", "words", "code"),
    [
        (FULL, [], 0),
        (FULL, ["--require-full"], 0),
        (PART, [], 0),
        (PART, ["--require-full"], 1),
        (replace(FULL, partitions=2), ["--require-full"], 1),
    ],
)
def test_require_full_makes_any_fallback_a_no(converted, placement, words, code, capsys, tmp_path):
    converted.append(placement)
    out = tmp_path / "out"
    assert main(["npu", "--format", "onnx", "--soc", "SM8650", "--out", str(out), *words]) == code
    shown = capsys.readouterr()
    assert ("fusion/norm (LayerNormalization)" in shown.out) == (placement is PART)
    assert f"{'all' if placement is FULL else 'NOT all'} of it on the NPU" in shown.out
    assert ("not entirely on the NPU in one piece: SM8650 onnx" in shown.err) == (code == 1)
    # The answer is no, but the files are there.
    (document,) = json.loads((out / "placement.json").read_text())["compiled"]
    assert document["placement"].pop("full") == (placement is FULL)
    assert decode(Placement, document["placement"], "placement") == placement


# Qualcomm's libraries


def test_a_folder_must_have_all_libraries_and_their_package_is_the_default(monkeypatch, tmp_path):
    package = SimpleNamespace(path_to_sdk_libs=lambda: tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(npu_litert.importlib.util, "find_spec", lambda name: name)
        patch.setitem(sys.modules, "ai_edge_litert_sdk_qualcomm", package)
        assert npu_litert.find_qairt(None) == npu_litert.Qairt(tmp_path, stand_in=False)
    for name in ("libQnnHtp.so", "libQnnSystem.so"):
        (tmp_path / name).touch()
    with pytest.raises(MissingComponentError, match=r"holds no libQnnLpai\.so; name the folder"):
        npu_litert.find_qairt(str(tmp_path))
    (tmp_path / "libQnnLpai.so").touch()
    assert npu_litert.find_qairt(str(tmp_path)) == npu_litert.Qairt(tmp_path.resolve())
