"""The web view as the camera's loop knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from toolchain.camera.sinks.web.address import Address, in_url, is_loopback, listen, reachable
from toolchain.errors import MissingError
from toolchain.system.masking import Readable
from toolchain.system.progress import Reporter

if TYPE_CHECKING:
    from toolchain.camera.answering import Answered
    from toolchain.camera.sinks.web.publisher import Published
    from toolchain.camera.sinks.web.server import Server
    from toolchain.camera.sinks.web.streams import Channel


class WebView:
    """Shows answers on a page, to several viewers at once, none of whom slows the loop.

    `about` says what is running, in a few words each: `artifact`, `device`, `source`. `token` is what viewers must
    know; one is made where the address can be reached from other machines. `hosts` are names that viewers may ask
    by where there is no token, besides those of this machine. Entering raises BadInputError or MissingError when
    the address cannot be had.
    """

    def __init__(
        self,
        address: Address,
        about: Mapping[str, str],
        *,
        token: str | None = None,
        hosts: Sequence[str] = (),
        reporter: Reporter,
    ) -> None:
        try:
            from toolchain.camera.sinks.web import app, guard, publisher, server, streams
        except ImportError as error:
            if error.name is None or error.name.partition(".")[0] not in {"starlette", "uvicorn", "h11", "anyio"}:
                raise
            raise MissingError(
                f"the web view needs {error.name}, which is not installed", "pip install starlette uvicorn"
            ) from error
        self._address = address
        self._token = guard.check_token(token) if token is not None else None
        self._hosts = [guard.check_name(name) for name in hosts]
        self._reporter = reporter
        self._about = dict(about)
        self._network = ""
        self._state = ""
        self._publisher = publisher.Publisher(about, self._hand_on, reporter)
        self._pictures: Channel = streams.pictures(self._audience_changed)
        self._answers: Channel = streams.answers(self._audience_changed)
        self._server: Server | None = None
        self._app = app.make_app(self._pictures, self._answers, lambda: self._publisher.now().json())
        self._make_server = server.Server
        self.url = ""
        """What to open, with the token where there is one; empty until the view is entered."""

    def __enter__(self) -> WebView:
        from toolchain.camera.sinks.web.guard import LOCAL_NAMES, Guard, make_token

        listening = listen(self._address)
        host, port = listening.getsockname()[:2]
        local = is_loopback(host)
        token = self._token or (None if local else make_token())
        query = f"?token={quote(token, safe='')}" if token else ""
        self.url = f"http://{in_url(reachable(host))}:{port}/{query}"
        guarded = Guard(self._app, token=token, names={*LOCAL_NAMES, host, *self._hosts}, port=port)
        self._server = self._make_server(guarded, listening, self._end_streams, self._reporter)
        self._publisher.start()
        self._server.start()
        # A token that was given is known already, and these lines end in logs.
        url = self.url.partition("?")[0] if self._token else self.url
        if local:
            self._reporter.say(Readable(f"watch at {url}{', with the token' if self._token else ''}"))
        elif self._token:
            self._reporter.warn(Readable(f"other machines can watch, unencrypted, if they know the token: {url}"))
        else:
            line = f"other machines can watch, unencrypted, if they know this address: {url}"
            self._reporter.warn(Readable(line))
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.stop()
        self._publisher.stop()

    @property
    def viewers(self) -> int:
        """Pages (or programs) that follow the answers or the pictures now."""
        return max(self._answers.viewers, self._pictures.viewers)

    def show(self, answered: Answered) -> None:
        """Let viewers see an answer, if it still is the newest when they can take one. Never waits.

        The frame's pixels are not copied: they must stay as they are.
        """
        if answered.network != self._network:
            self._network = answered.network
            self.describe(self._about | {"device": answered.network})
        self._tell("")
        self._publisher.show(answered)

    def say(self, state: str) -> None:
        """Tell viewers what is the matter; nothing is, where `state` is empty."""
        self._publisher.say(state)

    def describe(self, about: Mapping[str, str]) -> None:
        """Replace what is said of artifact, device and source."""
        self._publisher.describe(about)

    def idle(self, state: str) -> None:
        """Tell viewers why there is no answer, if there is a reason."""
        self._tell(state)

    def _tell(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self.say(state)

    def _hand_on(self, published: Published) -> None:
        if self._server:
            self._server.call(self._put, published)

    def _put(self, published: Published) -> None:
        self._answers.put(published.event)
        if published.part is not None:
            self._pictures.put(published.part)

    def _audience_changed(self) -> None:
        self._publisher.want(answers=self._answers.viewers > 0, pictures=self._pictures.viewers > 0)

    def _end_streams(self) -> None:
        self._answers.close()
        self._pictures.close()
