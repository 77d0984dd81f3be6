"""The web page as a sink, and the address that it is served at."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from toolchain.camera.sinks import Delivery, Sink, SinkContext
from toolchain.errors import BadInputError, MissingError
from toolchain.system.masking import Readable
from toolchain.system.progress import Reporter

if TYPE_CHECKING:
    from toolchain.camera.answering import Answered
    from toolchain.camera.sinks.web.publisher import Published
    from toolchain.camera.sinks.web.server import Server
    from toolchain.camera.sinks.web.streams import Channel

HOST = "127.0.0.1"
PORT = 8765
HINT = "Write HOST:PORT, such as 127.0.0.1:8765, 0.0.0.0:8765, [::1]:8765 or 8765."

FORM = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>(?:[A-Za-z0-9][A-Za-z0-9._-]*)?))(?::(?P<port>[0-9]{1,5}))?")

SEND_BUFFER = 128 * 1024
"""Bytes that the system buffers for a viewer who reads too slowly: one or two pictures. By default it would be
megabytes, and with them seconds of the past."""
UNSENT = 16 * 1024
"""Bytes of these that may wait to be sent for the first time."""
NOT_SENT_LOW_WATER = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS


@dataclass(frozen=True)
class Address:
    """A host (name, IPv4 or IPv6 address, without brackets) and a port. Port 0 lets the system choose one."""

    host: str = HOST
    port: int = PORT


def parse_address(text: str, default_port: int = PORT) -> Address:
    """Read `HOST:PORT`, `HOST`, `:PORT`, `PORT`, `[IPv6]:PORT` or nothing. The defaults are 127.0.0.1 and 8765, or
    another port.

    Raises BadInputError for anything else.
    """
    wrong = BadInputError(f"{text!r} is no address to serve a page at", HINT)
    text = text.strip()
    if text.isdecimal():
        text = f":{text}"
    found = FORM.fullmatch(text)
    if not found:
        raise wrong
    port = int(found["port"]) if found["port"] else default_port
    if port > 65535:
        raise wrong
    if found["six"]:
        try:
            return Address(str(ipaddress.IPv6Address(found["six"])), port)
        except ValueError:
            raise wrong from None
    return Address(found["host"] or HOST, port)


def listen(address: Address) -> socket.socket:
    """A socket that listens at `address`, with small buffers, so that viewers see the newest.

    Raises BadInputError if this machine does not have the address, MissingError if the port is not available.
    """
    where = in_url(address.host) + f":{address.port}"
    try:
        # A name may stand for several addresses: IPv4 comes first.
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise BadInputError(f"{address.host} is not an address of this machine", HINT) from None
    family, _, _, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
    both = family == socket.AF_INET6 and place[0] == "::" and socket.has_dualstack_ipv6()
    try:
        listening = socket.create_server((str(place[0]), address.port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise _explained(error, where) from error
    # Connections inherit these.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if NOT_SENT_LOW_WATER is not None:
        listening.setsockopt(socket.IPPROTO_TCP, NOT_SENT_LOW_WATER, UNSENT)
    return listening


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach `host`, a numeric address."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def reachable(host: str) -> str:
    """The host by which to open a socket that listens at `host`, a numeric address. For "all addresses" (0.0.0.0 or
    ::), it is the address of this machine in its network."""
    if not ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        return host
    # "Connecting" UDP sends nothing. The system only chooses the address that it would send from.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return HOST


def in_url(host: str) -> str:
    """`host` as written in URLs: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _explained(error: OSError, where: str) -> BadInputError | MissingError:
    if error.errno == errno.EADDRINUSE:
        hint = "Another program, or another edgetl, listens there: choose another port, or 0 for any that is free."
        return MissingError(f"{where} is in use", hint)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return MissingError(f"this user may not listen at {where}", "Choose a port above 1023.")
    if error.errno == errno.EADDRNOTAVAIL:
        hint = "Write 0.0.0.0 to listen at all of its addresses, or 127.0.0.1 for this machine alone."
        return BadInputError(f"{where} is not an address of this machine", hint)
    return MissingError(f"cannot listen at {where}: {error.strerror or error}", HINT)


@dataclass(frozen=True)
class WebOptions:
    """Answers are shown on a page at `address`. `token` and `hosts` as `WebView` takes them."""

    address: Address
    token: str | None = None
    hosts: tuple[str, ...] = ()

    def open(self, context: SinkContext) -> WebView:
        about = {
            "artifact": context.artifact.path.name,
            "device": context.engine.network.name,
            "source": context.source,
        }
        return WebView(self.address, about, token=self.token, hosts=self.hosts, reporter=context.reporter)


def from_text(value: str) -> WebOptions:
    """The options that `--sink web=HOST:PORT` stands for."""
    return WebOptions(parse_address(value))


class WebView(Sink):
    """Shows answers on a page, to several viewers at once, none of whom slows the loop.

    `about` says what is running, in a few words each: `artifact`, `device`, `source`. Viewers must know `token`; if
    other machines can reach the address, one is made. Without a token, viewers may use the names of this machine,
    and `hosts`. Entering raises BadInputError or MissingError if the address is not available.
    """

    name = "the web view"
    delivery: Delivery = "loop"

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
            from toolchain.camera.sinks.web import guard, metrics, publisher, server, streams
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
        self._publisher = publisher.Publisher(about, self._hand_on, reporter)
        self._pictures: Channel = streams.pictures(self._audience_changed)
        self._answers: Channel = streams.answers(self._audience_changed)
        self._server: Server | None = None
        self._metrics = metrics.Metrics()
        self._app = streams.make_app(
            self._pictures, self._answers, lambda: self._publisher.now().json(), self._figures
        )
        self._make_server = server.Server
        self.url: str = ""
        """The address to open, with the token if one was made or given; empty until the view is entered."""

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
        # These lines end up in logs, and a token that was given is known already.
        url = self.url.partition("?")[0] if self._token else self.url
        if local:
            self._reporter.say(Readable(f"watch at {url}{', with the token' if self._token else ''}"))
        elif self._token:
            self._reporter.warn(Readable(f"other machines can watch, unencrypted, if they know the token: {url}"))
        else:
            line = f"other machines can watch, unencrypted, if they know this address: {url}"
            self._reporter.warn(Readable(line))
        return self

    def close(self) -> None:
        if self._server:
            self._server.stop()
        self._publisher.stop()

    @property
    def viewers(self) -> int:
        """How many viewers follow the answers or the pictures now."""
        return max(self._answers.viewers, self._pictures.viewers)

    def show(self, answered: Answered) -> None:
        """Show an answer to viewers, if it is still the newest when they can take one. Never waits.

        The pixels of the frame are not copied, so they must stay as they are.
        """
        self._publisher.show(answered)
        self._metrics.count(answered)

    def idle(self, state: str) -> None:
        """Tell viewers why there is no new answer, if there is a reason."""
        self._publisher.say(state)

    def _figures(self) -> bytes:
        now = self._publisher.now()
        return self._metrics.text(now.about, now.silent_s, now.state)

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
