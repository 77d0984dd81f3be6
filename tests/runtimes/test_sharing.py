"""One classifier in a program with threads, forks and an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from deployed import deployed_run
from numpy.typing import NDArray

import toolchain
from toolchain.classifier import Classifier
from toolchain.errors import BadInputError
from toolchain.runtimes import Answer, sharing
from toolchain.runtimes.sharing import PATIENCE, Shared

DEVICES = ("ort:cpu", "openvino:CPU", "torch:cpu")
THREADS, CALLS = 8, 40


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deployed_run(tmp_path_factory.mktemp("run")).path


def photograph(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture(params=DEVICES)
def classifier(path: Path, request: pytest.FixtureRequest) -> Classifier:
    return toolchain.load(path, request.param, threads=2)


def all_right(classifier: Classifier) -> None:
    photographs = [photograph(number) for number in range(THREADS)]
    expected = [classifier.predict(one).logits for one in photographs]
    assert len({logits.tobytes() for logits in expected}) == THREADS
    begin = threading.Barrier(THREADS)

    def ask(number: int) -> list[NDArray[np.float32]]:
        begin.wait()
        return [classifier.predict(photographs[number]).logits for _ in range(CALLS)]

    with ThreadPoolExecutor(THREADS) as pool:
        for number, answers in enumerate(pool.map(ask, range(THREADS))):
            for logits in answers:
                np.testing.assert_allclose(logits, expected[number], rtol=1e-3, atol=1e-3)


def test_each_thread_gets_the_answer_to_its_own_photograph(classifier: Classifier) -> None:
    all_right(classifier)


def test_batches_of_every_size_from_threads(classifier: Classifier) -> None:
    photographs = [photograph(number) for number in range(4)]
    expected = np.stack([classifier.predict(one).logits for one in photographs])

    def ask(count: int) -> None:
        for _ in range(10):
            found = [one.logits for one in classifier.predict_batch(photographs[:count])]
            np.testing.assert_allclose(found, expected[:count], rtol=1e-3, atol=1e-3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, [1, 2, 3, 4] * 2))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX")
@pytest.mark.parametrize(
    ("device", "shared_before"), [("torch:cpu", False), *((device, True) for device in DEVICES)]
)
def test_a_forked_process_goes_on(path: Path, device: str, shared_before: bool) -> None:
    """In an interpreter of its own: a fork that hangs must not take the tests with it."""
    code = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]!r}
from pathlib import Path
import toolchain
from runtimes.test_sharing import all_right, photograph
classifier = toolchain.load({str(path)!r}, {device!r}, threads=2)
expected = classifier.predict(photograph(1))
if {shared_before}:
    all_right(classifier)
child = os.fork()
if not child:
    signal.alarm(60)
    answer = classifier.predict(photograph(1))
    all_right(classifier)
    two = classifier.predict_batch([photograph(1), photograph(2)])
    assert abs(two[0].logits - expected.logits).max() < 1e-3
    os._exit(0 if abs(answer.logits - expected.logits).max() < 1e-3 else 9)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_threads_that_load_at_once(path: Path, device: str) -> None:
    code = f"""
import threading, toolchain
begin = threading.Barrier(8)
def load():
    begin.wait()
    toolchain.load({str(path)!r}, {device!r}, threads=1)
threads = [threading.Thread(target=load) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_types_are_met_by_one_thread_only() -> None:
    """Six fresh interpreters, in which eight threads read a card at once: one in five crashed each time."""
    code = """
import threading, msgspec
from artifacts import tiny_card
from toolchain.system import strict
from toolchain.artifact.card import Card
data = msgspec.json.encode(tiny_card())
begin = threading.Barrier(8)
def read():
    begin.wait()
    assert strict.decode(data, Card).labels
threads = [threading.Thread(target=read) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    for _ in range(6):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_a_daemon_thread_does_not_spoil_the_end(path: Path, device: str) -> None:
    code = f"""
import threading, time, cv2, numpy, toolchain
classifier = toolchain.load({str(path)!r}, {device!r}, threads=2)
photograph = cv2.imencode(".png", numpy.zeros((300, 300, 3), numpy.uint8))[1].tobytes()
def ask():
    while True:
        classifier.predict(photograph)
for _ in range(4):
    threading.Thread(target=ask, daemon=True).start()
time.sleep(0.3)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_pytorch_alone_on_a_machine_computes_in_the_thread_that_calls(path: Path) -> None:
    torch = pytest.importorskip("torch")
    shared = toolchain.load(path, "torch:cpu", threads=1).predict(photograph(0))
    before, known = torch.get_num_threads(), set(threading.enumerate())
    try:
        alone = toolchain.load(path, "torch:cpu", threads=1, exclusive=True)
        np.testing.assert_allclose(alone.predict(photograph(0)).logits, shared.logits, rtol=1e-5)
        assert torch.get_num_threads() == 1
        assert set(threading.enumerate()) <= known
    finally:
        torch.set_num_threads(before)


def test_pytorchs_number_of_threads_is_left_alone(path: Path) -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    state = torch.get_rng_state()
    for threads in (before + 1, 1):
        toolchain.load(path, "torch:cpu", threads=threads).predict(photograph(0))
        with ThreadPoolExecutor(1) as another:
            assert another.submit(torch.get_num_threads).result() == torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_each_classifier_computes_with_its_own_number_of_threads(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from toolchain.runtimes import torch as runtime

    def told(images: NDArray[np.uint8]) -> Answer:
        count = torch.get_num_threads()
        return Answer(np.full((1, 1), count, np.float32), images[:, 0, 0].astype(np.float32))

    asked = {threads: runtime._on_own_thread(told, threads) for threads in (3, 1, 2)}  # type: ignore[arg-type]
    for threads, infer in asked.items():
        assert infer(photograph(0)[None]).logits[0, 0] == threads


def test_streams_are_made_only_where_callers_keep_meeting() -> None:
    made: list[int] = []
    going, go = threading.Event(), threading.Event()

    def alone(images: NDArray[np.uint8]) -> Answer:
        going.set()
        assert go.wait(10)
        return Answer(images, images)

    def crowd() -> list[sharing.Infer]:
        made.append(1)
        return [lambda images: Answer(images, images)] * 2

    shared = Shared(lambda: alone, crowd)  # type: ignore[arg-type,return-value]
    images = np.zeros((1, 2), np.uint8)
    with ThreadPoolExecutor(PATIENCE + 2) as pool:
        first = pool.submit(shared, images)
        assert going.wait(10)
        others = [pool.submit(shared, images) for _ in range(PATIENCE)]
        time.sleep(0.1)
        assert not made
        assert shared(images) is not None  # one too many: it makes the streams, and need not wait
        assert made == [1]
        go.set()
        for one in (first, *others):
            one.result(10)
    assert made == [1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("threads", [-1, "2", 1.5, True, None, 10**9])
def test_numbers_of_threads_that_are_none(path: Path, device: str, threads: object) -> None:
    with pytest.raises(BadInputError, match="threads must be a whole number"):
        toolchain.load(path, device, threads)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers(path: Path) -> None:
    assert toolchain.load(path, threads=np.int64(2)).runtime.threads == 2  # type: ignore[arg-type]


def test_by_default_no_thread_is_bound_to_a_core_and_none_spins(path: Path) -> None:
    """Processes with fewer threads than cores would all take the same cores."""
    for exclusive in (False, True):
        assert toolchain.load(path, "openvino:CPU", exclusive=exclusive).runtime.execution.pinning == exclusive
        assert toolchain.load(path, "ort:cpu", 2, exclusive=exclusive).runtime.execution.spinning == exclusive


@pytest.mark.slow
def test_interruption_reaches_the_caller(path: Path) -> None:
    if os.name != "posix":
        pytest.skip("signals are POSIX")
    code = f"""
import os, signal, threading, toolchain, numpy
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts tests in the background ignores it
classifier = toolchain.load({str(path)!r}, "torch:cpu", threads=1)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        classifier.predict(numpy.zeros((32, 32, 3), numpy.uint8))
except KeyboardInterrupt:
    print("interrupted", classifier.predict(numpy.zeros((32, 32, 3), numpy.uint8)).label != "")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "interrupted True\n", (signal.SIGINT, done.stderr)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="looks at the cores of each thread, as Linux tells"
)
@pytest.mark.parametrize("device", DEVICES)
def test_a_classifier_of_one_thread_may_compute_on_any_core(path: Path, device: str) -> None:
    """Else two processes of one thread each would compute on the same core, and the other stay idle."""
    every = os.sched_getaffinity(0)
    if len(every) < 2:
        pytest.skip("there is one core")
    # A classifier of another test that was told to be exclusive has left threads that keep their cores.
    others = {thread.name for thread in Path("/proc/self/task").iterdir()}
    classifier = toolchain.load(path, device, threads=1)
    stop = threading.Event()

    def compute() -> set[int]:
        while not stop.is_set():
            classifier.runtime.infer(np.zeros((1, 32, 32, 3), np.uint8))
        return os.sched_getaffinity(0)

    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(compute)
        seen = []
        for _ in range(100):
            for thread in Path("/proc/self/task").iterdir():
                if thread.name in others:
                    continue
                with suppress(ProcessLookupError):
                    seen.append(os.sched_getaffinity(int(thread.name)))
            time.sleep(0.002)
        stop.set()
        assert computing.result() == every
    assert all(cores == every for cores in seen)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX")
def test_openvino_refuses_to_load_again_after_a_fork(path: Path) -> None:
    """It would wait for ever, now and then."""
    code = f"""
import os, signal, sys, toolchain
from toolchain.errors import BadInputError
toolchain.load({str(path)!r}, "openvino:CPU")
child = os.fork()
if not child:
    signal.alarm(60)
    try:
        toolchain.load({str(path)!r}, "openvino:CPU")
    except BadInputError as error:
        os._exit(0 if "Load before the fork" in error.hint else 8)
    os._exit(9)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, (done.returncode, done.stderr)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="signals are POSIX")
def test_a_signal_is_survived_whatever_classifiers_have_gone(path: Path) -> None:
    """OpenVINO leaves a freed stack for signals behind two of its cores that go in the order they were made."""
    code = f"""
import os, signal, toolchain
from toolchain.runtimes.devices import probe
first, second = (toolchain.load({str(path)!r}, "openvino:CPU") for _ in range(2))
probe("openvino:CPU")
del first
del second
signal.signal(signal.SIGALRM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGALRM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
