"""Comparing records across commits: matching subjects, changes beyond chance, refused records."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.measure.records import (
    Device,
    DeviceRun,
    Environment,
    Machine,
    Measurement,
    Memory,
    Record,
    Subject,
    Timing,
    write_record,
)

MACHINE = Machine("some CPU", 4, "aarch64", "Linux 6.1", 8_000_000_000, ("asimddp",))


def measurement(name: str, factor: float, *, seed: int, runtime: str = "litert", threads: int = 1, size: int = 100):
    """Inference of about 20 ms and preprocessing of about 5 ms, 3 % noise, inference times `factor`."""
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.03, (2, 40)))
    return Measurement(
        Subject(name, "0f", "tflite", "float32", "nano", "fused", size, runtime, "2.1", threads),
        Timing(tuple((5 * noise[0]).tolist())),
        Timing(tuple((20 * factor * noise[1]).tolist())),
        Memory(11_000_000 + size),
    )


def record(*measurements: Measurement, warnings: tuple[str, ...] = ()) -> Record:
    return Record(Environment(MACHINE, {}, "now", "abc", "x"), 0, 40, measurements, warnings)


@pytest.fixture
def compare(tmp_path, capsys):
    """Runs the command on two records; gives exit code, standard output and standard error."""

    def run(before: Record, after: Record, *words: str):
        paths = [tmp_path / "before.json", tmp_path / "after.json"]
        for path, record in zip(paths, (before, after), strict=True):
            write_record(record, path)
        code = main(["compare", *map(str, paths), *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.replace(f"{tmp_path}/", "")

    return run


def test_changes_are_separated_from_chance(compare):
    names = {"same": 1.0, "slow": 1.3, "fast": 0.7, "a little": 1.02}
    before = record(*(measurement(name, 1.0, seed=i) for i, name in enumerate(names)))
    after = record(*(measurement(name, f, seed=10 + i) for i, (name, f) in enumerate(names.items())))
    code, out, err = compare(before, after, "--json")
    assert (code, err) == (0, "")
    parts = {change["subject"]["name"]: change["parts"]["inference"] for change in json.loads(out)["changes"]}
    verdicts = ["no difference seen", "slower", "faster", "no difference seen"]
    assert {name: part["verdict"] for name, part in parts.items()} == dict(zip(names, verdicts, strict=True))
    for name, factor in names.items():
        assert parts[name]["ratio"]["low"] < factor * 1.01
        assert parts[name]["ratio"]["high"] > factor * 0.99
        assert parts[name]["ratio"]["value"] == pytest.approx(factor, rel=0.03)


def test_the_table_shows_size_memory_and_both_times(compare):
    before, after = measurement("a", 1, seed=1, size=2_000_000), measurement("a", 2, seed=2, size=1_000_000)
    code, out, _ = compare(record(before), record(after))
    assert code == 0
    _, _, first, second = out.splitlines()
    assert all(part in first for part in ("2.00 → 1.00 MB", "13.0 → 12.0 MB", "preprocessing", "no difference seen"))
    assert second.split()[0] == "inference"
    assert second.endswith("slower")


def test_the_answer_is_no_when_a_subject_is_slower_beyond_the_limit(compare):
    before = record(measurement("a", 1.0, seed=1), measurement("b", 1.0, seed=2))
    after = record(measurement("a", 1.3, seed=3), measurement("b", 1.0, seed=4))
    code, out, err = compare(before, after, "--max-slowdown", "1.1")
    assert code == 1
    assert err.startswith(
        "no: more than 1.1 times as slow, with 95 % confidence: inference of a (litert, threads: 1), 1"
    )
    assert "b (litert" not in err
    assert "slower" in out  # the table is shown nevertheless
    assert compare(before, after, "--max-slowdown", "1.5")[0] == 0
    assert compare(before, after)[0] == 0
    assert compare(before, after, "--max-slowdown", "1.29")[0] == 0  # the interval reaches below
    assert compare(before, after, "--max-slowdown", "0.9")[0] == 2


def test_preprocessing_counts_for_the_limit(compare):
    base = measurement("a", 1.0, seed=1)
    slow = replace(base, preprocessing=Timing(tuple(2 * sample for sample in base.preprocessing.samples_ms)))
    code, _, err = compare(record(base), record(slow), "--max-slowdown", "1.5")
    assert code == 1
    assert "preprocessing of a (litert, threads: 1), 2.00×" in err
    assert "inference of a" not in err


def test_a_noisy_machine_gives_neither_answer(compare):
    base = measurement("a", 1.0, seed=1)
    # Another program took the core half of the time: medians and intervals alone would call it slower.
    busy = np.array(base.inference.samples_ms) * np.tile([1.5, 1.6, 3.0, 1.5], 10)
    noisy = replace(base, inference=Timing(tuple(busy.tolist())))
    code, out, err = compare(record(base), record(noisy), "--max-slowdown", "1.2")
    assert code == 4
    assert err.startswith("error: the machine was too noisy to decide whether these are more than 1.2 times as slow, ")
    assert "inference of a (litert, threads: 1), 1." in err
    assert "(after, p90 is " in err
    assert out.splitlines()[-1].endswith("slower, but noisy")
    document = json.loads(compare(record(base), record(noisy), "--max-slowdown", "1.2", "--json")[1])
    assert (document["too_slow"], len(document["too_noisy_to_tell"])) == ([], 1)
    assert compare(record(base), record(noisy))[0] == 0
    # A clear answer takes precedence.
    both = record(noisy, measurement("b", 1.5, seed=2))
    assert compare(record(base, measurement("b", 1.0, seed=3)), both, "--max-slowdown", "1.2")[0] == 1


PHONE = Device("a phone", "SM8650", "v75", 57, "14", (), (), 80, 27.5, False, 0)


def test_records_of_unlike_machines_and_devices_are_refused(compare):
    base = record(measurement("a", 1.0, seed=1))
    for name, value in {"cpu": "another CPU", "instructions": None}.items():
        machine = replace(MACHINE, **{name: value})
        code, out, err = compare(base, replace(base, environment=replace(base.environment, machine=machine)))
        assert (code, out) == (4, "")
        values = f"{getattr(MACHINE, name)!r} in before.json and {value!r} in after.json; measure both on one machine"
        assert err == f"error: the machines differ: {name} is {values}\n"
    code, _, err = compare(replace(base, device=PHONE), replace(base, device=replace(PHONE, model="another phone")))
    assert code == 4
    assert "the machines differ: device is 'a phone' in before.json and 'another phone' in " in err


@pytest.mark.parametrize(
    ("samples", "reasons", "doubt"),
    [
        ((20.0, 20.1), (), "(after, 2 samples only)"),
        ((20.0,) * 10, ("process 2 started warm",), "(after, process 2 started warm)"),
    ],
)
def test_too_few_samples_of_a_device_decide_nothing(compare, samples, reasons, doubt):
    base = measurement("a", 0.5, seed=1)
    run = DeviceRun("t", "./t", "quick", "process", "cpu", None, None, None, None, (), (), reasons)
    code, out, err = compare(
        record(base), record(replace(base, inference=Timing(samples), device_run=run)), "--max-slowdown", "1.2"
    )
    assert code == 4
    assert out.splitlines()[-1].endswith("slower, but noisy")
    assert doubt in err


def test_subjects_match_by_every_part_of_their_identity(compare):
    before = record(measurement("a", 1, seed=1), measurement("a", 1, seed=2, threads=2), measurement("gone", 1, seed=3))
    after = record(measurement("a", 1, seed=4), measurement("a", 1, seed=5, runtime="tflite-runtime"))
    code, out, err = compare(before, after, "--json")
    assert code == 0
    document = json.loads(out)
    assert [change["subject"]["threads"] for change in document["changes"]] == [1]
    assert document["only_before"] == ["a (litert, threads: 2)", "gone (litert, threads: 1)"]
    assert document["only_after"] == ["a (tflite-runtime, threads: 1)"]
    assert "warning: only in before.json, not compared: a (litert, threads: 2), gone (litert, threads: 1)" in err


def test_records_without_a_common_subject_and_with_twins_are_refused(compare):
    one, other = measurement("a", 1, seed=1), measurement("b", 1, seed=1)
    twice = "a record has a (litert, threads: 1) twice; measure again"
    for before, after, message in (
        (record(one), record(other), "the records have no subject in common"),
        (record(one, one), record(one), twice),
    ):
        code, _, err = compare(before, after)
        assert code == 4
        assert err.startswith(f"error: {message}")


def test_warnings_of_the_records_are_repeated(compare):
    base = measurement("a", 1, seed=1)
    _, _, err = compare(record(base, warnings=("times spread", "threads")), record(base))
    assert err == "warning: before.json carries a warning: times spread (and 1 more)\n"
