"""A phone for tests: the sandbox behind `AdbDevice`, a private adb server, fake tools that print real logs."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from kit.adb_device import AdbDevice
from kit.fakes import fake_artifact

from android_bench.protocol import Schedule

DATA = Path(__file__).parents[1] / "data"
PLACE = "/data/local/tmp/pocket-har"
SHORT = Schedule("quick", 2, 1, 20, 0.1, 10.0, False, 0.0, 0.1)
PROPERTIES = """[ro.build.version.release]: [14]
[ro.product.manufacturer]: [Acme]
[ro.product.model]: [Phone 9]
[ro.soc.manufacturer]: [QTI]
[ro.soc.model]: [SM8650]
"""
BATTERY = "  present: true\n  level: 84\n  scale: 100\n  temperature: 287\n  USB powered: true\n  status: 2\n"
needs_adb = pytest.mark.skipif(shutil.which("adb") is None, reason="adb is not installed; run `apt install adb`")


def fake_log(*, mean_us: float = 8000.0, count: int = 20) -> str:
    """The real log of a recent build with other times and counts."""
    log = (DATA / "benchmark_model_cpu_android.log").read_text()
    old = re.search(r"count=50 .*", log)[0]
    assert "Inference (avg): 699438" in log
    times = f"curr={mean_us:g} min={mean_us * 0.9:g} max={mean_us * 1.2:g} avg={mean_us:g} std=9 median={mean_us:g}"
    return log.replace(old, f"count={count} {times}").replace(
        "Inference (avg): 699438", f"Inference (avg): {mean_us:g}"
    )


def fake_tool(path: Path, stdout: str, *, before: str = "sleep 0.1", after: str = "") -> Path:
    """A program that prints a text."""
    program(path, f"{before}\ncat <<'END_OF_LOG'\n{stdout}\nEND_OF_LOG\n{after}")
    return path


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def make_phone(root: Path) -> AdbDevice:
    """Eight cores in three clusters, Android 14, a Snapdragon 8 Gen 3."""
    (root / "data/local/tmp").mkdir(parents=True)
    (root / "getprop").write_text(PROPERTIES)
    (root / "battery").write_text(BATTERY)
    shutil.copy(DATA / "dumpsys_thermalservice.txt", root / "thermalservice")
    program(root / "bin/getprop", f"cat {root}/getprop")
    program(root / "bin/dumpsys", f'cat {root}/"$1"')
    program(root / "bin/taskset", f'echo "$1" >> {root}/masks; shift; exec "$@"')
    for number in range(8):
        folder = root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        highest = 2_265_600 if number < 2 else 3_187_200 if number < 7 else 3_302_400
        (folder / "cpuinfo_max_freq").write_text(f"{highest}\n")
        (folder / "scaling_cur_freq").write_text("1804800\n")
        (folder / "scaling_governor").write_text("walt\n")
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nHardware\t: Qualcomm\n")
    (root / "proc/meminfo").write_text("MemTotal:       11587420 kB\nMemFree:  100 kB\n")
    return AdbDevice(root)


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory):
    """A private server with private keys; ended afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("ADB_LOCAL_TRANSPORT_MAX_PORT", "5553")  # looks for no emulators
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        subprocess.run(["adb", "start-server"], check=True, capture_output=True, timeout=60)
        yield
        subprocess.run(["adb", "kill-server"], check=False, capture_output=True, timeout=60)


@pytest.fixture
def connect(adb_server, tmp_path):
    """Makes phones and connects them; each goes away afterwards."""
    phones = []

    def add(*, unauthorised: bool = False) -> AdbDevice:
        phone = make_phone(tmp_path / f"phone{len(phones)}")
        phone.unauthorised = unauthorised
        phones.append(phone)
        connect_to(phone, "unauthorized" if unauthorised else "device")
        return phone

    yield add
    for phone in phones:
        subprocess.run(["adb", "disconnect", phone.serial], check=False, capture_output=True, timeout=30)
        phone.close()


def connect_to(phone: AdbDevice, state: str = "device") -> None:
    subprocess.run(["adb", "connect", phone.serial], check=False, capture_output=True, timeout=30)
    for _ in range(100):
        listed = subprocess.run(["adb", "devices"], check=True, capture_output=True, text=True, timeout=30).stdout
        if f"{phone.serial}\t{state}" in listed:
            return
        time.sleep(0.1)
    raise AssertionError(f"no {state} {phone.serial}: {listed}")


@pytest.fixture
def artifact(tmp_path):
    return fake_artifact(tmp_path / "nano-int8")


def left_on(phone: AdbDevice) -> list[str]:
    """What lies in the folder for everybody's files on the device."""
    return sorted(str(path.relative_to(phone.root)) for path in (phone.root / "data/local/tmp").rglob("*"))
