"""Where the page is served: an address as a person writes it, and the socket that listens there."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass

from toolchain.errors import BadInputError, MissingError

HOST = "127.0.0.1"
PORT = 8765
HINT = "Write HOST:PORT, such as 127.0.0.1:8765, 0.0.0.0:8765, [::1]:8765 or 8765."

FORM = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>(?:[A-Za-z0-9][A-Za-z0-9._-]*)?))(?::(?P<port>[0-9]{1,5}))?")

WAITING = 64
"""Connections that the system keeps until they are accepted."""
SEND_BUFFER = 128 * 1024
"""Bytes that the system takes for a viewer who reads too slowly: one or two pictures, where it would take
megabytes (and with them seconds of the past) if it were left alone."""
UNSENT = 16 * 1024
"""Bytes of these that may wait to be sent for the first time."""
NOT_SENT_LOW_WATER = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS


@dataclass(frozen=True)
class Address:
    """A host (a name, an IPv4 or an IPv6 address, without brackets) and a port; port 0 lets the system choose."""

    host: str = HOST
    port: int = PORT


def parse_address(text: str) -> Address:
    """Read `HOST:PORT`, `HOST`, `:PORT`, `PORT`, `[IPv6]:PORT` or nothing; what is left out is 127.0.0.1 and 8765.

    Raises BadInputError for anything else.
    """
    wrong = BadInputError(f"{text!r} is no address to serve a page at", HINT)
    text = text.strip()
    if text.isdecimal():
        text = f":{text}"
    found = FORM.fullmatch(text)
    if not found:
        raise wrong
    port = int(found["port"]) if found["port"] else PORT
    if port > 65535:
        raise wrong
    if found["six"]:
        try:
            return Address(str(ipaddress.IPv6Address(found["six"])), port)
        except ValueError:
            raise wrong from None
    return Address(found["host"] or HOST, port)


def listen(address: Address) -> socket.socket:
    """A socket that listens at `address`, made for viewers who are to see the newest.

    Raises BadInputError where this machine does not have the address, MissingError where the port cannot be had.
    """
    where = in_url(address.host) + f":{address.port}"
    try:
        # An address is better known than a name: the first that the name stands for, IPv4 before IPv6.
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise BadInputError(f"{address.host} is not an address of this machine", HINT) from None
    family, _, _, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
    both = family == socket.AF_INET6 and place[0] == "::" and socket.has_dualstack_ipv6()
    try:
        listening = socket.create_server(
            (str(place[0]), address.port), family=family, backlog=WAITING, dualstack_ipv6=both
        )
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
    """A host to open for a socket that listens at `host`, a numeric address: where that is "all addresses" (0.0.0.0
    or ::), the one that this machine has in its network."""
    if not ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        return host
    # "Connecting" UDP sends nothing; it lets the system choose the address it would send from.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return HOST


def in_url(host: str) -> str:
    """`host` as URLs have it: IPv6 in brackets."""
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
