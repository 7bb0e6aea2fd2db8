"""Parsers of the text that devices report."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.device.adb import parse_devices, remedy
from android_bench.device.facts import (
    Core,
    clusters,
    facts_of,
    fastest_cores,
    memory_bytes,
    parse_battery,
    parse_cores,
    parse_cpuinfo,
    parse_getprop,
)
from android_bench.device.watch import (
    parse_thermal_zones,
    parse_thermalservice,
    split_sections,
    state_of,
    watched,
    zone_celsius,
)
from preprocess.errors import DataError
from runtime.npu_chips import SNAPDRAGONS, soc_name

THERMAL = (Path(__file__).parents[1] / "data/dumpsys_thermalservice.txt").read_text()
LISTED = """* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
0123456789ABCDEF       device usb:1-2 product:e3q model:SM_S928B device:e3q transport_id:4
emulator-5554          offline transport_id:2
R58M                   unauthorized usb:1-3 transport_id:3
ZY22                   no permissions (user in plugdev group; are your udev rules wrong?); see [http://…] usb:1-1
192.168.1.7:5555       device product:x model:Y device:z transport_id:9

"""


def test_the_list_of_adb():
    states = parse_devices(LISTED)
    assert list(states) == ["0123456789ABCDEF", "emulator-5554", "R58M", "ZY22", "192.168.1.7:5555"]
    assert list(states.values()) == ["device", "offline", "unauthorized", "no permissions", "device"]
    remedies = [remedy(state) for state in (*list(states.values())[:4], "rescue")]
    assert remedies[0] is None
    parts = ("adb reconnect offline", "tap `Allow`", "udev rules", "unplug it and plug it in again")
    assert all(part in text for part, text in zip(parts, remedies[1:], strict=True))
    assert parse_devices("") == {}


def test_temperatures_come_from_the_block_of_the_hardware_not_from_the_cached_one():
    status, temperatures = parse_thermalservice(THERMAL)
    assert (status, len(temperatures)) == (0, 13)
    assert max(celsius for kind, celsius in temperatures if kind == "cpu") == 32.300003
    assert watched(temperatures) == ("skin", 28.348001)
    indented = "\n".join(f"\t{line}" for line in THERMAL.splitlines())
    assert parse_thermalservice(indented) == (status, temperatures)
    cached_only = THERMAL[: THERMAL.index("HAL connection")]
    assert parse_thermalservice(cached_only)[1] == []
    assert watched(()) is None


@given(st.integers(0, len(THERMAL)))
def test_a_cut_report_gives_no_cached_temperature(length):
    cached = {54.600002, 53.9, 55.600002, 53.300003, 53.000004, 57.200005, 55.300003, 56.2, 55.9, 39.600002, 37.083}
    assert not cached & {celsius for _, celsius in parse_thermalservice(THERMAL[:length])[1]}


def test_thermal_zones_have_any_unit_and_vendors_names():
    celsius = {31: 31, 31000: 31, 312: 31.2, 27_500: 27.5, -5: -5, -273: -27.3, 0: None, -40000: None, 10**9: None}
    assert {value: zone_celsius(value) for value in celsius} == celsius
    text = "cpu-1-0-usr 45300\nquiet-therm 33100\nbattery 287\nnspss-0 41\nx86_pkg_temp 52000\nmodem 0\nodd\ncpu x\n"
    zones = [("cpu", 45.3), ("skin", 33.1), ("battery", 28.7), ("npu", 41.0), ("cpu", 52.0)]
    assert parse_thermal_zones(text) == zones


@given(st.text(max_size=300))
def test_no_text_breaks_a_parser(text):
    thermal = (parse_thermalservice, parse_thermal_zones)
    for parse in (*thermal, parse_devices, parse_getprop, parse_cpuinfo, parse_cores, parse_battery, memory_bytes):
        parse(text)


def test_memory_properties_of_several_lines_and_battery():
    assert memory_bytes("MemTotal:       11587420 kB\nMemFree: 1 kB\n") == 11587420 * 1024
    assert memory_bytes("MemFree: 1 kB") is None
    text = "[ro.a]: [x]\r\n[ro.b]: [one\ntwo]\n[ro.c]: []\nnonsense\n"
    assert parse_getprop(text) == {"ro.a": "x", "ro.b": "one\ntwo", "ro.c": ""}
    text = "AC powered: false\n USB powered: {usb}\n status: {status}\n present: true\n level: 42\n scale: 50\n"
    for usb, status, charging in (("false", 3, False), ("true", 3, True), ("false", 5, True)):
        assert parse_battery(text.format(usb=usb, status=status)) == (84, None, charging)
    assert parse_battery("present: false\nlevel: 1") == parse_battery("") == (None, None, None)


def test_cores_and_masks():
    text = "cpu10 3000000 walt\ncpu0 1800000 walt\ncpu1 1800000 walt\ncpu2 - -\n"
    cores = parse_cores(text)
    slow, fast = (1_800_000, "walt"), (3_000_000, "walt")
    assert cores == (Core(0, *slow), Core(1, *slow), Core(2, 0, None), Core(10, *fast))
    assert clusters(cores) == [("04", 0), ("03", 1800000), ("400", 3000000)]
    phone = [Core(n, 2_000_000 if n < 4 else 2_500_000 if n < 7 else 3_000_000, None) for n in range(8)]
    assert [fastest_cores(phone, n) for n in (1, 2, 4, 5, 8)] == ["80", "c0", "f0", "f8", "ff"]
    assert fastest_cores(phone[:4], 2) is None
    assert fastest_cores([], 2) is None


@pytest.mark.parametrize(
    ("properties", "soc", "hexagon"),
    [
        ({"ro.soc.model": "SM8650-AC"}, "SM8650", "v75"),
        ({"ro.board.platform": "kona"}, "SM8250", "v66"),
        ({"ro.board.platform": "sun"}, "SM8750", "v79"),
        ({"ro.soc.model": "Tensor G3"}, "Tensor G3", None),
        ({}, None, None),
    ],
)
def test_snapdragons(properties, soc, hexagon):
    assert soc_name(properties) == soc
    chip = SNAPDRAGONS.get(soc or "")
    assert (chip.hexagon if chip else None) == hexagon
    assert len({chip.soc_model for chip in SNAPDRAGONS.values()}) == len(SNAPDRAGONS)


def test_a_board_without_android():
    sections = {
        "cpuinfo": "model name\t: Cortex-A76\nFeatures : fp asimddp\nModel : Raspberry Pi 5\n",
        "kernel": "6.6.1\naarch64\n",
        "zones": "cpu-thermal 48300\n",
        "taskset": "/usr/bin/taskset\n",
    }
    facts = facts_of(sections)
    assert (facts.device.model, facts.device.soc, facts.device.android) == ("Raspberry Pi 5", None, None)
    assert (facts.machine.cpu, facts.machine.system) == ("Cortex-A76", "Linux 6.6.1")
    assert (facts.thermal_source, facts.can_pin) == ("zones", True)
    with pytest.raises(DataError, match="`uname -r; uname -m` on the device says 'nonsense'"):
        facts_of({**sections, "kernel": "nonsense"})


def test_the_state_of_a_moment():
    sections = split_sections(
        "@@clock\n1700000000\n@@frequencies\ncpu10 5\ncpu2 7\n@@thermal\nThermal Status: 3\n@@zones\nbattery 310\n"
    )
    state = state_of(sections, "zones", 1.5)
    assert (state.sensor, state.celsius, state.frequencies_khz) == ("battery", 31.0, (7, 5))
    assert state.thermal_status == 3
    with pytest.raises(DataError, match="`date \\+%s` on the device says 'x'"):
        state_of({**sections, "clock": "x"}, "zones", 1.5)
