"""One bad input of the corpus: how it is made, which commands meet it, and how they must end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

Words = tuple[str, ...]
Make = Callable[["Stock", Path], None]
"""Draws the input into a folder, which is then the current one."""

GOOD = "good.png"
MODEL = "tiny.onnx"
"""They lie in every folder that an input is drawn into."""


@dataclass(frozen=True)
class Stock:
    """Whole things to copy and then to damage. What takes time is made when it is first asked for."""

    tiny: Path
    """A model file, `tests.artifacts.tiny_artifact`."""
    ir: Path
    """The same as OpenVINO's `.xml`; its `.bin` lies beside it."""
    photographs: Callable[[], Path]
    """A folder of class folders."""
    run: Callable[[], Path]
    """A finished run on `photographs`."""
    unfinished: Callable[[], Path]
    """A run on `photographs` that was interrupted after its first epoch."""


def nothing(stock: Stock, place: Path) -> None:
    """For inputs that are words alone."""


@dataclass(frozen=True)
class Entry:
    """`commands` are given the input one after the other; each must end with one of `codes`.

    `says` must be in what is written to stderr. `leaves` are patterns of paths that a command which fails may leave
    behind all the same. `told_by_error` is false where a failure may be told in the result instead of an error
    line. `around` holds while the commands run.
    """

    id: str
    commands: tuple[Words, ...]
    make: Make = nothing
    codes: tuple[int, ...] = (2,)
    says: str = ""
    leaves: tuple[str, ...] = ()
    told_by_error: bool = True
    result_stays: bool = False
    """Whether stdout has a result besides the error: what was measured is not lost over it."""
    encoding: str = "utf-8"
    apart: bool = False
    """In a process of its own: what ends a process must not end the tests."""
    stdin: bytes = b""
    stdout: str = ""
    """A file to write to in the place of a captured stream."""
    environment: Mapping[str, str] = field(default_factory=dict)
    around: Callable[[Stock, Path], AbstractContextManager[Mapping[str, str]]] | None = None
    """What it yields is put into `commands` for words in braces."""
    limit_s: float = 20.0


def writes(name: str, content: bytes | str) -> Make:
    """Make one file."""

    def make(stock: Stock, place: Path) -> None:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def predict(*images: str, model: str = MODEL) -> Words:
    """Options go first: a name may begin with a dash."""
    return ("predict", "--threads", "1", "--", model, *images)


def camera(source: str, *more: str, model: str = MODEL) -> Words:
    return ("camera", model, f"--source={source}", "--threads", "1", "--frames", "1", *more)
