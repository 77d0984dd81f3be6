"""Artifacts on ONNX Runtime."""

from __future__ import annotations

import json
import platform
import re
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache, partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import ArtifactError, FallbackError
from toolchain.runtimes import Answer, Execution, Infer
from toolchain.runtimes.devices import Device, RuntimeFamily, cores
from toolchain.runtimes.machine import cpu_flags
from toolchain.runtimes.sharing import Shared
from toolchain.system import telemetry
from toolchain.system.folders import cache_folder

if TYPE_CHECKING:
    import onnxruntime

    from toolchain.runtimes.profiling import Profile

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

_LIBRARIES = {
    PROVIDERS["cuda"]: "see that nvidia-smi works; pip install 'onnxruntime-gpu[cuda,cudnn]'",
    PROVIDERS["tensorrt"]: "pip install tensorrt, in the version that this onnxruntime asks for",
}
"""What brings the libraries that a provider opens when it is first used."""

_RECORD_NODES = "session.record_ep_graph_assignment_info"
"""Makes a session (of ONNX Runtime 1.24 or newer) tell which provider was given which node."""

_BFLOAT16 = "mlas.enable_gemm_fastmath_arm64_bfloat16"
"""Lets matrices be multiplied in bfloat16, on Arm CPUs under Linux; elsewhere it does nothing."""

_OF_SOURCE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |\S*onnxruntime\S*:\d+ [^()]*(\((?:[^()]|\([^()]*\))*\))?( const)? "
)
"""Before what its messages say: a code, and the place and function in its source."""

_MAX_REASON = 400


@cache
def _library() -> Any:
    with telemetry.off():
        import onnxruntime
    return onnxruntime


@cache
def _run_options() -> onnxruntime.RunOptions:
    # Errors are raised as exceptions; ONNX Runtime would also print them.
    options = _library().RunOptions()
    options.log_severity_level = 4
    return options


def parse(text: str) -> str | None:
    """`cpu`, `cuda` and `tensorrt`; the GPUs may have a number (`cuda:1`), the CPU a type (`cpu+bf16`)."""
    kind = re.sub(r"^(cuda|tensorrt):\d+$", r"\1", text)
    return text if kind in {*PROVIDERS, "cpu+bf16"} else None


def probe(target: str) -> Device:
    """Whether this ONNX Runtime has the provider of `target`, and what that needs is here."""
    name = f"ort:{target}"
    if find_spec("onnxruntime") is None:
        return Device(name, False, "ONNX Runtime (onnxruntime) is not installed", "pip install onnxruntime")
    target, _, way = target.partition("+")
    if way and not (platform.system() == "Linux" and "bf16" in cpu_flags()):
        reason = "ONNX Runtime computes in bfloat16 only on Arm CPUs that have it, under Linux"
        return Device(name, False, reason, f"leave out +{way}")
    kind, _, number = target.partition(":")
    provider = PROVIDERS[kind]
    if provider not in _library().get_available_providers():
        return Device(
            name,
            False,
            f"this onnxruntime {_library().__version__} has no {provider}",
            "with an NVIDIA GPU: pip uninstall onnxruntime && pip install onnxruntime-gpu",
        )
    if provider != PROVIDERS["cpu"] and not _opens(provider, number or "0"):
        reason = f"{provider} is in this onnxruntime, but the libraries or the GPU that it needs are not here"
        return Device(name, False, reason, _LIBRARIES[provider])
    return Device(name, True)


@cache
def _opens(provider: str, number: str = "") -> bool:
    """Whether a session gets `provider` on the GPU of that number.

    A package lists it even where the libraries it needs are missing.
    """
    options = _library().SessionOptions()
    options.log_severity_level = 4
    # What ONNX Runtime prints for those who call it directly is said by the device's reason.
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = (provider, {"device_id": number} if number else {})
        session = _library().InferenceSession(_smallest_network(), options, providers=[wanted])
    return bool(session.get_providers()[0] == provider)


def _smallest_network() -> bytes:
    """One ReLU of one number."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "smallest", ends[:1], ends[1:])
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(model.SerializeToString())


def providers_of(target: str, artifact: Artifact) -> list[tuple[str, dict[str, str]]]:
    """Providers for a session on `target`, the wanted one first, with their options.

    TF32 rounds what a float32 network multiplies to 10 bits, so it is off in CUDA's; TensorRT's has no option for
    it (docs/how-to/gpu.md). TensorRT leaves what it cannot compute to CUDA. Its engines take minutes to build, so
    they are kept.
    """
    kind, _, number = target.partition(":")
    gpu = {"device_id": number or "0"}
    cuda = (PROVIDERS["cuda"], gpu | {"use_tf32": "0"})
    if kind == "cuda":
        return [cuda]
    if kind == "tensorrt":
        folder = cache_folder() / "tensorrt" / artifact.sha256[:16]
        folder.mkdir(parents=True, exist_ok=True)
        cached = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
        return [(PROVIDERS["tensorrt"], gpu | cached), cuda]
    return [(PROVIDERS[kind], {})]


class OrtRuntime:
    """An ONNX Runtime session. `provider_effective` is the provider that the session really has."""

    def __init__(self, artifact: Artifact, target: str, threads: int, *, exclusive: bool = False) -> None:
        self.device: str = f"ort:{target}"
        self.threads: int = threads or cores()
        target, _, way = target.partition("+")
        providers = providers_of(target, artifact)
        wanted = providers[0][0]
        self._path = artifact.path
        self._open = partial(_open, artifact, providers, exclusive, way == "bf16")
        session = self._open(self.threads)
        # A session falls back to the CPU without an error: answers would be right, latencies wrong.
        self.provider_effective: str = str(session.get_providers()[0])
        nodes = _nodes(session)
        if not nodes and wanted != PROVIDERS["cpu"]:
            nodes = _profiled(artifact, providers)
        if self.provider_effective != wanted or (nodes and wanted not in nodes):
            really = ", ".join(nodes) or self.provider_effective
            raise FallbackError(
                f"ONNX Runtime fell back to {really}; {wanted} runs nothing",
                "Look at the driver, CUDA and cuDNN that this onnxruntime was built for.",
            )
        spinning = exclusive and self.threads > 1 if target == "cpu" else None
        self.execution: Execution = Execution(streams=1, spinning=spinning, nodes=nodes)
        # Several threads may run one session, but each of them then computes beside the session's own threads.
        crowd = partial(_streams, self._open, artifact.path, self.threads, self.threads)
        self._shared = Shared(
            lambda: partial(_infer, session, artifact.path), crowd if target == "cpu" and self.threads > 1 else None
        )

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        return self._shared(images)

    def streams(self, count: int, batch: int) -> list[Infer]:
        return _streams(self._open, self._path, self.threads, count)


def _open(
    artifact: Artifact,
    providers: list[tuple[str, dict[str, str]]],
    spin: bool,
    bfloat16: bool,
    threads: int,
    profile: str = "",
    optimised: str = "",
) -> onnxruntime.InferenceSession:
    """A session, which writes a `profile` into a file whose name begins so, and its `optimised` graph into one."""
    library = _library()
    options = library.SessionOptions()
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    if optimised:
        options.optimized_model_filepath = optimised
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(_RECORD_NODES, "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.add_session_config_entry(_BFLOAT16, str(int(bfloat16)))
    try:
        session = library.InferenceSession(artifact.model, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no common public base
        raise ArtifactError(f"{artifact.path}: ONNX Runtime cannot load it: {_reason(error)}") from None
    # Else it would go on with other providers when one fails, and say so on stdout alone.
    session.disable_fallback()
    return session


def _reason(error: Exception) -> str:
    """What ONNX Runtime says for people, in one line."""
    return _OF_SOURCE.sub("", " ".join(str(error).split()))[:_MAX_REASON]


def _streams(
    open_session: Callable[[int], onnxruntime.InferenceSession], path: Path, threads: int, count: int
) -> list[Infer]:
    # The threads that run the session then do the computing.
    session = open_session(max(1, threads // count))
    return [partial(_infer, session, path)] * count


def _infer(session: onnxruntime.InferenceSession, path: Path, images: NDArray[np.uint8]) -> Answer:
    try:
        logits, probabilities = session.run(["logits", "probabilities"], {"image": images}, _run_options())
    except Exception as error:  # as in `_open`
        raise ArtifactError(
            f"{path}: ONNX Runtime cannot run it: {_reason(error)}",
            "Export it again; if memory is short, run fewer photographs at once.",
        ) from None
    return Answer(logits, probabilities)


def _nodes(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """How many nodes each provider was given; empty where this ONNX Runtime does not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    given: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        given[part.ep_name] += len(part.get_nodes())
    return dict(given)


def _profiled(artifact: Artifact, providers: list[tuple[str, dict[str, str]]]) -> dict[str, int]:
    """The same for an ONNX Runtime before 1.24, which tells only in a profile of an inference."""
    height, width = artifact.card.preprocess.height, artifact.card.preprocess.width
    with TemporaryDirectory(prefix="edgetl-profile-") as folder:
        session = _open(artifact, providers, False, False, 1, str(Path(folder, "profile")))
        _infer(session, artifact.path, np.zeros((1, height, width, 3), np.uint8))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = {(event["name"], event["args"]["provider"]) for event in events if event.get("args", {}).get("provider")}
    return dict(Counter(provider for _, provider in ran))


def load(artifact: Artifact, target: str, threads: int, batch: int, *, exclusive: bool = False) -> OrtRuntime:
    """Load `artifact`; `target` is `cpu`, `cpu+bf16`, `cuda`, `cuda:1`, `tensorrt`. A session takes any `batch`."""
    return OrtRuntime(artifact, target, threads, exclusive=exclusive)


def _profile() -> Profile:
    from toolchain.runtimes.onnxruntime_profile import profile

    return profile


FAMILY = RuntimeFamily(
    name="ort",
    title="ONNX Runtime",
    targets=("cpu", "cpu+bf16", "cuda", "tensorrt"),
    parse=parse,
    probe=probe,
    load=load,
    preload=_library,
    profile=_profile,
    packages={"onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")},
)
