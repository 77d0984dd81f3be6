"""Quotas of containers, from drawn trees of control groups, and from a real one where one can be made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from toolchain.cli import main
from toolchain.system import processor
from toolchain.system.processor import (
    THREAD_VARIABLES,
    Throttling,
    allowed_cores,
    cores,
    cpu_quota,
    respect_quota,
    throttling,
)

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "40 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
MEMORY = "41 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
TREES: dict[str, tuple[dict[str, str], float | None]] = {
    "nothing to read": ({}, None),
    "version 2, own group": (
        {"proc/self/cgroup": "0::/box\n", "proc/self/mountinfo": V2, "sys/fs/cgroup/box/cpu.max": "50000 100000\n"},
        0.5,
    ),
    "version 2, no limit": (
        {"proc/self/cgroup": "0::/box\n", "proc/self/mountinfo": V2, "sys/fs/cgroup/box/cpu.max": "max 100000\n"},
        None,
    ),
    "version 2, a container that sees itself as the top": (
        {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2, "sys/fs/cgroup/cpu.max": "150000 100000\n"},
        1.5,
    ),
    "version 2, the group above has less": (
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/pod/cpu.max": "25000 50000",
            "sys/fs/cgroup/pod/box/cpu.max": "200000 100000",
        },
        0.5,
    ),
    "version 2, own group has less": (
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/pod/cpu.max": "200000 100000",
            "sys/fs/cgroup/pod/box/cpu.max": "25000 100000",
        },
        0.25,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "9:memory:/box\n4:cpu,cpuacct:/box\n",
            "proc/self/mountinfo": MEMORY + V1,
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/box/cpu.cfs_quota_us": "1000\n",
            "sys/fs/cgroup/memory/box/cpu.cfs_period_us": "100000\n",
        },
        3.0,
    ),
    "version 1, no limit": (
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/\n",
            "proc/self/mountinfo": V1,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "version 1, a container whose path is the host's": (
        {
            "proc/self/cgroup": "4:cpu:/docker/0ab1\n",
            "proc/self/mountinfo": "40 31 0:29 /docker/0ab1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "75000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        0.75,
    ),
    "a path that the container cannot see": (
        {
            "proc/self/cgroup": "0::/../../box\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
        },
        0.5,
    ),
    "both versions at once": (
        {
            "proc/self/cgroup": "1:cpu:/box\n0::/box\n",
            "proc/self/mountinfo": V1.replace("cpu,cpuacct", "cpu")
            + V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "),
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
        },
        2.0,
    ),
    "a blank in the path": (
        {
            "proc/self/cgroup": "0::/my box\n",
            "proc/self/mountinfo": V2.replace("/sys/fs/cgroup", "/sys/control\\040groups"),
            "sys/control groups/my box/cpu.max": "50000 100000",
        },
        0.5,
    ),
    "nonsense": (
        {
            "proc/self/cgroup": "0::/box\n::\nx\n",
            "proc/self/mountinfo": "x\n- cgroup2\n" + V2,
            "sys/fs/cgroup/box/cpu.max": "many 0\n",
            "sys/fs/cgroup/cpu.max": "50000 0\n",
        },
        None,
    ),
}


def draw(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(("files", "quota"), TREES.values(), ids=TREES)
def test_quota_of_control_groups(files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    assert cpu_quota(draw(tmp_path, files)) == quota


@pytest.mark.parametrize(
    ("quota", "threads"), [("max", 8), ("50000", 1), ("100000", 1), ("190000", 1), ("250000", 2), ("9900000", 8)]
)
def test_threads_fit_into_cores_and_quota(
    quota: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "allowed_cores", lambda: 8)
    files = {"proc/self/cgroup": "0::/", "proc/self/mountinfo": V2, "sys/fs/cgroup/cpu.max": f"{quota} 100000"}
    root = draw(tmp_path, files)
    assert cores(root) == threads
    environment = {"OPENCV_FOR_THREADS_NUM": "3"}
    respect_quota(environment, root)
    limited = {"OMP_NUM_THREADS": str(threads)} if threads < 8 else {}
    assert environment == {"OPENCV_FOR_THREADS_NUM": "3", **limited}


def test_waits_are_counted_over_all_groups_with_a_quota(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/box\n1:cpu:/\n",
        "proc/self/mountinfo": V2 + V1.replace("cpu,cpuacct", "cpu").replace("/sys/fs/cgroup/cpu", "/v1"),
        "sys/fs/cgroup/cpu.stat": "nr_throttled 900\nthrottled_usec 1\n",
        "sys/fs/cgroup/pod/cpu.max": "100000 100000",
        "sys/fs/cgroup/pod/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 1500000\n",
        "sys/fs/cgroup/pod/box/cpu.max": "max 100000",
        "sys/fs/cgroup/pod/box/cpu.stat": "nr_throttled 700\nthrottled_usec 1\n",
        "v1/cpu.cfs_quota_us": "50000",
        "v1/cpu.cfs_period_us": "100000",
        "v1/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 250000000\n",
    }
    found = throttling(draw(tmp_path, files))
    assert found == Throttling(7, 1.75)
    assert found.since(Throttling(5, 1.5)) == Throttling(2, 0.25)
    assert throttling(tmp_path / "nowhere") is None


@pytest.fixture
def tenth_of_a_core() -> Iterator[Path]:
    """A real control group with a quota, small enough to be used up on a busy machine too."""
    tops = [Path(name) for name in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup")]
    top = next((path for path in tops if (path / "cgroup.procs").exists()), None)
    if top is None:
        pytest.skip("no control groups here")
    group = top / f"edgetl-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_quota_us").write_text("10000")
        elif (group / "cpu.max").exists():
            (group / "cpu.max").write_text("10000 100000")
        else:
            pytest.skip("control groups cannot limit processors here")
        yield group
    finally:
        group.rmdir()


def test_a_real_quota_is_seen_kept_and_counted(tenth_of_a_core: Path) -> None:
    """A program goes into the group, counts its threads, and then computes for longer than it may."""
    program = f"""
import json, os, time
from pathlib import Path
from toolchain.timing.noise import Watch, reasons, spare_cores
from toolchain.system.processor import cores, cpu_quota, throttling
Path({str(tenth_of_a_core / "cgroup.procs")!r}).write_text(str(os.getpid()))
watch = Watch()
before = throttling().times
end = time.monotonic() + 10
while time.monotonic() < end and throttling().times < before + 3:
    pass
during = watch.look()
print(json.dumps([cpu_quota(), cores(), during.quota_waits, reasons(during, spare_cores())]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    quota, threads, waits, reasons = json.loads(done.stdout)
    assert (quota, threads) == (0.1, 1)
    assert waits >= 3
    assert "CPU quota was used up" in reasons[0]
    assert not any("other programs" in reason for reason in reasons)


def test_libraries_are_told_before_any_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch, NumPy's BLAS and OpenCV look once, when they are imported."""
    monkeypatch.setattr(processor, "cpu_quota", lambda _: 0.5)
    monkeypatch.setattr(processor, "allowed_cores", lambda: 2)
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert [os.environ[name] for name in THREAD_VARIABLES] == ["1", "1"]
    program = "import torch, cv2; print(torch.get_num_threads(), cv2.getNumThreads())"
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1"]


def test_nothing_limits_this_process_beyond_its_cores() -> None:
    quota = cpu_quota()
    assert cores() == (allowed_cores() if quota is None else max(1, min(allowed_cores(), int(quota))))
