"""Finding recordings: names, sound beside them or elsewhere, lists of missing skeletons, what is skipped and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocess.errors import DataError
from recordings.actions import MSR_ACTIONS, NTU60_ACTIONS, action_code, action_name
from recordings.catalogue import read_missing_list, scan
from recordings.recording import RecordingRef

NTU = "S001C002P003R001A004"
OTHER = "S002C001P008R002A060"
MSR = "a04_s07_e02"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_both_formats_at_any_depth(tmp_path: Path) -> None:
    ntu, msr = tmp_path / "a/b" / f"{NTU}.skeleton", tmp_path / "c" / f"{MSR}_skeleton.txt"
    touch(ntu, ntu.with_suffix(".wav"), msr, msr.with_name(f"{MSR}.wav"))
    catalogue = scan(tmp_path)
    assert catalogue.refs == (
        RecordingRef(NTU, "ntu", ntu, ntu.with_suffix(".wav"), 4, 3, 2, 1, 1),
        RecordingRef(MSR, "msr", msr, msr.with_name(f"{MSR}.wav"), 4, 7, None, None, 2),
    )
    assert catalogue.excluded == catalogue.problems == ()
    touch(tmp_path / "a" / f"{OTHER}.skeleton")  # sorted by name, not by folder
    assert [ref.name for ref in scan(tmp_path, require_audio=False).refs] == [NTU, OTHER, MSR]


def test_where_the_sound_may_be(tmp_path: Path) -> None:
    skeleton = tmp_path / "data/skeletons" / f"{NTU}.skeleton"
    beside = skeleton.with_suffix(".wav")
    elsewhere = tmp_path / "data/sound" / f"{NTU}.WAV"
    extra = tmp_path / "extra/deep" / f"{NTU}.wav"
    touch(skeleton, beside, elsewhere, extra)

    def audio_path() -> Path | None:
        return scan(tmp_path / "data", audio_root=tmp_path / "extra").refs[0].audio_path

    assert audio_path() == beside
    beside.unlink()
    assert audio_path() == extra
    extra.unlink()
    assert audio_path() == elsewhere


def test_two_files_for_one_recording(tmp_path: Path) -> None:
    touch(tmp_path / f"{NTU}.skeleton", tmp_path / "a" / f"{NTU}.wav", tmp_path / "b" / f"{NTU}.wav")
    with pytest.raises(DataError, match=r"its sound exists twice, .*a/.* and .*b/"):
        scan(tmp_path)
    (tmp_path / "a" / f"{NTU}.wav").unlink()
    touch(tmp_path / "b" / f"{NTU}.skeleton")
    with pytest.raises(DataError, match="has the same name; keep one of them"):
        scan(tmp_path, require_audio=False)


def test_a_recording_without_sound(tmp_path: Path) -> None:
    touch(tmp_path / f"{NTU}.skeleton", tmp_path / f"{OTHER}.skeleton", tmp_path / f"{OTHER}.wav")
    with pytest.raises(DataError, match=rf"{NTU}\.skeleton: its sound {NTU}\.wav does not exist"):
        scan(tmp_path)
    skipped = scan(tmp_path, on_error="skip")
    assert [ref.name for ref in skipped.refs] == [OTHER]
    assert len(skipped.problems) == 1
    assert NTU in skipped.problems[0]
    kept = scan(tmp_path, require_audio=False)
    assert [ref.audio_path for ref in kept.refs] == [None, tmp_path / f"{OTHER}.wav"]


@pytest.mark.parametrize(
    ("file_name", "message"),
    [
        ("S001C001P001R001A061.skeleton", "is action 61"),
        ("walking.skeleton", "is not an NTU RGB\\+D name"),
        ("a17_s01_e01_skeleton.txt", "is action 17"),
        ("my_skeleton.txt", "is not an MSR Daily Activity 3D name"),
    ],
)
def test_a_wrong_name_is_a_problem(tmp_path: Path, file_name: str, message: str) -> None:
    touch(tmp_path / file_name, tmp_path / f"{NTU}.skeleton")
    with pytest.raises(DataError, match=message):
        scan(tmp_path, require_audio=False)
    assert len(scan(tmp_path, require_audio=False, on_error="skip").problems) == 1
    (tmp_path / f"{NTU}.skeleton").rename(tmp_path / "a.skeleton")
    for on_error in ("raise", "skip"):  # nothing usable is left, so skipping does not help
        with pytest.raises(DataError, match=r"\(and 1 more problems\)"):
            scan(tmp_path, on_error=on_error)


def test_hidden_and_other_files_are_passed_over_and_links_do_not_go_round(tmp_path: Path) -> None:
    data = tmp_path / "data"
    touch(data / f"{NTU}.skeleton", data / f"._{NTU}.skeleton", data / ".trash" / f"{OTHER}.skeleton")
    touch(data / "README.md", data / f"{NTU}_rgb.avi")
    (data / "loop").symlink_to(data)
    (tmp_path / "linked").symlink_to(data)
    assert len(scan(tmp_path / "linked", require_audio=False).refs) == 1


def test_no_folder_or_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: the folder does not exist"):
        scan(tmp_path / "absent")
    with pytest.raises(
        DataError, match=r"no recordings here; file names are SsssCcccPpppRrrrAaaa\.skeleton .*_skeleton\.txt"
    ):
        scan(tmp_path)
    touch(tmp_path / "file", tmp_path / "data" / f"{NTU}.skeleton")
    with pytest.raises(DataError, match="file: not a folder"):
        scan(tmp_path / "file")
    with pytest.raises(DataError, match="sound: the folder does not exist"):
        scan(tmp_path / "data", audio_root=tmp_path / "sound")


MISSING_LIST = "302 of the captured samples have missing skeletons.\nPlease ignore these files.\n\n{}\n"


def test_the_list_of_missing_skeletons(tmp_path: Path) -> None:
    touch(*(tmp_path / f"{name}{suffix}" for name in (NTU, OTHER) for suffix in (".skeleton", ".wav")))
    missing = tmp_path / "missing.txt"
    missing.write_text(MISSING_LIST.format(f"{OTHER}\nS001C002P005R002A008\n"))
    catalogue = scan(tmp_path, missing_list=missing)
    assert [ref.name for ref in catalogue.refs] == [NTU]
    assert catalogue.excluded == (OTHER,)
    missing.write_text(f"{NTU}\n{OTHER}\n{MSR}\n")  # without a header
    assert read_missing_list(missing) == {NTU, OTHER, MSR}
    missing.write_text(MISSING_LIST.format(f"{NTU}\nS001C002\n"))
    with pytest.raises(DataError, match=r"missing\.txt, line 5: 'S001C002' is not the name of a recording"):
        read_missing_list(missing)
    with pytest.raises(DataError, match="the list of missing skeletons does not exist"):
        read_missing_list(tmp_path / "absent.txt")


def test_action_names() -> None:
    assert (len(NTU60_ACTIONS), len(set(NTU60_ACTIONS)), len(MSR_ACTIONS)) == (60, 60, 16)
    for number, name in ((1, "drink water"), (43, "falling"), (60, "walking apart from each other")):
        assert action_name("ntu", number) == name
    assert (action_name("msr", 16), action_code("ntu", 7), action_code("msr", 7)) == ("sit down", "A007", "a07")
    for format, number, message in (
        ("ntu", 61, "action 61 does not exist in format 'ntu'; it has A001 to A060"),
        ("msr", 0, "action 0 does not exist in format 'msr'; it has a01 to a16"),
        ("coco", 1, "recording format 'coco' is unknown; use one of ntu, msr"),
    ):
        with pytest.raises(DataError, match=message):
            action_code(format, number)
