"""The thread that reads a source, and the one place where the newest frame lies. Never a queue."""

from __future__ import annotations

from threading import Condition, Thread

from toolchain.camera.frames import Frame, FrameSource

CLOSE_LIMIT_S = 2.0


class Capture:
    """Reads `source` in a thread of its own and keeps the newest frame only.

    Entering it starts the thread, leaving it ends the thread and closes the source. With `every`, the thread waits
    until each frame was taken; that is for files, which can wait.
    """

    def __init__(self, source: FrameSource, *, every: bool = False) -> None:
        self.source = source
        self._every = every
        self._changed = Condition()
        self._newest: Frame | None = None
        self._frames_in = 0
        self._ended = False
        self._stopping = False
        self._error: Exception | None = None
        self._thread = Thread(target=self._read_all, name=f"capture {source.name}", daemon=True)

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.source.stop()
        # A driver may hang for good. The thread is a daemon, so that it does not keep the process from ending.
        self._thread.join(CLOSE_LIMIT_S)

    @property
    def frames_in(self) -> int:
        """Frames that the source gave so far, those that nobody looked at included."""
        return self._frames_in

    @property
    def ended(self) -> bool:
        """Whether no frame is left and none will come."""
        with self._changed:
            return self._ended and self._newest is None

    @property
    def error(self) -> Exception | None:
        """What ended the source, where it was not its own end."""
        return self._error

    def take(self, limit_s: float) -> Frame | None:
        """The newest frame, once; waits for one `limit_s` at most. None: nothing came, or it ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended, timeout=limit_s)
            frame, self._newest = self._newest, None
            self._changed.notify_all()
        return frame

    def _read_all(self) -> None:
        try:
            while not self._stopping:
                frame = self.source.read()
                if frame is None:
                    break
                with self._changed:
                    self._newest = frame
                    self._frames_in = frame.number + 1
                    self._changed.notify_all()
                    if self._every:
                        self._changed.wait_for(lambda: self._newest is None or self._stopping)
        except Exception as error:  # whatever it is, it is told where the answers are read
            self._error = error
        finally:
            self.source.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()
