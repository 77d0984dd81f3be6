from __future__ import annotations

import os
from pathlib import Path

import pytest

from toolchain import doctor
from toolchain.doctor import report as checkup
from toolchain.timing.process import WorkerProcess, probe_devices


def test_nothing_necessary_is_missing_where_the_tests_run() -> None:
    assert doctor.missing_packages() == []


def test_missing_package_is_named_with_the_line_that_installs_it() -> None:
    (gap,) = doctor.missing_packages({"numpy": "numpy", "no_such_module_here": "no-such-package"})
    assert (gap.what, gap.fix) == ("the package no-such-package", "pip install no-such-package")
    assert gap.necessary


def test_pairing_that_does_not_work_is_told_in_its_own_words() -> None:
    pytest.importorskip("torchvision")
    broken = checkup.check_pairing("raise RuntimeError('operator torchvision::nms does not exist')")
    assert broken == checkup.Pairing("broken", "RuntimeError: operator torchvision::nms does not exist")
    slow = checkup.check_pairing("import time; time.sleep(60)", limit_s=0.5)
    assert (slow.status, slow.reason) == ("broken", "no answer within 0.5 s")


@pytest.mark.slow
def test_pairing_here_works() -> None:
    pytest.importorskip("torchvision")
    assert checkup.check_pairing() == checkup.Pairing("works")


def test_cameras_are_those_that_the_system_lists(tmp_path: Path) -> None:
    for name in ("video10", "video0", "videoX", "video", "vhost"):
        (tmp_path / name).touch()
    assert checkup.camera_indices(False, tmp_path) == [0, 10]
    assert checkup.camera_indices(False, tmp_path / "none") == []
    assert checkup.camera_indices(True, tmp_path / "none") == [0, 1, 2]


@pytest.mark.parametrize(
    ("program", "works", "told"),
    [
        ("print('640 x 480')", True, "640 x 480"),
        ("print('')", False, "it gives no picture"),
        ("import os; os.abort()", False, "it gives no picture"),
        ("import time; time.sleep(60)", False, "no picture within 0.5 s"),
    ],
)
def test_a_camera_that_is_broken_or_hangs_does_not_stop_the_checkup(program: str, works: bool, told: str) -> None:
    found = checkup.check_camera(97, program, limit_s=0.5 if "sleep" in program else 30)
    assert (found.works, found.frame or found.reason) == (works, told)


def test_a_camera_that_is_not_there() -> None:
    assert checkup.check_camera(97, limit_s=60) == checkup.Camera(97, False, reason="it gives no picture")


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_driver_that_crashes_is_an_absent_device_and_the_others_are_looked_for() -> None:
    class Crashing(WorkerProcess):
        def ask(self, do, argument, *rest):  # type: ignore[no-untyped-def]
            if argument == "openvino:GPU":
                os.kill(self.pid, 11)
            return super().ask(do, argument, *rest)

    found = probe_devices(["ort:cpu", "openvino:GPU", "openvino:CPU"], launch=Crashing)
    assert [(device.name, device.available) for device in found] == [
        ("ort:cpu", True),
        ("openvino:GPU", False),
        ("openvino:CPU", True),
    ]
    assert "SIGSEGV" in found[1].reason
