"""Addresses as people write them, and what is said where one cannot be had."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.web_support import ABOUT, HERE, place, view
from toolchain.camera.sinks.web import HOST, PORT, Address, WebView, is_loopback, parse_address, reachable
from toolchain.errors import BadInputError, EdgetlError, MissingError
from toolchain.system.progress import Silent


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("", HOST, PORT),
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("0.0.0.0:8000", "0.0.0.0", 8000),
        (":8000", HOST, 8000),
        ("8000", HOST, 8000),
        ("0", HOST, 0),
        ("[::1]:8000", "::1", 8000),
        ("[::]", "::", PORT),
        ("localhost", "localhost", PORT),
        ("camera-2.local:80", "camera-2.local", 80),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:8000", "::1", "::1:8000", "[nowhere]:80", "[::1", "a:b", "1:2:3", "65536", "host:99999",
     "a b:80", "-1", "²", "host:", "user@host:80"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_address(text)
    assert caught.value.hint.startswith("Write HOST:PORT")


def _refused(address: Address) -> EdgetlError:
    with pytest.raises(EdgetlError) as caught, view(address):
        pass
    return caught.value


def test_a_port_in_use_is_told_by_the_caller() -> None:
    with view() as first:
        error = _refused(Address(*place(first)))
        assert isinstance(error, MissingError)
        assert f":{place(first)[1]} is in use" in error.message
        assert "another port" in error.hint
    with view(Address(*place(first))) as again:
        assert place(again) == place(first), "the port is free again at once"


@pytest.mark.parametrize("host", ["192.0.2.77", "no.such.name.invalid"])
def test_an_address_of_another_machine(host: str) -> None:
    error = _refused(Address(host, 0))
    assert isinstance(error, BadInputError)
    assert host in error.message


def test_a_port_that_is_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's refusal is made up: tests may run as root, who may listen anywhere."""

    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    error = _refused(Address(HOST, 80))
    assert isinstance(error, MissingError)
    assert "1023" in error.hint


def test_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with view(Address("::1", 0)) as shown:
        assert shown.url.startswith("http://[::1]:")
        assert "token" not in shown.url


def test_which_hosts_other_machines_reach() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.3.2.1", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "fe80::1%2"))
    assert reachable("10.0.0.1") == "10.0.0.1"
    assert reachable("0.0.0.0") != "0.0.0.0"


@pytest.mark.parametrize("name", ["starlette", "uvicorn"])
def test_without_the_server(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.startswith("toolchain.camera.sinks.web.")]:
        if not module.endswith((".view", ".address")):
            monkeypatch.delitem(sys.modules, module)
            monkeypatch.delattr(sys.modules["toolchain.camera.sinks.web"], module.rpartition(".")[2], raising=False)
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingError) as caught:
        WebView(HERE, ABOUT, reporter=Silent())
    assert name in caught.value.message
    assert caught.value.hint == "pip install starlette uvicorn"


def test_what_only_the_workshop_has_is_not_needed() -> None:
    code = """
import sys, urllib.request
for name in ("torch", "jinja2", "matplotlib"):
    sys.modules[name] = None
from toolchain.camera.sinks.web import Address, WebView
from toolchain.system.progress import Silent
with WebView(Address("127.0.0.1", 0), {}, reporter=Silent()) as view:
    print(urllib.request.urlopen(view.url + "page.css").status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("200\n", "")


def test_a_page_of_another_kind_has_a_port_of_its_own() -> None:
    assert parse_address("0.0.0.0", 8766) == Address("0.0.0.0", 8766)
    assert parse_address("0.0.0.0:80", 8766) == Address("0.0.0.0", 80)
