"""What this machine can run, and what is missing: the findings of `edgetl doctor`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from toolchain.artifact import find_artifacts, read_artifact
from toolchain.artifact.card import Precision
from toolchain.browser.runtime import outlook
from toolchain.datasets.catalogue import DATASETS, data_root
from toolchain.datasets.named import NamedDataset
from toolchain.doctor import Missing
from toolchain.doctor.opencv import OpenCV, look, problem
from toolchain.errors import ArtifactError, MissingError
from toolchain.images.cache import CacheState, cache_folder, cache_state
from toolchain.plugins import Plugin, plugged_in
from toolchain.recommended import Record, measured_elsewhere, still_there
from toolchain.recommended import read as read_recommended
from toolchain.runs.ready_made import ready_made_artifact
from toolchain.runtimes import default_device, machine
from toolchain.runtimes.devices import Device, known_devices
from toolchain.system import interpreter
from toolchain.system.installation import install
from toolchain.system.progress import Reporter
from toolchain.timing.process import probe_devices

CAMERA_LIMIT_S = 5.0
PAIRING_LIMIT_S = 120.0
ASKED_INDICES = (0, 1, 2)
"""Cameras that are tried where the system does not list them."""
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""With these OpenVINO computes float files in bfloat16 (`openvino:CPU+bf16`)."""

ARM_INT8_FLAGS = frozenset({"asimddp", "i8mm"})
INT8_FLAGS = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"}) | ARM_INT8_FLAGS
"""With these a processor multiplies and adds int8 in one instruction."""

_PAIRING = """
import torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
if kept != [0, 2]:
    raise SystemExit(f"torchvision.ops.nms answered {kept}")
"""
_CAMERA = """
import os, sys
os.environ["OPENCV_LOG_LEVEL"] = "SILENT"
import cv2
capture = cv2.VideoCapture(int(sys.argv[1]))
got, frame = capture.read()
print(f"{frame.shape[1]} x {frame.shape[0]}" if got else "")
sys.stdout.flush()
os._exit(0)
"""


@dataclass(frozen=True)
class Pairing:
    """Whether torch and torchvision work together: tried, since their version numbers do not tell."""

    status: Literal["works", "broken", "not installed", "not tried"]
    reason: str = ""


@dataclass(frozen=True)
class Camera:
    """A camera by the number that `edgetl camera --source` takes; `frame` is the size of its pictures."""

    source: int
    works: bool
    frame: str = ""
    reason: str = ""


@dataclass(frozen=True)
class DataSet:
    """A data set with a name; `path` is null where it is not on this machine, and `fix` what would bring it."""

    name: str
    path: str | None
    fix: str


@dataclass(frozen=True)
class Recommendation:
    """The arm that ought to have the lowest latency for one photograph, and why."""

    precision: Precision
    device: str
    why: str


@dataclass(frozen=True)
class DoctorReport:
    """All that `edgetl doctor` found. `works`: nothing necessary is missing."""

    works: bool
    environment: machine.Environment
    int8: str
    fastest: Recommendation
    devices: tuple[Device, ...]
    torch_pairing: Pairing
    cameras: tuple[Camera, ...]
    data_root: str
    data_sets: tuple[DataSet, ...]
    opencv: OpenCV
    cache: CacheState
    ready_made: str | None
    disk_free_mb: float
    missing: tuple[Missing, ...]
    plugins: tuple[Plugin, ...] = ()
    ready_made_caution: str = ""
    """Why the ready-made int8 file may be wrong or slow on this CPU."""
    recommended: Record | None = None
    """What export or bench found for the run that was named."""
    recommended_here: bool = False
    """Whether they found it on such a machine as this one."""
    recommended_elsewhere: str = ""
    """In what that machine differs from this one."""
    recommended_changed: tuple[str, ...] = ()
    """Recommended files that are gone since, or are other ones now."""
    pages: str = ""
    """Whether `export --browser` has what it needs."""
    run_cautions: tuple[str, ...] = ()
    """Why int8 files of the run that was named may be wrong or slow on this CPU."""


def check_up(reporter: Reporter, probe_cameras: bool = False, run: Path | None = None) -> DoctorReport:
    """Look at everything; takes some seconds, most of it for importing the runtimes.

    `run` is a run folder whose recommendation is told. `probe_cameras` tries to open cameras 0 to 2 where the
    system lists none: it may light their lamp.
    """
    found = read_recommended(run) if run is not None else None
    environment = machine.describe()
    devices = probe_devices(known_devices(), reporter)
    with reporter.task("checking torch, cameras and data", 3) as task:
        pairing = check_pairing()
        task.advance()
        cameras = tuple(check_camera(index) for index in camera_indices(probe_cameras))
        task.advance()
        root = data_root()
        data_sets = tuple(_look_for(entry, root) for entry in DATASETS.all().values())
        task.advance()
    disk = next(place for place in (root, *root.parents) if place.exists())
    opencv = look()
    plugins = tuple(plugged_in())
    missing = _gaps(devices, pairing, cameras)
    for one in plugins:
        if one.problem:
            what = f"the plug-in {one.name} (edgetl.{one.kind}, from {one.package}): {one.problem}"
            missing.append(Missing(what, "Update it, or remove it.", necessary=False))
    if gap := problem(opencv):
        missing.append(gap)
    return DoctorReport(
        works=not any(gap.necessary for gap in missing),
        environment=environment,
        int8=machine.int8_outlook(environment.flags),
        fastest=fastest(environment.flags, [device.name for device in devices if device.available]),
        devices=tuple(devices),
        torch_pairing=pairing,
        cameras=cameras,
        data_root=str(root),
        data_sets=data_sets,
        opencv=opencv,
        cache=cache_state(cache_folder()),
        ready_made=_ready_made(),
        disk_free_mb=round(shutil.disk_usage(disk).free / 1e6, 1),
        missing=tuple(missing),
        plugins=plugins,
        ready_made_caution="".join(_cautions(lambda: [ready_made_artifact()])),
        recommended=found,
        recommended_here=found is not None and not measured_elsewhere(found),
        recommended_elsewhere="" if found is None else measured_elsewhere(found),
        recommended_changed=() if run is None or found is None else _changed(run, found),
        pages=outlook(),
        run_cautions=() if run is None else _cautions(lambda: find_artifacts(run)),
    )


def fastest(flags: Collection[str], devices: Collection[str]) -> Recommendation:
    """Guess from the flags (those of `machine.FLAGS` that the processor has) and the devices that were found.

    A rule, not a measurement: `edgetl bench` measures.
    """
    accelerators: tuple[tuple[str, Precision, str], ...] = (
        ("ort:tensorrt", "float32", "TensorRT compiles the network for this GPU"),
        ("ort:cuda", "float32", "a GPU of NVIDIA"),
        ("torch:cuda", "float32", "a GPU of NVIDIA, and no runtime but PyTorch that knows it"),
        ("openvino:NPU", "int8", "an NPU, which computes in int8"),
        ("openvino:GPU", "int8", "a GPU of Intel"),
    )
    for device, precision, why in accelerators:
        if device in devices:
            return Recommendation(precision, device, why)
    device = "openvino:CPU" if "openvino:CPU" in devices else "ort:cpu"
    if ARM_INT8_FLAGS & set(flags) and "ort:cpu" in devices:
        device = "ort:cpu"  # OpenVINO refuses int8 files on Arm
    if found := sorted(INT8_FLAGS & set(flags)):
        why = f"the processor has instructions for int8 ({', '.join(found)})"
        if device == "openvino:CPU" and BFLOAT16_FLAGS & set(flags):
            why += ", and for bfloat16: openvino:CPU+bf16 runs the float file, and may be as fast"
        return Recommendation("int8", device, why)
    if "avx2" in flags and device == "openvino:CPU":
        return Recommendation("int8", device, "AVX2 computes more int8 than floats at once, and OpenVINO uses it")
    return Recommendation("float32", device, "no instructions for int8 are known here")


def check_pairing(program: str = _PAIRING, limit_s: float = PAIRING_LIMIT_S) -> Pairing:
    """Let torchvision run one of its compiled operators, which fails when it was built for another torch."""
    absent = [name for name in ("torch", "torchvision") if find_spec(name) is None]
    if absent:
        return Pairing("not installed", f"{' and '.join(absent)}: only `finetune`, `export` and torch:cpu need it")
    try:
        code, out, err = _run(program, (), limit_s)
    except MissingError as error:
        return Pairing("not tried", error.message)
    if code == 0:
        return Pairing("works")
    said = (err or out).strip().splitlines()
    return Pairing("broken", said[-1] if said else f"exit code {code}")


def camera_indices(probe_cameras: bool, devices: Path = Path("/dev")) -> list[int]:
    """Numbers of the cameras to try: what Linux lists, elsewhere 0 to 2 if asked."""
    listed = sorted(int(path.name[5:]) for path in devices.glob("video*") if path.name[5:].isdigit())
    if listed or not probe_cameras:
        return listed
    return list(ASKED_INDICES)


def check_camera(index: int, program: str = _CAMERA, limit_s: float = CAMERA_LIMIT_S) -> Camera:
    """Take one picture, in a process of its own: a camera that is broken or busy may hang whoever opens it."""
    try:
        code, out, _ = _run(program, (str(index),), limit_s)
    except MissingError as error:
        return Camera(index, False, reason=f"not tried: {error.message}")
    if code is None:
        return Camera(index, False, reason=f"no picture within {limit_s:g} s")
    if code == 0 and out.strip():
        return Camera(index, True, frame=out.strip())
    if os.name == "posix" and Path(f"/dev/video{index}").exists() and not os.access(f"/dev/video{index}", os.R_OK):
        return Camera(index, False, reason="no permission: add yourself to the group `video`")
    return Camera(index, False, reason="it gives no picture")


def _gaps(devices: Sequence[Device], pairing: Pairing, cameras: Sequence[Camera]) -> list[Missing]:
    by_name = {device.name: device for device in devices}
    ort = by_name["ort:cpu"]
    gaps = []
    if not ort.available:
        gaps.append(Missing(f"ort:cpu ({ort.reason})", "pip install --force-reinstall onnxruntime", necessary=True))
    if pairing.status == "broken":
        fix = install("train").replace("pip install", "pip install --force-reinstall")
        gaps.append(Missing(f"torchvision that fits torch ({pairing.reason})", fix, necessary=False))
    elif pairing.status == "not installed":
        gaps.append(Missing("torch and torchvision", install("train"), necessary=False))
    if not any(camera.works for camera in cameras):
        gaps.append(
            Missing("a camera", "edgetl camera --source FILE|URL|FOLDER works without one", necessary=False)
        )
    return gaps


def _cautions(files_of: Callable[[], Iterable[Path]]) -> tuple[str, ...]:
    """Why files may be wrong or slow on this CPU; nothing of what cannot be read."""
    found = []
    with suppress(MissingError, ArtifactError):
        for path in files_of():
            artifact = read_artifact(path)
            device = default_device(artifact)
            found.append(machine.int8_caution(artifact, device) or machine.int8_speed_caution(artifact, device))
    return tuple(filter(None, found))


def _changed(run: Path, found: Record) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.file for one in found.devices if still_there(run, one) is None))


def _ready_made() -> str | None:
    try:
        return str(ready_made_artifact())
    except MissingError:
        return None


def _run(program: str, arguments: Sequence[str], limit_s: float) -> tuple[int | None, str, str]:
    """Exit code (None: it took too long), stdout and stderr of a Python program."""
    command = interpreter.command(program, *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, errors="replace")
    except subprocess.TimeoutExpired:
        return None, "", f"no answer within {limit_s:g} s"
    return done.returncode, done.stdout, done.stderr


def _look_for(entry: NamedDataset, root: Path) -> DataSet:
    found = entry.find(root)
    if found is not None:
        return DataSet(entry.name, str(found), "")
    return DataSet(
        entry.name, None, f"edgetl data fetch {entry.name}" if entry.downloads else "drawn when first used"
    )
