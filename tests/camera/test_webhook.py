"""`--webhook`: each change once, the last one for certain, and nobody waits for a receiver."""

from __future__ import annotations

import base64
import json
import threading
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.artifacts import tiny_artifact
from tests.clips import write_clip
from tests.datasets.datasets_support import Remembering
from tests.receivers import Hook, free_port
from tests.web_support import answer
from toolchain.camera.answering import Answered
from toolchain.camera.session import watch
from toolchain.camera.sinks import webhook
from toolchain.camera.sinks.webhook import Webhook, WebhookOptions
from toolchain.cli import run
from toolchain.errors import BadInputError


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _labels(hook: Hook) -> list[str | None]:
    return [one["answer"] for one in hook.got]


def test_each_change_is_sent_once_with_its_moment() -> None:
    with Hook() as hook:
        sink = Webhook(hook.url, Remembering())
        cat = answer(3, label="cat")
        before = datetime.now(timezone.utc)
        for one in (cat, answer(4, label="cat"), answer(5, label="dog"), answer(6, label="dog", rejected=True)):
            sink.show(one)
        sink.show(answer(7, label="cat", rejected=True))  # still "not sure"
        sink.idle("")
        assert _labels(hook) == ["cat", "dog", None]
        first = dict(hook.got[0])
        assert abs((datetime.fromisoformat(first.pop("time").replace("Z", "+00:00")) - before).total_seconds()) < 5
        assert first == json.loads(cat.json_line())
        assert hook.paths == ["/hook"] * 3
        assert hook.headers[0]["Content-Type"] == "application/json"
        assert sink.report().unwritten == ""


def test_a_receiver_that_was_away_gets_the_last_state() -> None:
    clock, reporter = Clock(), Remembering()
    with Hook() as hook:
        sink = Webhook(hook.url, reporter, clock)
        sink.show(answer(0, label="cat"))
        hook.kill()
        for number, label in enumerate(["dog", "fish", "bird"]):
            sink.show(answer(number, label=label))
        assert _labels(hook) == ["cat"]
        hook.start()
        sink.idle("")
        assert _labels(hook) == ["cat"], "the pause is not over"
        clock.now_s += 1.0
        sink.idle("")
        assert _labels(hook) == ["cat", "bird"]
        assert len(reporter.warned) == 1
        assert f"127.0.0.1:{hook.port} cannot be reached: Connection refused; trying again" in reporter.warned[0]
        assert reporter.said == [
            f"the webhook at 127.0.0.1:{hook.port} answers again; 2 changes between were not sent"
        ]
        sink.close()
        assert sink.report().unwritten == ""


def test_pauses_grow_and_begin_anew() -> None:
    clock = Clock()
    with Hook([500, 503, 429, 500, 500, 500, 500, 200, 500]) as hook:
        sink = Webhook(hook.url, Remembering(), clock)
        sink.show(answer(0, label="cat"))
        tried = [0.0]
        while not hook.got:
            clock.now_s += 0.5
            before = len(hook.paths)
            sink.idle("")
            tried += [clock.now_s] * (len(hook.paths) - before)
        assert tried == [0, 1, 3, 7, 15, 31, 61, 91]
        sink.show(answer(1, label="dog"))
        clock.now_s += 1.0
        sink.idle("")
        assert _labels(hook) == ["cat", "dog"]


def test_what_is_refused_is_told_once_and_not_sent_again() -> None:
    reporter = Remembering()
    with Hook([404, 404]) as hook:
        sink = Webhook(hook.url, reporter)
        for number, label in enumerate(["cat", "dog", "fish"]):
            sink.show(answer(number, label=label))
            sink.idle("")
        assert _labels(hook) == ["fish"]
        assert len(hook.paths) == 3
        [said] = reporter.warned
        assert "refuses: it answers 404" in said
        assert "2 answers were refused" in sink.report().unwritten


def test_a_redirection_is_not_followed() -> None:
    with Hook() as other, Hook([307, 302], {"Location": other.url}) as hook:
        sink = Webhook(hook.url, Remembering())
        sink.show(answer(0, label="cat"))
        sink.show(answer(1, label="dog"))
        assert not other.paths


def test_a_receiver_that_hangs_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "LIMIT_S", 0.3)
    monkeypatch.setattr(webhook, "LAST_LIMIT_S", 0.1)
    tiny_artifact(tmp_path / "tiny.onnx")
    write_clip(tmp_path / "clip.mp4", ["red", "green", "blue"] * 10, fps=60)
    released, reporter = threading.Event(), Remembering()
    seen: list[int] = []

    def remember(answered: Answered) -> None:
        seen.append(answered.frame.number)

    with Hook() as hook:
        hook.wait = lambda: released.wait(20)
        report = watch(
            tmp_path / "tiny.onnx",
            tmp_path / "clip.mp4",
            sinks=[WebhookOptions(hook.url)],
            on_answer=remember,
            reporter=reporter,
        )
        released.set()
    assert report.summary.frames_answered == report.summary.frames_in - report.summary.frames_dropped
    assert report.summary.seconds < 5
    assert max(seen) >= 28, "the answers go on to the end of the clip"
    assert "the last answer was not delivered (timed out)" in report.unwritten[0]
    assert "timed out; trying again until it answers" in reporter.warned[-1]


def test_the_end_tries_once_more() -> None:
    clock, reporter = Clock(), Remembering()
    with Hook([500]) as hook:
        sink = Webhook(hook.url, reporter, clock)
        sink.show(answer(0, label="cat"))
        assert not hook.got
        sink.close()
        assert _labels(hook) == ["cat"]
        assert sink.report().unwritten == ""
    sink = Webhook(f"http://127.0.0.1:{free_port()}/x", reporter, clock)
    sink.show(answer(0, label="cat"))
    sink.close()
    assert "the last answer was not delivered (Connection refused)" in sink.report().unwritten


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://host/x",
        "http://",
        "http:///x",
        "http://host:99999/",
        "http://[::zz]/",
        "http://.local/hook",
        "http://a..b/hook",
        "http://h/a b",
        "http://h/ü",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadInputError) as raised:
        WebhookOptions(url)
    assert raised.value.hint


def test_a_secret_address_comes_from_a_file_and_is_shown_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "SECRET-of-the-hook"
    tiny_artifact(tmp_path / "tiny.onnx")
    clip = write_clip(tmp_path / "clip.mp4", ["red"] * 5 + ["green"] * 5)
    words = ["camera", str(tmp_path / "tiny.onnx"), "--source", str(clip), "--as-fast-as-possible", "--headless"]
    with Hook() as hook:
        (tmp_path / "address").write_text(f"http://me:{secret}@127.0.0.1:{hook.port}/api/{secret}?key={secret}\n")
        assert run([*words, "--webhook", f"@{tmp_path / 'address'}"]) == 0
        assert _labels(hook)[-1] == "green"
        assert hook.paths[0] == f"/api/{secret}?key={secret}"
        assert hook.headers[0]["Authorization"] == "Basic " + base64.b64encode(f"me:{secret}".encode()).decode()
    assert run([*words, "--webhook", f"@{tmp_path / 'address'}"]) == 1, "it is away now, to the end"
    assert run([*words, "--webhook", f"{secret}://host/{secret}"]) == 2
    assert run([*words, "--webhook", f"@{tmp_path / 'nosuch'}"]) == 2
    told = capsys.readouterr()
    assert secret not in told.out + told.err
    assert "was not delivered (Connection refused)" in told.err


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://[fd00::5]/hook", ("fd00::5", 80)),
        ("https://[fd00::abcd]/hook", ("fd00::abcd", 443)),
        ("http://[::1]:8080/hook", ("::1", 8080)),
        ("http://cat.local/hook", ("cat.local", 80)),
    ],
)
def test_where_it_is_sent(url: str, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(place: tuple[str, int], *_: object) -> None:
        asked.append(place)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("socket.create_connection", refuse)
    sink = Webhook(url, Remembering(), Clock())
    sink.show(answer(0, label="cat"))
    sink.close()
    assert set(asked) == {address}
