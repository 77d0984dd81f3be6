"""What else the machine does, seen on the real machine."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from toolchain.runtimes.devices import Device
from toolchain.timing import noise
from toolchain.timing.noise import LoadDuring, Meter, Watch, own_seconds, reasons
from toolchain.timing.process import WorkerProcess

QUIET = LoadDuring(10.0, 0.01, 0.0, (), 50.0, 0)
SPIN = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"


def test_work_of_others_is_seen() -> None:
    """The other process is started by one that ends: nobody would count it as ours."""
    program = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {SPIN.format(seconds=3)!r}])"
    subprocess.run([sys.executable, "-c", program], check=True)
    watch = Watch()
    time.sleep(1.5)
    found = watch.look()
    assert found.others_cores > 0.4
    assert found.seconds >= 1.5
    assert any("cores busy" in reason for reason in reasons(found))


def test_work_of_a_child_is_ours_even_after_it_ended() -> None:
    before = own_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    after = own_seconds()
    assert 0.2 < after - before < 2


def test_work_of_a_worker_counts_where_the_system_forgets_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows."""
    monkeypatch.setattr(noise, "FORGETS_CHILDREN", True)
    worker = WorkerProcess()
    used = worker.ask("probe", "ort:cpu", Device, 60.0)
    assert used.available
    before = own_seconds()
    theirs = psutil.Process(worker.pid).cpu_times().user
    assert theirs > 0.1
    worker.close()
    assert own_seconds() >= before
    monkeypatch.setattr(noise, "_ended_s", 0.0)
    assert own_seconds() < before


def test_heat_of_a_package_is_counted_once(tmp_path: Path) -> None:
    """Each of its logical processors tells it, and both of a core tell that of the core."""
    for cpu, core in enumerate((0, 0, 1, 1)):
        for name, text in {
            "thermal_throttle/package_throttle_count": "5",
            "thermal_throttle/core_throttle_count": str(core + 1),
            "topology/physical_package_id": "0",
            "topology/core_id": str(core),
        }.items():
            file = tmp_path / f"cpu{cpu}" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
    assert noise._throttle_count(tmp_path) == 5 + 1 + 2
    assert noise._throttle_count(tmp_path / "cpu0") is None


def test_reasons_are_told() -> None:
    assert reasons(QUIET) == []
    assert "0.40 of its cores to other machines" in reasons(replace(QUIET, steal_cores=0.4))[0]
    assert "against heat 3 times" in reasons(replace(QUIET, throttled=3))[0]
    limited = replace(QUIET, others_cores=1.0, quota_waits=9, quota_waited_s=4.04)
    assert reasons(limited) == [
        "the container's CPU quota was used up 9 times, and its threads waited 4.0 s: measure with fewer "
        "--threads, or a larger quota"
    ]
    assert reasons(replace(QUIET, others_cores=1.4, quota_waits=0, quota_waited_s=0.0), spare_cores=1.5) == []
    busy = replace(QUIET, others_cores=1.0, busiest=("make (99% of a core)",))
    assert reasons(busy) == ["other programs kept 1.00 cores busy: make (99% of a core)"]


def _zone(folder: Path, zone: str, name: str, energy_uj: int) -> Path:
    path = folder / zone
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text("1000000\n")
    return path


def test_energy_is_that_of_the_packages_and_survives_a_counter_that_begins_anew(tmp_path: Path) -> None:
    first = _zone(tmp_path, "intel-rapl:0", "package-0", 100)
    _zone(tmp_path, "intel-rapl:1", "package-1", 999_000)
    _zone(tmp_path, "intel-rapl:0:0", "core", 5)
    _zone(tmp_path, "intel-rapl:2", "psys", 7)  # the platform, with all packages in it
    meter = Meter(tmp_path)
    assert meter.available
    meter.start()
    _zone(tmp_path, "intel-rapl:0", "package-0", 500_100)
    _zone(tmp_path, "intel-rapl:1", "package-1", 1_000)
    _zone(tmp_path, "intel-rapl:2", "psys", 900_007)
    assert meter.joules() == 0.502
    (first / "energy_uj").unlink()
    assert meter.joules() is None


def test_energy_is_unknown_where_nobody_counts(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    assert not meter.available
    meter.start()
    assert meter.joules() is None
