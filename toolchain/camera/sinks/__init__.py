"""Outputs of the camera: what a sink is, how one is opened, and which there are.

Adding an output takes one module: a class that inherits from `Sink`, and its options, which open it. Register the
options in `SINKS`, or in a package of your own as an entry point of the group `edgetl.sinks`. People then switch
it on by `edgetl camera --sink NAME=VALUE`:

    @dataclass(frozen=True)
    class BellOptions:
        device: str                       # VALUE, as it was typed; raise BadInputError if it makes no sense

        def open(self, context: SinkContext) -> Bell:
            return Bell(self.device)

    class Bell(Sink):
        name = "ringing the bell"         # in messages: "ringing the bell failed: ..."
        delivery = "newest"               # in a thread of its own; may take its time

        def __init__(self, device: str) -> None: ...

        def show(self, answered: Answered) -> None: ...

        def close(self) -> None: ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from toolchain.errors import BadInputError
from toolchain.plugins import Registry

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from toolchain.artifact import Artifact
    from toolchain.camera.answering import Answered
    from toolchain.camera.drawing import Drawn
    from toolchain.camera.engine import Engine
    from toolchain.camera.frames import FrameSource
    from toolchain.camera.loop import Control
    from toolchain.system.progress import Reporter

Delivery = Literal["all", "newest", "loop", "main"]
"""Which answers a sink gets, and in which thread `show` and `idle` are called.

- `all`: in a thread of the sink's own, each answer, without its pixels. Some thousand answers wait for a slow sink;
  then the oldest are lost. Lost answers are counted and lead to exit code 1.
- `newest`: in a thread of the sink's own, the newest answer, without its pixels. The sink may take its time.
- `loop`: in the thread that answers, each answer. `show` must return at once; the pixels must stay as they are.
- `main`: in the thread that called `watch`, as windows need it, the newest answer. The pixels must stay as they
  are.
"""


class AnswerLostError(Exception):
    """Raised by `show` when this answer could not be written but the next one may be."""


@dataclass(frozen=True)
class SinkReport:
    """What a sink reports when the camera has ended."""

    unwritten: str = ""
    """What was asked for and was not written to its end, in words; makes the exit code 1."""
    lost: int = 0
    """How many answers were not written."""
    file: Path | None = None
    """The file that was written."""
    note: str = ""
    """A line for the summary."""


class Sink(ABC):
    """Something that is done with the answers: print, show, record, send on.

    A sink is opened by its options, before the source is. Then `start` is called once, `show` and `idle` again and
    again, `close` once, and `report` last. If `show` or `idle` raise in a thread of the sink's own, that answer is
    lost and the next one is tried; in the other threads, that ends the camera.
    """

    name: str = "a sink"
    """What it does, for messages."""
    delivery: Delivery = "newest"
    essential: bool = False
    """Whether the camera ends when this sink fails."""

    def start(self, source: FrameSource) -> None:  # noqa: B027 - not all need it
        """The source is open; answers follow. Called in the main thread."""

    @abstractmethod
    def show(self, answered: Answered) -> None:
        """Handle an answer."""

    def idle(self, state: str) -> None:  # noqa: B027 - not all need it
        """Called often while there is no new answer; `state` says why, if there is a reason."""

    def close(self) -> None:  # noqa: B027 - not all need it
        """No answers follow. Called in the main thread; a `show` that still runs elsewhere must return soon."""

    def report(self) -> SinkReport:
        """Called after `close`."""
        return SinkReport()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class SinkContext:
    """What a sink may use. `control` and `engine` are for sinks by which a person ends or changes the camera."""

    reporter: Reporter
    engine: Engine
    artifact: Artifact
    source: str
    """The name of the source, as it may be shown: without passwords."""
    every_frame: bool
    """Whether each frame counts, as of a file that is read as fast as possible."""
    control: Control

    @cached_property
    def drawn(self) -> Drawn:
        """Draws answers onto their pictures, once for all sinks that show them."""
        from toolchain.camera.drawing import Drawn

        return Drawn()


class SinkOptions(Protocol):
    """The options of one sink, checked as far as that is possible without opening anything."""

    def open(self, context: SinkContext) -> Sink:
        """Raises BadInputError or MissingError if the sink cannot be opened."""


def _makes_options(found: object) -> Callable[[str], SinkOptions]:
    if not callable(found):
        raise TypeError(f"{type(found).__name__} found, where a function of VALUE that returns options is expected")
    return found


SINKS: Registry[Callable[[str], SinkOptions]] = Registry(
    "sinks",
    {
        "collect": "toolchain.camera.sinks.collect:from_text",
        "command": "toolchain.camera.sinks.command:CommandOptions",
        "log": "toolchain.camera.sinks.log:from_text",
        "mqtt": "toolchain.camera.sinks.mqtt:from_text",
        "record": "toolchain.camera.sinks.recorder:from_text",
        "web": "toolchain.camera.sinks.web:from_text",
        "webhook": "toolchain.camera.sinks.webhook:from_text",
    },
    _makes_options,
)
"""The sinks that `--sink NAME=VALUE` knows: each makes its options of VALUE, which may be empty."""


def sink_options(text: str) -> SinkOptions:
    """The options that `NAME` or `NAME=VALUE` stands for.

    Raises BadInputError for an unknown name, and what the options raise; MissingError if another package's sink
    cannot be loaded.
    """
    name, _, value = text.partition("=")
    if name not in SINKS:
        raise BadInputError(f"there is no sink {name!r}", f"Sinks are: {', '.join(sorted(SINKS.names()))}.")
    return SINKS.get(name)(value)
