"""Sources by https: certificates are verified, unless somebody says otherwise."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

from tests.clips import plain, write_clip
from tests.served import Answer, Served, whole
from toolchain.camera.frames import CaptureOptions, FrameSource
from toolchain.camera.sources.opening import open_source
from toolchain.camera.sources.served import FFMPEG_OPTIONS, ask, fetch
from toolchain.errors import BadInputError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl")


def _certificate(folder: Path, name: str, *names: str) -> tuple[Path, Path]:
    """A certificate for `names` that signed itself, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "2", "-subj", "/CN=camera", "-addext", f"subjectAltName={','.join(names)}"]
    more = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run(["openssl", *words, *more], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return _certificate(tmp_path_factory.mktemp("here"), "here", "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return _certificate(tmp_path_factory.mktemp("elsewhere"), "elsewhere", "DNS:other.example")


@pytest.fixture(params=["picture", "video"])
def answer(request: pytest.FixtureRequest, tmp_path: Path) -> Answer:
    if request.param == "picture":
        return whole(cv2.imencode(".jpg", plain("green"))[1].tobytes(), "image/jpeg")
    return whole(write_clip(tmp_path / "clip.mp4", ["green"] * 30).read_bytes(), "video/mp4")


@contextmanager
def _served(answer: Answer, certificate: tuple[Path, Path]) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Served(answer) as served:
        served._server.socket = context.wrap_socket(served._server.socket, server_side=True)
        yield served.url.replace("http:", "https:")


def _open(url: str, *, insecure: bool = False) -> FrameSource:
    return open_source(f"{url}/x", CaptureOptions(insecure=insecure), open_limit_s=10)


def test_a_certificate_that_nobody_trusts_is_refused_and_insecure_is_the_way_out(
    answer: Answer, here: tuple[Path, Path]
) -> None:
    with _served(answer, here) as url:
        with pytest.raises(BadInputError, match="the certificate of the server is not valid: self") as raised:
            _open(url)
        assert "--insecure" in raised.value.hint
        source = _open(url, insecure=True)
        assert source.read() is not None
        source.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_trusted_certificate_must_be_for_the_name_of_the_host(
    answer: Answer,
    here: tuple[Path, Path],
    elsewhere: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    host: str,
) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(here[0].read_text() + elsewhere[0].read_text())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with _served(answer, here) as url:
        source = _open(url.replace("127.0.0.1", host))
        assert source.read() is not None
        source.close()
    with (
        _served(answer, elsewhere) as url,
        pytest.raises(
            BadInputError, match=r"not valid: (IP|Hostname|hostname).*mismatch|not valid: .*not valid for"
        ),
    ):
        _open(url.replace("127.0.0.1", host))


def test_python_and_ffmpeg_verify_by_themselves(
    here: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever intercepts connections may let the first one through."""
    from toolchain.camera.sources import streams

    monkeypatch.setattr(streams, "check_certificate", lambda *_: None)
    clip = write_clip(tmp_path / "clip.mp4", ["green"] * 30).read_bytes()
    with _served(whole(clip, "video/mp4"), here) as url:
        with pytest.raises(OSError, match="self"):
            fetch(f"{url}/x", 5)
        assert ask(f"{url}/x", 5).content_type == ""
        assert ask(f"{url}/x", 5, insecure=True).content_type == "video/mp4"
        if ssl.get_default_verify_paths().cafile:
            with pytest.raises(Exception, match="gives no video"):
                _open(url)
        source = _open(url, insecure=True)
        assert source.read() is not None
        source.close()


def test_options_for_ffmpeg_that_a_person_has_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolchain.camera.sources.served import set_tls_options

    monkeypatch.setenv(FFMPEG_OPTIONS, "rtsp_transport;udp")
    set_tls_options(insecure=False)
    set_tls_options(insecure=False)
    found = os.environ[FFMPEG_OPTIONS].split("|")
    assert found[0] == "rtsp_transport;udp"
    assert len(found) == len(set(found))
    set_tls_options(insecure=True)
    assert os.environ[FFMPEG_OPTIONS] == "rtsp_transport;udp"
    monkeypatch.setenv(FFMPEG_OPTIONS, "tls_verify;0")
    set_tls_options(insecure=False)
    assert os.environ[FFMPEG_OPTIONS] == "tls_verify;0"
