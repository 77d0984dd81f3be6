"""Files of an earlier export that a new one has not replaced: they are set aside, since they would be preferred."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from toolchain.artifact import REJECTED_FILE, int8_names, read_artifact
from toolchain.artifact.card import Source
from toolchain.errors import ArtifactError, EdgetlError
from toolchain.system.progress import Reporter


def made_of(path: Path) -> list[Path]:
    """The files that are written beside an ONNX file, whether they are there or not."""
    return [path.with_suffix(suffix) for suffix in (".frame.onnx", ".xml", ".bin", ".tflite")]


def int8_files(float_file: Path, devices: Iterable[str]) -> list[Path]:
    """Those that an export may have written beside `float_file` for `devices`."""
    stem = float_file.with_suffix(".int8.onnx")
    names = [name for device in devices for name in int8_names(device)]
    return [stem, *(stem.with_suffix(f".{name}.onnx") for name in dict.fromkeys(names))]


def own_int8_file(float_file: Path, device: str, source: Source) -> Path:
    """Where the int8 file for `device` alone belongs: `.int8.openvino.onnx`, or `.int8.openvino-gpu.onnx` where the
    first of these names is that of a file of the same network for another device of OpenVINO."""
    stem = float_file.with_suffix(".int8.onnx")
    whole, family = (stem.with_suffix(f".{name}.onnx") for name in int8_names(device))
    is_taken = is_of(family, source) and not serves(family, device) and bool(read_artifact(family).card.runtimes)
    return whole if is_taken else family


def is_of(path: Path, source: Source) -> bool:
    """Whether a file holds the network that came from `source`."""
    with suppress(ArtifactError):
        return read_artifact(path).card.source == source
    return False


def serves(path: Path, device: str) -> bool:
    """Whether a file is proven on `device`."""
    with suppress(ArtifactError):
        return read_artifact(path).card.proven_on(device)
    return False


def of_others(float_file: Path, devices: Iterable[str], source: Source) -> list[Path]:
    """The files beside `float_file` that hold another network than the one that came from `source`."""
    int8 = int8_files(float_file, devices)
    converted = [float_file.with_suffix(suffix) for suffix in (".fp16.onnx", ".w8.onnx")]
    originals = [float_file, *int8, *converted]
    paths = [*originals[1:], *(made for file in originals for made in made_of(file))]
    paths.append(float_file.with_name(REJECTED_FILE))
    return [path for path in paths if path.suffix != ".bin" and _is_of_another(path, source)]


def _is_of_another(path: Path, source: Source) -> bool:
    with suppress(EdgetlError):  # it is no artifact, or of a runtime that is not installed
        theirs = read_artifact(path).card.source
        # Cards of the first versions do not say it.
        return None not in (theirs.run_sha256, source.run_sha256) and theirs.run_sha256 != source.run_sha256
    return False


@contextmanager
def replacing(originals: Iterable[Path], reporter: Reporter) -> Iterator[None]:
    """Where the block writes one of the files `originals`, set aside in the end what was made of the one before and
    was not written anew itself; also where the block is interrupted."""
    originals = list(originals)
    before = {path: _state(path) for one in originals for path in (one, *made_of(one))}
    try:
        yield
    finally:
        for original in originals:
            if _state(original) not in (None, before[original]):
                set_aside([path for path in made_of(original) if _state(path) == before[path]], reporter)


def _state(path: Path) -> tuple[int, int] | None:
    """What changes with a file's content; None where there is none."""
    with suppress(FileNotFoundError):
        there = path.stat()
        return there.st_ino, there.st_mtime_ns
    return None


def set_aside(paths: Iterable[Path], reporter: Reporter) -> None:
    """Rename those of `paths` that are there."""
    for path in paths:
        if path.suffix == ".xml":
            set_aside([path.with_suffix(".bin")], reporter)
        if path.is_file():
            older = path.with_name(f"{path.name}.older")
            path.replace(older)
            reporter.warn(f"{path.name} was of an earlier export; it is {older.name} now")
