"""The float run itself in PyTorch, as the baseline that an artifact is compared with.

The one module of the device half that needs torch; torch is imported only when a torch device is asked for.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import BadInputError, MissingError
from toolchain.runs import WEIGHTS_FILE, Run, read_run
from toolchain.runtimes import Answer, Execution, Infer
from toolchain.runtimes.devices import Device, RuntimeFamily, cores
from toolchain.runtimes.sharing import Shared
from toolchain.system import files
from toolchain.system.installation import install

if TYPE_CHECKING:
    import torch
    from torch import nn

PRECISIONS = {"bf16": "bfloat16", "fp16": "float16"}
WAYS = (*PRECISIONS, "compile", "graph")
"""How PyTorch may run a network, added to its device with `+`; see `TorchRuntime`."""

_WARM_UPS = 3
"""Inferences before a CUDA graph is captured, on a stream of their own, as PyTorch asks."""

_NUMBER = Lock()


def parse(text: str) -> str | None:
    """A device of PyTorch, perhaps with a number (`cuda:1`), and ways of running it (`cpu+bf16+compile`)."""
    place, *ways = text.split("+")
    if not re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", place):
        return None
    if unknown := set(ways) - set(WAYS):
        raise BadInputError(
            f"torch:{text}: PyTorch runs in no way called {', '.join(sorted(unknown))}",
            f"Choose from: {', '.join(WAYS)}; for example torch:cpu+bf16+compile.",
        )
    return text


def probe(target: str) -> Device:
    """Whether PyTorch is here and finds the device."""
    name = f"torch:{target}"
    if find_spec("torch") is None:
        return Device(name, False, "PyTorch is not installed", install("train"))
    import torch

    place, *ways = target.split("+")
    kind, _, number = place.partition(":")
    if "graph" in ways and kind != "cuda":
        return Device(name, False, "only CUDA has graphs", "leave out +graph")
    if kind == "cpu":
        return Device(name, True)
    if kind == "cuda" and torch.cuda.is_available():
        if int(number or 0) < torch.cuda.device_count():
            return Device(name, True)
        return Device(name, False, f"there are {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and torch.backends.mps.is_available():
        return Device(name, True)
    return Device(name, False, f"torch {torch.__version__} finds no {kind.upper()} device")


def preload() -> None:
    import toolchain.backbones.networks  # noqa: F401 - takes torch and torchvision along


class TorchRuntime:
    """The network of the run that `artifact` was exported from, channels last: eager and float32, or else as said.

    After the device come ways of running, each with a `+`: `bf16` or `fp16` for weights and arithmetic, `compile`
    for `torch.compile`, `graph` for a CUDA graph of `batch` images (other numbers run without).
    """

    def __init__(
        self, artifact: Artifact, target: str, threads: int, batch: int, *, exclusive: bool = False
    ) -> None:
        folder = artifact.path.parent
        weights = folder / WEIGHTS_FILE
        if artifact.card.precision != "float32":
            raise BadInputError(
                f"PyTorch runs the float32 run, not a file of {artifact.card.precision}", "Name the float artifact."
            )
        if not weights.is_file() or files.sha256_of(weights) != artifact.card.source.run_sha256:
            raise MissingError(
                f"{folder} does not hold the run that {artifact.path.name} was exported from",
                f"PyTorch needs the run folder: run.json and {WEIGHTS_FILE} beside the artifact.",
            )
        import torch

        from toolchain.backbones.networks import load_network

        run = read_run(folder)
        place, *ways = target.split("+")
        self.device: str = f"torch:{target}"
        self.threads: int = threads or cores()
        device = torch.device(place)
        kind = getattr(torch, next((PRECISIONS[way] for way in ways if way in PRECISIONS), "float32"))
        network = _Network(load_network(folder, run), run, device, kind, compiled="compile" in ways)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        how = "+".join(ways) or "eager"
        self.provider_effective: str = f"torch {torch.__version__} {how} on {name}"
        if "graph" in ways:
            spec = artifact.card.preprocess
            shape = (batch, spec.height, spec.width, 3)
            network.captured = _Captured(network.compute, torch.zeros(shape, dtype=torch.uint8, device=device))
        precision = str(kind).removeprefix("torch.")
        self.execution: Execution = Execution(
            streams=1, inference_precision=precision, static=network.captured is not None
        )
        if device.type == "cpu":
            # A compiled network is compiled for one number of threads.
            many = self.threads > 1 and "compile" not in ways
            crowd = partial(_streams, network, self.threads) if many else None
            alone = _on_callers_thread if exclusive else _on_own_thread
            self._shared = Shared(partial(alone, network, self.threads), crowd)
        else:
            self._shared = Shared(lambda: network)

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        return self._shared(images)

    def streams(self, count: int, batch: int) -> list[Infer]:
        return []


class _Network:
    """The network on its device. Threads may run it side by side, but for what was captured."""

    def __init__(
        self, trained: nn.Module, run: Run, device: torch.device, kind: torch.dtype, *, compiled: bool
    ) -> None:
        import torch

        network = trained.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network = network.to(kind)
        self._network: Callable[[torch.Tensor], torch.Tensor] = torch.compile(network) if compiled else network
        self._kind = kind
        self._device = device
        self._temperature = run.temperature
        self.captured: _Captured | None = None

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(images if images.flags.writeable else images.copy())
            if self.captured is not None and self.captured.pixels.shape == pixels.shape:
                logits, probabilities = self.captured(pixels)
            else:
                logits, probabilities = self.compute(pixels.to(self._device))
            return Answer(logits.cpu().numpy(), probabilities.cpu().numpy())

    def compute(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        from toolchain.backbones.networks import normalised

        with without_tf32(self._device):
            logits = self._network(normalised(pixels).to(self._kind)).float()
            return logits, torch.softmax(logits / self._temperature, dim=1)


def without_tf32(device: torch.device) -> AbstractContextManager[None]:
    """Let cuDNN multiply float32 as it is; by default its convolutions round it to TF32's 10 bits."""
    import torch

    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return flags


def _streams(network: _Network, count: int) -> list[Infer]:
    return [_on_own_thread(network, 1) for _ in range(count)]


def _on_callers_thread(network: Infer, threads: int) -> Infer:
    """`network` in the thread that calls, whose number of threads it changes.

    GCC's OpenMP lets threads sleep at every barrier where a program has more of them than cores, as soon as a
    second thread computes with all cores: MobileNetV2 then takes about twice as long on two cores.
    """
    import torch

    def infer(images: NDArray[np.uint8]) -> Answer:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return network(images)

    return infer


def _on_own_thread(network: Infer, threads: int) -> Infer:
    """`network` in a thread that computes with so many threads.

    PyTorch keeps that number for each thread, and OpenMP the threads themselves. So the program's own stay as they
    are; and after a fork a new thread computes, where an old one would wait for threads that are gone.
    """
    jobs: SimpleQueue[tuple[Future[Answer], NDArray[np.uint8]] | None] = SimpleQueue()
    Thread(target=_work, args=(network, threads, jobs), name="edgetl torch", daemon=True).start()

    def infer(images: NDArray[np.uint8]) -> Answer:
        answer: Future[Answer] = Future()
        jobs.put((answer, images))
        return answer.result()

    # The thread ends when `infer` is freed. At the end of the interpreter it need not.
    weakref.finalize(infer, jobs.put, None).atexit = False
    return infer


def _work(network: Infer, threads: int, jobs: SimpleQueue[tuple[Future[Answer], NDArray[np.uint8]] | None]) -> None:
    _compute_with(threads)
    while job := jobs.get():
        answer, images = job
        try:
            answer.set_result(network(images))
        except BaseException as error:  # it belongs to the caller, whatever it is
            answer.set_exception(error)
        del job, answer, images


def _compute_with(threads: int) -> None:
    """Let this thread compute with so many threads, and leave the number that new threads begin with as it is."""
    import torch

    with _NUMBER:
        before = torch.get_num_threads()
        if threads != before:
            torch.set_num_threads(threads)
            other = Thread(target=torch.set_num_threads, args=(before,))
            other.start()
            other.join()


class _Captured:
    """A CUDA graph of `compute`: launched as one, from and into memory that stays where it is."""

    def __init__(
        self, compute: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], pixels: torch.Tensor
    ) -> None:
        import torch

        self.pixels = pixels
        # Streams and captures are those of the current device, which need not be this one.
        with torch.inference_mode(), torch.cuda.device(pixels.device):
            beside = torch.cuda.Stream(pixels.device)  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream(pixels.device))
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    compute(pixels)
            torch.cuda.current_stream(pixels.device).wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._results = compute(pixels)

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.pixels.copy_(pixels)
        self._graph.replay()
        return self._results


def load(artifact: Artifact, target: str, threads: int, batch: int, *, exclusive: bool = False) -> TorchRuntime:
    """Load the run beside `artifact`; `target` is `cpu`, `cuda`, `cuda:1` or `mps`, and how (`cpu+bf16`).

    `exclusive`: it computes in the thread that calls, and changes that thread's number of threads.
    """
    return TorchRuntime(artifact, target, threads, batch, exclusive=exclusive)


FAMILY = RuntimeFamily(
    name="torch",
    title="PyTorch",
    targets=("cpu", "cuda"),
    parse=parse,
    probe=probe,
    load=load,
    preload=preload,
    of_run=True,
    packages={"torch": ("torch",), "torchvision": ("torchvision",)},
)
