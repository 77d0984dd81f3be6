"""Which package OpenCV comes from. Four packages bring the folder `cv2`, and pip installs them over one another.

Imports no cv2: it may be what is broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from toolchain.doctor import Missing

PACKAGES = (
    "opencv-contrib-python",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-python-headless",
)
"""All four do for edgetl. The first of those that are there is the one to keep: it holds what the others hold."""


@dataclass(frozen=True)
class OpenCV:
    """`folder` is what `import cv2` finds, `version` what lies in it; `packages` (name, version) claim it."""

    folder: str | None
    version: str
    packages: tuple[tuple[str, str], ...]

    @property
    def said(self) -> str:
        """For people: which one, and where from."""
        if self.folder is None:
            return "not installed"
        owners = ", ".join(f"{name} {version}" for name, version in self.packages) or "none of pip's packages"
        return f"{self.version or 'of an unknown version'}, from {owners}: {self.folder}"


def look(paths: Sequence[str] | None = None) -> OpenCV:
    """What is installed: on `paths`, or where this Python looks."""
    found: dict[str, str] = {}
    folder = _folder(paths)
    for distribution in distributions() if paths is None else distributions(path=[*paths]):
        name = (distribution.name or "").lower().replace("_", "-")
        # One that is installed elsewhere (for the user, by the system) is hidden and does no harm.
        if name in PACKAGES and folder and Path(str(distribution.locate_file("cv2"))).resolve() == folder.resolve():
            found.setdefault(name, distribution.version)
    order = sorted(found.items(), key=lambda item: PACKAGES.index(item[0]))
    return OpenCV(str(folder) if folder else None, _version(folder) if folder else "", tuple(order))


def problem(found: OpenCV) -> Missing | None:
    """What is wrong with it, and the lines that mend it; None where nothing is."""
    names = [name for name, _ in found.packages]
    if len(names) > 1:
        keep, what = names[0], f"{' and '.join(names)} lie in one folder, each over the other: {found.folder}"
    elif names and found.version and not _same(found.version, found.packages[0][1]):
        keep, number = found.packages[0]
        what = f"{keep} {number} is installed, and another OpenCV, {found.version}, lies in its folder"
    else:
        return None
    fix = f"pip uninstall -y {' '.join(names)} && pip install --no-deps {keep}"
    return Missing(f"one OpenCV ({what})", fix, necessary=False)


def will_not_load(error: ImportError) -> tuple[str, str]:
    """What is wrong with a cv2 that does not load, and what to do: it lacks a library of the system."""
    names = [name for name, _ in look().packages]
    headless = "opencv-contrib-python-headless" if any("contrib" in name for name in names) else PACKAGES[-1]
    swap = f"pip uninstall -y {' '.join(names) or 'opencv-python'} && pip install --no-deps {headless}"
    return f"OpenCV does not load: {error}", f"Install what it lacks (apt install libgl1 libglib2.0-0), or: {swap}"


def is_of_opencv(error: BaseException) -> bool:
    """Whether an ImportError came from within cv2, which is there."""
    trace = error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).parent.name == "cv2":
            return isinstance(error, ImportError)
        trace = trace.tb_next
    return False


def _folder(paths: Sequence[str] | None) -> Path | None:
    if paths is not None:
        return next((Path(path) / "cv2" for path in paths if (Path(path) / "cv2").is_dir()), None)
    try:
        spec = find_spec("cv2")
    except ValueError:  # a module that was put there by hand
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


def _version(folder: Path) -> str:
    """As its own `version.py` has it; empty where there is none (built from source)."""
    try:
        lines = (folder / "version.py").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    values = (line.partition("=")[2] for line in lines if line.startswith("opencv_version"))
    return next(values, "").strip().strip("\"'")


def _same(one: str, other: str) -> bool:
    """Whether versions agree in as many parts as both have: 5.0.0.93 is 5.0.0."""
    return all(a == b for a, b in zip(one.split("."), other.split("."), strict=False))
