"""The camera inside another program: `watch`, and sinks of one's own."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.artifacts import tiny_artifact
from tests.clips import colour_of, read_clip, write_clip
from tests.datasets.datasets_support import Remembering
from toolchain.camera.answering import Answered
from toolchain.camera.frames import FrameSource
from toolchain.camera.session import CameraSettings, watch
from toolchain.camera.sinks import AnswerLostError, Delivery, Sink, SinkContext, SinkReport
from toolchain.camera.sinks.log import LogOptions
from toolchain.camera.sinks.recorder import RecordOptions
from toolchain.errors import BadInputError, MissingError

COLOURS = ["red"] * 20 + ["green"] * 20 + ["blue"] * 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx and clip.mp4. Not to be written to."""
    folder = tmp_path_factory.mktemp("session")
    tiny_artifact(folder / "tiny.onnx")
    write_clip(folder / "clip.mp4", COLOURS, fps=60)
    return folder


class Kept(Sink):
    """Remembers what was done with it, and in which thread."""

    def __init__(self, delivery: Delivery, context: SinkContext) -> None:
        self.delivery = delivery
        self.name = f"keeping {delivery}"
        self.context = context
        self.numbers: list[int] = []
        self.pixels: set[int] = set()
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self.fps = 0.0

    def start(self, source: FrameSource) -> None:
        self.calls.append("start")
        self.fps = source.fps

    def show(self, answered: Answered) -> None:
        if not self.numbers:
            self.calls.append("show")
        self.threads.add(threading.current_thread().name)
        self.numbers.append(answered.frame.number)
        self.pixels.add(answered.frame.bgr.size)

    def close(self) -> None:
        self.calls.append("close")

    def report(self) -> SinkReport:
        self.calls.append("report")
        return SinkReport()


@dataclass
class KeptOptions:
    delivery: Delivery
    opened: list[Kept] = field(default_factory=list)

    def open(self, context: SinkContext) -> Kept:
        self.opened.append(Kept(self.delivery, context))
        return self.opened[0]


def test_a_program_gets_each_answer_in_its_own_thread(place: Path) -> None:
    seen: list[tuple[int, str | None, str]] = []

    def act(answered: Answered) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append((answered.frame.number, answered.prediction.answer, colour_of(answered.frame.bgr)))

    report = watch(place / "tiny.onnx", place / "clip.mp4", on_answer=act, every_frame=True)
    assert [number for number, _, _ in seen] == list(range(60))
    assert [seen[index][1:] for index in (19, 39, 59)] == [("red", "red"), ("green", "green"), ("blue", "blue")]
    assert report.summary.ended == "end"
    assert report.summary.frames_answered == 60
    assert not report.unwritten


def test_false_ends_it_and_an_error_is_raised(place: Path) -> None:
    report = watch(
        place / "tiny.onnx",
        place / "clip.mp4",
        on_answer=lambda answered: answered.frame.number < 9,
        every_frame=True,
    )
    assert report.summary.ended == "quit"

    def broken(answered: Answered) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        watch(place / "tiny.onnx", place / "clip.mp4", on_answer=broken)


def test_signals_stay_the_programs_own(place: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    handlers: list[object] = []
    report = watch(
        place / "tiny.onnx",
        place / "clip.mp4",
        on_answer=lambda answered: handlers.append(signal.getsignal(signal.SIGTERM)),
        frames=1,
        every_frame=True,
    )
    assert handlers == [before], "the last answer is handed on, too"
    assert report.summary.ended == "frames"


def test_outputs_are_written_beside_the_callback(place: Path, tmp_path: Path) -> None:
    log, video = tmp_path / "answers.jsonl", tmp_path / "out.mp4"
    sinks = [LogOptions(log), RecordOptions(video)]
    report = watch(place / "tiny.onnx", place / "clip.mp4", sinks=sinks, every_frame=True)
    assert [json.loads(line)["frame"] for line in log.read_text().splitlines()] == list(range(60))
    assert len(read_clip(video)[1]) == 60
    assert report.recorded == video
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "out.mp4"]


@pytest.mark.parametrize(
    ("delivery", "thread", "with_pixels"),
    [
        ("all", "keeping all", False),
        ("newest", "keeping newest", False),
        ("loop", "answer", True),
        ("main", "MainThread", True),
    ],
)
def test_a_sink_is_called_where_it_asked_to_be(
    place: Path, delivery: Delivery, thread: str, with_pixels: bool
) -> None:
    options = KeptOptions(delivery)
    watch(place / "tiny.onnx", place / "clip.mp4", sinks=[options], every_frame=True)
    [kept] = options.opened
    assert kept.threads == {thread}
    assert kept.numbers == list(range(60))
    assert kept.pixels == ({64 * 48 * 3} if with_pixels else {0})
    assert kept.calls == ["start", "show", "close", "report"]
    assert kept.fps == pytest.approx(60)
    assert kept.context.source == str(place / "clip.mp4")


@pytest.mark.parametrize("delivery", ["all", "newest"])
def test_the_camera_goes_on_without_a_sink_that_fails(place: Path, delivery: Delivery) -> None:
    class Broken(Kept):
        def show(self, answered: Answered) -> None:
            raise OSError(28, "No space left on device")

    @dataclass
    class BrokenOptions(KeptOptions):
        def open(self, context: SinkContext) -> Kept:
            return Broken(self.delivery, context)

    reporter = Remembering()
    report = watch(
        place / "tiny.onnx",
        place / "clip.mp4",
        sinks=[BrokenOptions(delivery)],
        every_frame=True,
        reporter=reporter,
    )
    assert report.summary.frames_answered == 60
    assert [line for line in reporter.warned if "No space left" in line]
    assert report.lines_unwritten == (60 if delivery == "all" else 0)
    assert "No space left" in report.unwritten[0]


def test_an_answer_that_was_lost_is_counted_and_the_next_one_is_tried(place: Path) -> None:
    class Forgetful(Kept):
        def show(self, answered: Answered) -> None:
            if answered.frame.number % 10 == 3:
                raise AnswerLostError("the broker is away")
            super().show(answered)

    @dataclass
    class ForgetfulOptions(KeptOptions):
        def open(self, context: SinkContext) -> Kept:
            self.opened.append(Forgetful(self.delivery, context))
            return self.opened[0]

    options = ForgetfulOptions("all")
    report = watch(place / "tiny.onnx", place / "clip.mp4", sinks=[options], every_frame=True)
    assert len(options.opened[0].numbers) == 54
    assert report.lines_unwritten == 6
    assert "the broker is away" in report.unwritten[0]


@pytest.mark.parametrize("delivery", ["all", "newest", "loop"])
def test_files_are_closed_before_receivers_that_may_hang(place: Path, tmp_path: Path, delivery: Delivery) -> None:
    """`docker stop` kills after ten seconds, and a recording without its end has lost what came last."""
    found: list[str] = []

    class Hanging(Kept):
        def close(self) -> None:
            found.extend(sorted(path.name for path in tmp_path.iterdir()))

    @dataclass
    class HangingOptions(KeptOptions):
        def open(self, context: SinkContext) -> Kept:
            return Hanging(self.delivery, context)

    files = [RecordOptions(tmp_path / "out.mp4"), LogOptions(tmp_path / "answers.jsonl")]
    watch(place / "tiny.onnx", place / "clip.mp4", sinks=[*files, HangingOptions(delivery)], every_frame=True)
    assert found == ["answers.jsonl", "out.mp4"]


def test_what_cannot_be_opened_is_raised_and_leaves_nothing(place: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        watch(place / "tiny.onnx", tmp_path / "none.mp4", sinks=[LogOptions(tmp_path / "log.jsonl")])
    with pytest.raises(MissingError, match="camera 97"):
        watch(place / "tiny.onnx", 97, sinks=[RecordOptions(tmp_path / "out.mp4")])
    assert not list(tmp_path.iterdir())


def test_two_outputs_never_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with pytest.raises(BadInputError, match="cannot be the log and the recording"):
        CameraSettings(sinks=(RecordOptions(path), LogOptions(path)))
