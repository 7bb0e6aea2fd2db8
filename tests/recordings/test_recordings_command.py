"""`python -m recordings inspect`, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from kit.skeletons import msr_lines, msr_world, ntu_lines

from recordings.__main__ import main

RATE_HZ = 16_000


def write_sound(path: Path, seconds: float) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE_HZ))
    soundfile.write(path, noise, RATE_HZ, subtype="PCM_16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three NTU recordings (the third without a body in any frame) and one of MSR."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, frames, bodies in (
        ("S001C001P001R001A007", 20, 1),
        ("S001C002P001R001A007", 30, 2),
        ("S001C003P002R001A058", 10, 0),
    ):
        (folder / f"{name}.skeleton").write_text("\n".join(ntu_lines([list(range(bodies))] * frames)))
        write_sound(folder / f"{name}.wav", frames / 10)
    (folder / "a04_s09_e01_skeleton.txt").write_text("\n".join(msr_lines(msr_world([1] * 40))))
    write_sound(folder / "a04_s09_e01.wav", 4)
    return folder


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_counts_from_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "inspect", str(folder)) == {
        "folder": str(folder),
        "recordings": 4,
        "with_sound": 4,
        "formats": {"msr": 1, "ntu": 3},
        "actions": [
            {"format": "msr", "code": "a04", "name": "call cellphone", "recordings": 1},
            {"format": "ntu", "code": "A007", "name": "throw", "recordings": 2},
            {"format": "ntu", "code": "A058", "name": "handshaking", "recordings": 1},
        ],
        "subjects": [
            {"format": "msr", "subject": 9, "recordings": 1},
            {"format": "ntu", "subject": 1, "recordings": 2},
            {"format": "ntu", "subject": 2, "recordings": 1},
        ],
        "cameras": [{"camera": n, "recordings": 1} for n in (1, 2, 3)],
        "excluded": [],
        "problems": [],
    }


def test_full_reads_every_file_with_the_sound_in_another_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = folder.parent / "sound"
    sound.mkdir()
    for path in folder.glob("*.wav"):
        path.rename(sound / path.name)
    assert document(capsys, "inspect", str(folder), "--audio", str(sound), "--full")["contents"] == {
        "frames": {"minimum": 20, "median": 30.0, "maximum": 40, "total": 90},
        "bodies": [{"bodies": 1, "recordings": 2}, {"bodies": 2, "recordings": 1}],
        "sound_s": {"minimum": 1.0, "median": 2.5, "maximum": 4.0, "total": 10.0},
        "sample_rates_hz": [{"rate": RATE_HZ, "recordings": 4}],
        "missing_skeletons": ["S001C003P002R001A058"],
        "unreadable": [],
    }


def test_full_with_damaged_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "S001C001P001R001A007.skeleton").write_text("20\n1\n")
    (folder / "a04_s09_e01.wav").write_bytes(b"no sound")
    unreadable = document(capsys, "inspect", str(folder), "--full", "--on-error", "skip")["contents"]["unreadable"]
    assert len(unreadable) == 2
    assert "A007.skeleton, line 2: the file ends" in unreadable[0] + unreadable[1]
    assert "a04_s09_e01.wav: not a readable WAV file" in unreadable[0] + unreadable[1]

    assert main(["inspect", str(folder), "--full"]) == 4
    output = capsys.readouterr()
    assert "unreadable: 2" in output.out
    assert output.err.count("\n") == 1
    assert output.err.startswith("error: 2 file(s) cannot be read; the first: ")


def test_table_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = folder / "missing.txt"
    missing.write_text("a\nb\n\nS001C001P001R001A007\n")
    (folder / "a04_s09_e01.wav").unlink()
    options = ["--missing-list", str(missing), "--on-error", "skip", "--full"]
    assert main(["inspect", str(folder), *options]) == 0
    text = capsys.readouterr().out
    assert text.startswith("2 recordings (2 ntu), 2 with sound\n")
    for line in (
        "A007  throw           ntu           1",
        "recordings by subject: 1: 1, 2: 1",
        "recordings by camera: 2: 1, 3: 1",
        "left out by the list of missing skeletons: 1\n  S001C001P001R001A007",
        "skipped: 1\n",
        "frames: 30 to 30, median 30, 30 in all",
        "recordings by number of bodies: 2: 1",
        "without a skeleton in any frame: 1\n  S001C003P002R001A058",
    ):
        assert line in text


@pytest.mark.parametrize(("name", "sound"), [("S001C002P001R001A007", True), ("a04_s09_e01", False)])
def test_drawing(folder: Path, capsys: pytest.CaptureFixture[str], name: str, sound: bool) -> None:
    from matplotlib.image import imread

    if not sound:
        (folder / f"{name}.wav").unlink()
    out = folder.parent / "new" / "drawing.png"
    assert document(capsys, "inspect", str(folder), "--draw", name, "--out", str(out))["drawing"] == str(out)
    picture = imread(out)
    assert picture.shape[:2] == ((1155, 1650) if sound else (770, 1650))
    assert picture[..., :3].std() > 0.1
    assert [path.name for path in out.parent.iterdir()] == ["drawing.png"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--draw", "S001C002P001R001A008", "--out", "x.png"], 2, "there is for example S001C002P001"),
        (["--draw", "S001C002P001R001A007"], 2, "--draw NAME and --out FILE.png go together"),
        (["--draw", "S001C002P001R001A007", "--out", "x.png", "--full"], 2, "give one of them"),
        (["--draw", "S001C002P001R001A007", "--out", "x.jpg"], 2, "give a name that ends in .png"),
        (["--draw", "S001C003P002R001A058", "--out", "x.png"], 4, "none of its 10 frames has a body"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    assert main(["inspect", str(folder), *options]) == code
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""
