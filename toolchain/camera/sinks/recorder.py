"""A video file of constant rate, whatever the rate of the answers: H.264 in MP4, by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.camera.frames import USUAL_FPS, BgrImage
from toolchain.camera.threads import DropOldestQueue, Worker
from toolchain.errors import BadInputError, MissingError
from toolchain.system import claims, files
from toolchain.system.progress import Reporter, Silent

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

SLOWEST_FPS = 5.0
"""Slower sources, such as a folder of images, are recorded at the usual rate: players stumble over slower ones."""
MAX_GAP_S = 60.0
"""A longer gap (the loop was paused) is shortened to this in the recording."""
KEY_FRAMES_S = 2.0
"""Seconds between the frames from which players can begin, and after which the file is whole up to there."""
CLOSE_LIMIT_S = 20.0
LOOK_S = 0.2

MAX_WAITING = 8
"""Pictures that wait for the encoder, which has hiccups."""

ENCODING = {"preset": "superfast", "crf": "23", "bf": "0"}
"""x264 on one thread, which leaves the others to the network. Frames that refer to later ones would begin late."""


class Recorder:
    """Writes pictures, each for as long as it was seen: they are repeated or left out to keep real time.

    All pictures have the size of the first, even in both directions. A thread of its own encodes them, so that
    `show` comes back at once; what that thread has no time for is left out, unless `every` picture counts.
    """

    def __init__(self, path: Path, reporter: Reporter | None = None, *, every: bool = False) -> None:
        self._path = path
        self._reporter = reporter or Silent()
        self._fps = self._source_fps = USUAL_FPS
        self._pictures: DropOldestQueue[tuple[BgrImage, float]] = DropOldestQueue(MAX_WAITING, every=every)
        self._thread = Worker(self._run, "record")
        self._video: _Video | None = None
        self._picture: BgrImage | None = None
        self._time_s = 0.0
        self._cut_s = 0.0
        self.failure: Exception | None = None
        """What ended the recording before its time, such as a full disk."""
        self.kept = False
        """Whether there is a file in the end, with at least one picture in it."""

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return self._video.frames if self._video else 0

    def begin(self, source_fps: float) -> None:
        """Say at which rate pictures are going to come, before the first one."""
        self._source_fps = source_fps
        self._fps = source_fps if source_fps >= SLOWEST_FPS else USUAL_FPS
        self._thread.start()

    def show(self, picture: BgrImage, time_s: float) -> None:
        """Record `picture` as what was seen from `time_s` on. It must stay as it is."""
        self._pictures.put((picture, time_s))

    def close(self) -> None:
        """Let the last picture stand as long as one of the source's, and end the file."""
        self._pictures.close()
        if self._thread.is_alive():
            self._thread.join(CLOSE_LIMIT_S)
            if self._thread.is_alive():
                self._fail(TimeoutError(f"its end was not written within {CLOSE_LIMIT_S:g} s"))

    def _run(self) -> None:
        try:
            while not self._pictures.ended:
                given = self._pictures.take(LOOK_S)
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
            self._video = _Video(self._path, self._fps, picture.shape[1], picture.shape[0])
            self._cut_s = time_s
        else:
            gap_s = time_s - self._cut_s - self._video.frames / self._fps
            self._cut_s += max(0.0, gap_s - MAX_GAP_S)
            self._repeat_until(self._video, time_s)
        self._picture = picture
        self._time_s = time_s

    def _repeat_until(self, video: _Video, time_s: float) -> None:
        """Write the picture for each frame whose moment lies before `time_s`."""
        assert self._picture is not None
        wanted = round((time_s - self._cut_s) * self._fps)
        while video.frames < wanted:
            video.write(self._picture)


class _Video:
    """An MP4 file. What was written is whole up to the last key frame, even if its end is never written."""

    def __init__(self, path: Path, fps: float, width: int, height: int) -> None:
        import av

        self._container: OutputContainer = av.open(
            str(path), "w", format="mp4", options={"movflags": "hybrid_fragmented"}
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
        """Close what can be closed; the disk may be full."""
        with suppress(Exception):
            self._container.close()


@contextmanager
def recording(path: Path, reporter: Reporter | None = None, *, every: bool = False) -> Iterator[Recorder]:
    """A recorder whose file appears as `path` when the block ends, however it ends; no file if there is no picture.

    Raises BadInputError at once when `path` cannot be written, and MissingError without PyAV. What fails later is
    the recorder's `failure`, and what was recorded up to there is kept.
    """
    if path.suffix.lower() != ".mp4":
        raise BadInputError(f"{path}: recordings are MP4 files", "Give it a name that ends in .mp4.")
    if path.is_dir():
        raise BadInputError(f"{path} is a folder", "Name a file: --record FILE.mp4.")
    try:
        import av  # noqa: F401
    except ImportError:
        raise MissingError("recording needs PyAV, which is not installed", "pip install 'edgetl[record]'") from None
    failure: BaseException | None = None
    with suppress(_NothingRecorded), ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            hint = "Wait until it has ended, or name another file."
            stack.enter_context(claims.writing(path, "recording it", hint))
            beside = stack.enter_context(files.replaced(path))
        except OSError as error:
            raise BadInputError(f"{path} cannot be written: {error.strerror}", "Name another place.") from None
        recorder = Recorder(beside, reporter, every=every)
        try:
            yield recorder
        except BaseException as error:  # what was recorded up to here is worth keeping
            failure = error
        try:
            recorder.close()
        except BaseException as error:  # somebody pressed Ctrl-C once more
            failure = failure or error
        recorder.kept = recorder.frames > 0 and (recorder.failure is None or _plays(beside))
        if not recorder.kept:
            raise _NothingRecorded
    if failure is not None:
        raise failure


def _plays(path: Path) -> bool:
    """Whether a video that was cut off holds a picture."""
    import av

    try:
        with av.open(str(path)) as container:
            return next(container.decode(video=0), None) is not None
    except OSError:  # what FFmpeg raises, too
        return False


class _NothingRecorded(Exception):  # noqa: N818 - not an error: it leaves `files.replaced` without a file
    pass
