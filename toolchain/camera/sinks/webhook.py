"""A webhook: each change of the answer is sent to an address by HTTP, until it is there or a newer one is."""

from __future__ import annotations

import base64
import http.client
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from urllib.parse import SplitResult, unquote, urlsplit

from toolchain._version import __version__
from toolchain.camera.answering import Answered
from toolchain.camera.sinks import Delivery, Sink, SinkContext, SinkReport
from toolchain.camera.sinks.messages import Changes, message
from toolchain.errors import BadInputError
from toolchain.system.progress import Reporter

LIMIT_S = 5.0
"""How long connecting, sending and waiting for the answer may take, each."""
LAST_LIMIT_S = 2.0
"""The same when the camera ends."""
FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 30.0
"""The pause between two attempts doubles from the first to the longest."""
LATER = frozenset({408, 425, 429})
"""Status codes besides 5xx that ask for another attempt."""
HINT = "Write --webhook https://HOST/PATH, or --webhook @FILE with a file that holds the address."


@dataclass(frozen=True)
class WebhookOptions:
    """Answers are sent to `url`, an address of http or https."""

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
            (parts.hostname or "").encode("idna")  # `.local` is no name: a part of it is empty
        except ValueError:
            right = False
        if not right or not all("!" <= letter <= "~" for letter in self.url):
            raise BadInputError("--webhook is no address of http or https", HINT)

    def open(self, context: SinkContext) -> Webhook:
        return Webhook(self.url, context.reporter)


class Webhook(Sink):
    """Posts the answer as JSON whenever it changes.

    What cannot be delivered is tried again, with pauses that grow; a newer answer takes the place of one that
    waits. So the last one arrives however long the receiver was away. What a receiver refuses (404, for example) is
    not sent again. Redirections are not followed, and proxies not used: it goes where the address says.
    """

    delivery: Delivery = "newest"

    def __init__(self, url: str, reporter: Reporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = urlsplit(url)
        # Its path is often all that keeps others from using it, so it is not shown.
        host = self._place.netloc.rpartition("@")[2]
        self.name: str = f"the webhook at {host}"
        self._reporter = reporter
        self._clock = clock
        self._changes = Changes()
        self._waiting: dict[str, bytes] = {}
        """The answers that are still to be delivered, by region."""
        self._skipped = 0
        self._pause_s = FIRST_PAUSE_S
        self._again_s = float("-inf")
        self._trouble = ""
        self._refused = 0
        self._told_of: set[str] = set()
        self._posting = Lock()

    def show(self, answered: Answered) -> None:
        for one in answered.each():
            if self._changes(one):
                self._skipped += one.region in self._waiting
                self._waiting[one.region] = message(one)
        self._deliver()

    def idle(self, state: str) -> None:
        self._deliver()

    def close(self) -> None:
        """Try once more to deliver what waits."""
        if self._waiting and self._posting.acquire(blocking=False):
            try:
                self._attempt(LAST_LIMIT_S)
            finally:
                self._posting.release()

    def report(self) -> SinkReport:
        if self._waiting:
            return SinkReport(unwritten=f"{self.name}: the last answer was not delivered ({self._trouble})")
        if self._refused:
            return SinkReport(unwritten=f"{self.name}: {self._refused} answers were refused")
        return SinkReport()

    def _deliver(self) -> None:
        if self._waiting and self._clock() >= self._again_s:
            with self._posting:
                self._attempt(LIMIT_S)

    def _attempt(self, limit_s: float) -> None:
        """Deliver what waits, one after another, until one fails."""
        while self._waiting and self._post(next(iter(self._waiting)), limit_s):
            pass

    def _post(self, region: str, limit_s: float) -> bool:
        """Whether the answer of a region is done with: it was taken, or refused for good."""
        try:
            status = _post(self._place, self._waiting[region], limit_s)
        except (OSError, http.client.HTTPException) as error:
            return self._fail(str(getattr(error, "strerror", None) or error) or type(error).__name__)
        if status >= 500 or status in LATER:
            return self._fail(f"it answers {status}")
        if not 200 <= status < 300:
            self._refused += 1
            self._tell_once(f"{self.name} refuses: it answers {status}. Check the address")
        elif self._trouble:
            lost = f"; {self._skipped} changes between were not sent" if self._skipped else ""
            self._reporter.say(f"{self.name} answers again{lost}")
        del self._waiting[region]
        self._trouble, self._skipped = "", 0
        self._pause_s, self._again_s = FIRST_PAUSE_S, float("-inf")
        return True

    def _fail(self, reason: str) -> bool:
        if not self._trouble:
            self._reporter.warn(f"{self.name} cannot be reached: {reason}; trying again until it answers")
        self._trouble = reason
        self._again_s = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        return False

    def _tell_once(self, what: str) -> None:
        if what not in self._told_of:
            self._told_of.add(what)
            self._reporter.warn(what)


def _post(place: SplitResult, body: bytes, limit_s: float) -> int:
    """Send `body` and return the status. Raises OSError and HTTPException."""
    # With a port, http.client takes the rest as it is: else it looks for one in an address of IPv6.
    host, port = place.hostname or "", place.port or (443 if place.scheme == "https" else 80)
    connection = (
        http.client.HTTPSConnection(host, port, timeout=limit_s, context=ssl.create_default_context())
        if place.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=limit_s)
    )
    headers = {"Content-Type": "application/json", "User-Agent": f"edgetl/{__version__}"}
    if place.username is not None:
        pair = f"{unquote(place.username)}:{unquote(place.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    target = (place.path or "/") + (f"?{place.query}" if place.query else "")
    try:
        connection.request("POST", target, body, headers)
        return connection.getresponse().status
    finally:
        with suppress(OSError):
            connection.close()


def from_text(value: str) -> WebhookOptions:
    """The options that `--sink webhook=URL` stands for."""
    return WebhookOptions(value)
