"""The process of one arm: `python -m toolchain.timing.worker`, driven by the runner (see `process`).

It does one thing at a time and answers only once its own threads have gone to sleep: thread pools spin for a while
after an inference, and would slow down the arm whose turn comes next.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import ArtifactError, BadInputError, EdgetlError, FallbackError, MissingError
from toolchain.runtimes import Infer
from toolchain.runtimes.devices import Device, family_of, is_cpu, parse_device, probe
from toolchain.runtimes.profiling import WARM_UP, Kernel
from toolchain.system import files, strict
from toolchain.timing.noise import Meter
from toolchain.timing.protocol import (
    THROUGHPUT_BATCHES,
    Failure,
    Flood,
    Load,
    Loaded,
    Profiling,
    Reply,
    Request,
    Samples,
    Span,
    Throughput,
    spread,
)

if TYPE_CHECKING:
    from toolchain.artifact import Artifact

INPUTS = 64
"""Pictures that the timed inferences take turns with."""
FRAMES = 8
ANSWER_BATCH = 8
LONG_S = 2.0
"""Ways of asking for more images at once are not tried on devices that would take longer for one turn of them."""
SETTLE_S = 0.05
BLOCK = 5
STABLE = 0.05
WARM_UP_S = 2.0
QUIET_WINDOW_S = 0.02
QUIET_LIMIT_S = 1.0
MIN_PROFILED = 12
MAX_PROFILED = 200
"""Inferences that a profile counts."""


class Worker:
    """One artifact on one device, with its inputs."""

    def __init__(self) -> None:
        self.meter: Meter = Meter()

    def load(self, order: Load) -> Loaded:
        """Open the artifact and run it once. Raises as `toolchain.runtimes.open_runtime`."""
        from toolchain import runtimes
        from toolchain.classifier import Classifier

        artifact = self._take(order)
        if artifact.card.proven_on(order.device):
            # So that `load_ms` is the network's own, and not that of importing a library.
            family_of(order.device).preload()
        start = time.perf_counter()
        # Only one arm runs at a time, so it has the machine to itself.
        runtime = runtimes.open_runtime(
            artifact, order.device, threads=order.threads, batch=order.batch, exclusive=True
        )
        load_ms = _ms_since(start)
        self.classifier: Classifier = Classifier(artifact.card, runtime)
        first_ms = self.infer_once()
        return Loaded(load_ms, first_ms, runtime.provider_effective, runtime.threads, runtime.execution)

    def _take(self, order: Load) -> Artifact:
        """The artifact that is meant; its inputs are kept."""
        from toolchain.artifact import read_artifact
        from toolchain.images.preprocess import is_whole

        artifact = read_artifact(Path(order.artifact))
        if artifact.sha256 != order.sha256:
            raise ArtifactError(f"{order.artifact} has changed since the benchmark began")
        spec = artifact.card.preprocess
        shape = (-1, spec.height, spec.width, 3)
        self.pictures: NDArray[np.uint8] = np.memmap(order.pictures, np.uint8, "r").reshape(shape)
        self.inputs: NDArray[np.uint8] = np.array(self.pictures[spread(len(self.pictures), INPUTS)])
        encoded = [Path(photograph).read_bytes() for photograph in order.photographs]
        # Another machine may lack what decodes some kinds, such as HEIC.
        self.encoded: list[bytes] = list(filter(is_whole, encoded))
        self.batch: int = order.batch
        self.turn: int = 0
        return artifact

    def profile(self, order: Profiling) -> list[Kernel]:
        """The kernels of an artifact with the time of each; see `toolchain.runtimes.profiling`.

        Raises as `toolchain.runtimes.open_runtime`, and BadInputError where the device has no profiler.
        """
        artifact, load = self._take(order.load), order.load
        name, target = parse_device(load.device)
        family = family_of(name)
        if family.profile is None or artifact.format not in family.formats:
            raise BadInputError(f"layers of {artifact.path.name} are not timed on {load.device}")
        found = probe(load.device)
        if not found.available:
            raise MissingError(f"{found.name}: {found.reason}", found.install)
        return family.profile()(artifact, target, load.threads, load.batch, self._batches_for(order.seconds))

    def _batches_for(self, seconds: float) -> Iterator[NDArray[np.uint8]]:
        start = time.perf_counter()
        for number in range(WARM_UP + MAX_PROFILED):
            if number >= WARM_UP + MIN_PROFILED and time.perf_counter() - start > seconds:
                return
            yield self.next_batch(self.batch)

    def warm_up(self, _: None) -> Samples:
        """Run until two blocks of inferences in a row take the same, or two seconds have gone; the last block."""
        start = time.perf_counter()
        before = np.inf
        while True:
            block = tuple(self.infer_once() for _ in range(BLOCK))
            median = float(np.median(block))
            if abs(median - before) < STABLE * median or time.perf_counter() - start > WARM_UP_S:
                return Samples(block, self.wait_until_quiet())
            before = median

    def round(self, samples: int) -> Samples:
        """Time single inferences, each on another picture.

        A few that are not timed come first: the arm that had its turn before has emptied the caches.
        """
        self.settle(self.infer_once)
        self.meter.start()
        taken = tuple(self.infer_once() for _ in range(samples))
        # Another device's energy is not the processor's, and is not counted.
        joules = self.meter.joules() if is_cpu(self.classifier.runtime.device) else None
        return Samples(taken, self.wait_until_quiet(), joules)

    def end_to_end(self, samples: int) -> Samples:
        """Time everything from an encoded photograph to a named answer: decode, resize, infer, name."""
        return self.predictions(self.encoded, samples)

    def from_frame(self, samples: int) -> Samples:
        """Time everything from a decoded frame to a named answer: resize, infer, name."""
        from toolchain.images.preprocess import decode

        return self.predictions([decode(data) for data in self.encoded[:FRAMES]], samples)

    def predictions(self, sources: Sequence[bytes | NDArray[np.uint8]], samples: int) -> Samples:
        """Time single predictions, each from another of `sources`."""

        def once() -> float:
            source = sources[self.turn % len(sources)]
            self.turn += 1
            start = time.perf_counter()
            self.classifier.predict(source)
            return _ms_since(start)

        if not sources:
            return Samples((), self.wait_until_quiet())
        self.settle(once)
        taken = tuple(once() for _ in range(samples))
        return Samples(taken, self.wait_until_quiet())

    def throughput(self, order: Flood) -> Throughput:
        """Images per second, in the way that is given or, of some batches and numbers of requests, the fastest.

        What was fastest of several is measured anew: the best of several tries is better than the way is.
        """
        way = order.way or max(
            (Throughput(self.flood(*way, order.seconds / 2), way[0], len(way[1])) for way in self.ways()),
            key=lambda one: one.ips,
        )
        runtime = self.classifier.runtime
        streams: list[Infer] = [runtime.infer] if way.requests == 1 else runtime.streams(way.requests, way.batch)
        found = Throughput(self.flood(way.batch, streams, order.seconds), way.batch, way.requests)
        self.wait_until_quiet()
        return found

    def ways(self) -> list[tuple[int, list[Infer]]]:
        """Batches, and what takes requests at once. A slow device is asked for a single image, if for more would
        take long."""
        runtime = self.classifier.runtime
        image_s = self.infer_once() / 1e3 / self.batch
        first, *batches = sorted({*THROUGHPUT_BATCHES, self.batch})
        batches = [first, *(batch for batch in batches if batch * image_s <= LONG_S)]
        ways: list[tuple[int, list[Infer]]] = [(batch, [runtime.infer]) for batch in batches]
        if runtime.threads > 1:
            together = [batch for batch in batches if runtime.threads * batch * image_s <= LONG_S]
            ways += [(batch, streams) for batch in together if (streams := runtime.streams(runtime.threads, batch))]
        return ways

    def flood(self, batch: int, streams: list[Infer], seconds: float) -> float:
        """Images per second when each stream is given `batch` images as soon as it has answered the last."""
        images = [self.next_batch(batch) for _ in range(len(streams) + 1)]

        def run(stream: Infer, until: float) -> int:
            done = 0
            # Once at least: on a busy machine a thread may begin after its time.
            while not done or time.perf_counter() < until:
                # A copy, as an application would hand over.
                stream(images[done % len(images)].copy())
                done += 1
            return done

        if len(streams) == 1:
            # In this thread, as latency is measured: PyTorch is slower in another one.
            streams[0](images[0])
            start = time.perf_counter()
            return run(streams[0], start + seconds) * batch / (time.perf_counter() - start)
        with ThreadPoolExecutor(len(streams)) as pool:
            # The first inferences allocate.
            list(pool.map(lambda stream: stream(images[0]), streams))
            start = time.perf_counter()
            done = sum(pool.map(lambda stream: run(stream, start + seconds), streams))
            return done * batch / (time.perf_counter() - start)

    def answers(self, span: Span) -> list[int]:
        """The class that the classifier names for each picture of a span, as an index into the card's labels."""
        labels = {label: index for index, label in enumerate(self.classifier.card.labels)}
        named = []
        for start in range(span.start, span.stop, ANSWER_BATCH):
            images = np.array(self.pictures[start : min(start + ANSWER_BATCH, span.stop)])
            answer = self.classifier.runtime.infer(images)
            named += [labels[prediction.label] for prediction in self.classifier.interpret(answer, top=1)]
        return named

    def peak_rss_mb(self, _: None) -> float:
        """The most memory that this process has held so far, in MB (10^6 bytes)."""
        return peak_rss_mb()

    def probe(self, name: str) -> Device:
        """Look for a device; see `toolchain.runtimes.devices.probe`."""
        return probe(name)

    def infer_once(self) -> float:
        """One inference on the next pictures; milliseconds until the answer has been read."""
        images = self.next_batch(self.batch)
        start = time.perf_counter()
        answer = self.classifier.runtime.infer(images)
        answer.probabilities.argmax(axis=1)
        return _ms_since(start)

    def next_batch(self, batch: int) -> NDArray[np.uint8]:
        """A fresh copy of the next pictures, as an application would hand them over."""
        chosen = (self.turn * batch + np.arange(batch)) % len(self.inputs)
        self.turn += 1
        return self.inputs[chosen]

    def settle(self, work: Callable[[], float]) -> None:
        """Do `work` untimed, a few times."""
        start = time.perf_counter()
        for done in range(1000):
            work()
            if done >= 2 and time.perf_counter() - start > SETTLE_S:
                return

    def wait_until_quiet(self) -> bool:
        """Sleep until this process uses less than a tenth of a core; False when it does not come to rest."""
        start = time.perf_counter()
        while time.perf_counter() - start < QUIET_LIMIT_S:
            used = time.process_time()
            time.sleep(QUIET_WINDOW_S)
            if time.process_time() - used < QUIET_WINDOW_S / 10:
                return True
        return False


ARGUMENTS: dict[str, Any] = {
    "load": Load,
    "profile": Profiling,
    "warm_up": None,
    "round": int,
    "end_to_end": int,
    "from_frame": int,
    "throughput": Flood,
    "answers": Span,
    "peak_rss_mb": None,
    "probe": str,
}


def serve(requests: Iterable[bytes], replies: IO[bytes], server: object, arguments: Mapping[str, Any]) -> None:
    """Let the methods of `server` do what each line asks for, until the other side closes.

    `arguments` are the types of what they take, by name.
    """
    for line in requests:
        request = files.from_json(line, Request)
        replies.write(files.to_json(_reply(server, arguments, request), indent=0))
        replies.flush()


def _reply(server: object, arguments: Mapping[str, Any], request: Request) -> Reply:
    try:
        argument = strict.convert(request.argument, arguments[request.do])
        answer = getattr(server, request.do)(argument)
        return Reply(answer=answer)
    except EdgetlError as error:
        reason = f"{error.message}. {error.hint}" if error.hint else error.message
        # A file for another runtime, or a device that is not here, is unavailable; a broken file is a failure.
        absent = isinstance(error, MissingError) and not isinstance(error, FallbackError)
        unavailable = absent or type(error) is BadInputError
        return Reply(failure=Failure(reason, unavailable))
    except Exception as error:  # whatever a runtime raises is this arm's failure, and no other's
        # The first line of OpenVINO's errors only names its source file.
        said = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from ")]
        return Reply(failure=Failure(f"{type(error).__name__}: {said[0]}" if said else repr(error)))


def peak_rss_mb() -> float:
    """The most memory that this process has held so far, in MB (10^6 bytes)."""
    try:
        # Not getrusage: on Linux its figure includes what the parent held before exec.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    # Bytes on macOS, kilobytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    # Ctrl-C reaches the whole group of processes; the runner is the one to end the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, stdout_for_replies(), Worker(), ARGUMENTS)


def stdout_for_replies() -> IO[bytes]:
    """A file for stdout, which belongs to the replies from now on: what libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


if __name__ == "__main__":
    main()
