"""Recording as H.264 in MP4, by PyAV: at a constant rate, whatever the rate of the answers."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.camera.answering import Answered
from toolchain.camera.drawing import Drawn
from toolchain.camera.frames import USUAL_FPS, BgrImage, FrameSource
from toolchain.camera.sinks import Delivery, Sink, SinkContext, SinkReport
from toolchain.camera.threads import DropOldestQueue, Worker
from toolchain.errors import BadInputError, MissingError
from toolchain.system import claims
from toolchain.system.installation import install
from toolchain.system.progress import Reporter, Silent

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

MIN_FPS = 5.0
"""Slower sources, such as a folder of images, are recorded at the usual rate, which all players can play."""
MAX_GAP_S = 60.0
"""A longer gap (the loop was paused) is shortened to this in the recording."""
KEY_FRAMES_S = 2.0
"""Seconds between key frames. A recording that is cut off is whole up to the last one."""
CLOSE_LIMIT_S = 20.0
POLL_S = 0.2

MAX_WAITING = 8
"""How many pictures wait for the encoder."""

ENCODING = {"preset": "superfast", "crf": "23", "bf": "0"}
"""x264 on one thread, which leaves the others to the network. B-frames would delay the first picture."""


@dataclass(frozen=True)
class RecordOptions:
    """What is shown is recorded in `path`, an MP4 file; an older one is replaced."""

    path: Path
    role = "the recording"

    def __post_init__(self) -> None:
        if self.path.suffix.lower() != ".mp4":
            raise BadInputError(f"{self.path}: recordings are MP4 files", "Give it a name that ends in .mp4.")
        if self.path.is_dir():
            raise BadInputError(f"{self.path} is a folder", "Name a file: --record FILE.mp4.")

    def open(self, context: SinkContext) -> Recorder:
        return Recorder(self.path, context.reporter, every=context.every_frame, drawn=context.drawn)


def part_of(path: Path) -> Path:
    """The file that a recording is written to until it ends."""
    return path.with_suffix(f".part{path.suffix}")


def from_text(value: str) -> RecordOptions:
    """The options that `--sink record=FILE.mp4` stands for."""
    return RecordOptions(Path(value))


class Recorder(Sink):
    """Writes pictures in real time: each is repeated for as long as it was shown, or left out.

    All pictures have the size of the first, which is even in both directions. A thread of its own encodes them, so
    that `show` returns at once. Pictures that it has no time for are left out, unless `every` picture counts.

    The recording is written to `NAME.part.mp4` beside `path`, and gets its name when it is closed, however that
    comes. If there was no picture, there is no file. A process that was killed leaves `NAME.part.mp4`, which lacks
    the last two seconds at most; it stays until another recording of that name has a picture.
    Raises BadInputError if `path` cannot be written, and MissingError without PyAV. A later failure ends the
    recording (see `failure`); what was recorded before it is kept.
    """

    name = "recording"
    delivery: Delivery = "main"

    def __init__(
        self, path: Path, reporter: Reporter | None = None, *, every: bool = False, drawn: Drawn | None = None
    ) -> None:
        try:
            import av  # noqa: F401
        except ImportError:
            raise MissingError("recording needs PyAV, which is not installed", install("record")) from None
        self._path = path
        self._part = part_of(path)
        self._reporter = reporter or Silent()
        self._drawn = drawn or Drawn()
        self._fps = self._source_fps = USUAL_FPS
        self._pictures: DropOldestQueue[tuple[BgrImage, float]] = DropOldestQueue(MAX_WAITING, every=every)
        self._thread = Worker(self._run, "record")
        self._video: _Video | None = None
        self._picture: BgrImage | None = None
        self._time_s = 0.0
        self._cut_s = 0.0
        self.failure: Exception | None = None
        """What ended the recording early, such as a full disk."""
        self.kept: bool = False
        """Whether there is a file in the end."""
        with ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                hint = "Wait until it has ended, or name another file."
                stack.enter_context(claims.writing(path, "recording it", hint))
                self._found = self._part.exists()
                self._part.open("ab").close()  # what a killed process has left stays until there is a picture
            except OSError as error:
                raise BadInputError(f"{path} cannot be written: {error.strerror}", "Name another place.") from None
            self._claim = stack.pop_all()

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return self._video.frames if self._video else 0

    def start(self, source: FrameSource) -> None:
        self._source_fps = source.fps
        self._fps = source.fps if source.fps >= MIN_FPS else USUAL_FPS
        self._thread.start()

    def show(self, answered: Answered) -> None:
        self.put(self._drawn(answered), answered.frame.time_s)

    def put(self, picture: BgrImage, time_s: float) -> None:
        """Record `picture` as shown from `time_s` on. It must stay as it is."""
        self._pictures.put((picture, time_s))

    def close(self) -> None:
        with self._claim:
            try:
                self._finish()
            finally:  # after a second Ctrl-C, too
                self._keep()

    def report(self) -> SinkReport:
        unwritten = f"{self._path}: {self.failure}" if self.failure is not None else ""
        return SinkReport(unwritten, file=self._path if self.kept else None)

    def _finish(self) -> None:
        """Show the last picture for one interval of the source, and end the file."""
        self._pictures.close()
        if self._thread.is_alive():
            self._thread.join(CLOSE_LIMIT_S)
            if self._thread.is_alive():
                self._fail(TimeoutError(f"its end was not written within {CLOSE_LIMIT_S:g} s"))

    def _keep(self) -> None:
        """Give the file its name, or remove it if it holds no picture."""
        try:
            if self.frames and (self.failure is None or _plays(self._part)):
                self._part.replace(self._path)
                self.kept = True
            elif self._video is not None or not self._found:
                self._part.unlink(missing_ok=True)
        except OSError as error:
            self._fail(error)

    def _run(self) -> None:
        try:
            while not self._pictures.ended:
                given = self._pictures.take(POLL_S)
                if given is not None:
                    self._write(*given)
            if self._video is not None:
                self._repeat_until(self._video, self._time_s + 1 / self._source_fps)
                self._video.close()
        except Exception as error:  # the camera goes on without it
            self._fail(error)
            if self._video is not None:
                self._video.give_up()

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._pictures.close()
        self._reporter.warn(f"recording failed: {error}; the camera goes on without it")

    def _write(self, picture: BgrImage, time_s: float) -> None:
        if self._video is None:
            self._video = _Video(self._part, self._fps, picture.shape[1], picture.shape[0])
            self._cut_s = time_s
        else:
            gap_s = time_s - self._cut_s - self._video.frames / self._fps
            self._cut_s += max(0.0, gap_s - MAX_GAP_S)
            self._repeat_until(self._video, time_s)
        self._picture = picture
        self._time_s = time_s

    def _repeat_until(self, video: _Video, time_s: float) -> None:
        """Write the picture for each frame that is due before `time_s`."""
        assert self._picture is not None
        wanted = round((time_s - self._cut_s) * self._fps)
        while video.frames < wanted:
            video.write(self._picture)


class _Video:
    """An MP4 file that plays up to its last key frame even if its end is never written."""

    def __init__(self, path: Path, fps: float, width: int, height: int) -> None:
        import av

        self._container: OutputContainer = av.open(
            str(path), "w", format="mp4", options={"movflags": "hybrid_fragmented", "flush_packets": "1"}
        )
        rate = Fraction(fps).limit_denominator(1001)
        self._stream: VideoStream = self._container.add_stream("libx264", rate=rate, options=ENCODING)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.gop_size = max(1, round(KEY_FRAMES_S * fps))
        self._stream.codec_context.thread_count = 1
        self.frames = 0

    def write(self, picture: BgrImage) -> None:
        import av

        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts = self.frames
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def give_up(self) -> None:
        """Close as far as that is possible; the disk may be full."""
        with suppress(Exception):
            self._container.close()


def _plays(path: Path) -> bool:
    """Whether a video that may be cut off holds a picture."""
    import av

    try:
        with av.open(str(path)) as container:
            return next(container.decode(video=0), None) is not None
    except (av.FFmpegError, OSError, IndexError):  # the last: it holds no video
        return False
