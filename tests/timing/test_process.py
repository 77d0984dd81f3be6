from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from toolchain.runtimes.devices import Device
from toolchain.timing.process import WorkerError, WorkerProcess
from toolchain.timing.protocol import Load, Loaded

LIMIT_S = 60.0


def python(program: str) -> WorkerProcess:
    return WorkerProcess(program)


def failure(worker: WorkerProcess, limit_s: float = LIMIT_S) -> str:
    with pytest.raises(WorkerError) as caught:
        worker.ask("probe", "ort:cpu", Device, limit_s)
    assert not caught.value.unavailable
    worker.close()
    return caught.value.reason


def test_real_worker_answers_again_and_again() -> None:
    worker = WorkerProcess()
    for _ in range(2):
        assert worker.ask("probe", "ort:cpu", Device, LIMIT_S) == Device("ort:cpu", True)
    worker.close()


def test_what_libraries_print_does_not_disturb_the_answers() -> None:
    worker = python(
        "import os; from toolchain.timing import worker\n"
        "old = worker.Worker.probe\n"
        "def probe(self, name):\n"
        "    print('noise', flush=True); os.write(1, b'more noise\\n')\n"
        "    return old(self, name)\n"
        "worker.Worker.probe = probe\n"
        "worker.main()"
    )
    assert worker.ask("probe", "ort:cpu", Device, LIMIT_S).available
    worker.close()


def test_death_is_told_with_the_last_words() -> None:
    program = "import sys; print('a\\nout of luck', file=sys.stderr); sys.exit(7)"
    assert failure(python(program)) == "the process ended during probe: exit code 7, out of luck"


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_killed_from_outside() -> None:
    worker = python("import time; time.sleep(60)")
    os.kill(worker.pid, signal.SIGKILL)
    assert "killed by SIGKILL" in failure(worker)


def test_crash_of_native_code() -> None:
    assert "SIG" in failure(python("import os; os.abort()")) or os.name != "posix"


def test_no_answer_in_time_ends_the_worker() -> None:
    worker = python("import time; time.sleep(60)")
    assert "no answer in 0.5 s" in failure(worker, 0.5)


@pytest.mark.parametrize("line", ["hello", '{"answer": {"name": 3}}', "[]", ""])
def test_nonsense(line: str) -> None:
    assert "nonsense" in failure(python(f"input(); print({line!r}, flush=True); input()"))


def test_closing_twice_and_asking_a_closed_worker_are_harmless() -> None:
    worker = WorkerProcess()
    worker.close()
    worker.close()


def test_refusal_is_told_apart_from_failure(tmp_path: Path) -> None:
    worker = WorkerProcess()
    order = Load(str(tmp_path / "model.onnx"), "0" * 64, "ort:cpu", 1, 1, "", ())
    with pytest.raises(WorkerError, match="does not exist") as caught:
        worker.ask("load", order, Loaded, LIMIT_S)
    assert not caught.value.unavailable
    assert worker.ask("probe", "ort:cpu", Device, LIMIT_S).available
    worker.close()


def test_a_folder_called_toolchain_where_the_user_stands_is_not_taken_for_edgetl(tmp_path: Path) -> None:
    (tmp_path / "toolchain").mkdir()
    (tmp_path / "toolchain" / "__init__.py").write_text("raise SystemExit(9)")
    program = (
        "import os; from toolchain.timing.process import WorkerProcess\n"
        "from toolchain.runtimes.devices import Device\n"
        f"os.chdir({str(tmp_path)!r}); worker = WorkerProcess()\n"
        "print(worker.ask('probe', 'ort:cpu', Device, 60.0).available); worker.close()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr


def test_memory_is_the_workers_own() -> None:
    """getrusage would begin with what this process held when it started the worker."""
    held = np.ones(400_000_000, np.uint8)
    worker = WorkerProcess()
    peak = worker.ask("peak_rss_mb", None, float, LIMIT_S)
    worker.close()
    assert held.nbytes / 1e6 > 399
    assert 10 < peak < 350
