"""`--mqtt`, against a real mosquitto: what is retained, the will, and a broker that goes and comes back."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts import tiny_artifact
from tests.clips import write_clip
from tests.datasets.datasets_support import Remembering
from tests.receivers import MOSQUITTO, Broker, Subscriber, free_port, password_file
from tests.web_support import answer, wait_until
from toolchain.camera.session import watch
from toolchain.camera.sinks import mqtt
from toolchain.camera.sinks.mqtt import Mqtt, MqttOptions, parse_url
from toolchain.cli import run
from toolchain.errors import BadInputError, MissingError

with_broker = pytest.mark.skipif(MOSQUITTO is None, reason="needs a broker: apt install mosquitto")
TOPIC, AVAILABILITY = "home/cat-flap", "home/cat-flap/availability"
CONFIG = "homeassistant/sensor/edgetl_home_cat-flap/config"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "FIRST_PAUSE_S", 0.1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with Broker(folder) as running:
        yield running


def _sink(port: int, reporter: Remembering | None = None, password: str | None = None, **options: object) -> Mqtt:
    fields = {"host": "127.0.0.1", "port": port, "topic": TOPIC} | options
    return Mqtt(MqttOptions(**fields), password, "tiny", reporter or Remembering())  # type: ignore[arg-type]


def _answers(subscriber: Subscriber) -> list[str | None]:
    return [json.loads(text)["answer"] for text in subscriber.of(TOPIC)]


@with_broker
def test_changes_are_published_and_the_last_one_is_retained(broker: Broker, tmp_path: Path) -> None:
    tiny_artifact(tmp_path / "tiny.onnx")
    clip = write_clip(tmp_path / "clip.mp4", ["red"] * 30 + ["green"] * 30)
    with Subscriber(broker.port) as live:
        report = watch(tmp_path / "tiny.onnx", clip, sinks=[parse_url(f"mqtt://127.0.0.1:{broker.port}/{TOPIC}")])
        wait_until(lambda: live.of(AVAILABILITY)[-1:] == ["offline"])
        assert _answers(live)[-2:] == ["red", "green"]
        assert live.of(AVAILABILITY)[-2:] == ["online", "offline"]
    assert not report.unwritten
    with Subscriber(broker.port) as later:
        wait_until(lambda: len(later.retained) == 3)
        held = json.loads(later.retained[TOPIC])
        assert (held["answer"], held["rejected"]) == ("green", False)
        assert held["time"].endswith("Z")
        assert later.retained[AVAILABILITY] == "offline"
        found = json.loads(later.retained[CONFIG])
    assert (found["state_topic"], found["availability_topic"]) == (TOPIC, AVAILABILITY)
    assert found["unique_id"] == found["device"]["identifiers"][0] == "edgetl_home_cat-flap"
    assert found["device"]["name"] == "cat flap"
    assert found["origin"]["name"] == "edgetl"
    assert "value_json.answer" in found["value_template"]


@with_broker
def test_without_discovery_only_the_topic_is_written(broker: Broker) -> None:
    sink = _sink(broker.port, discovery="")
    sink.show(answer(0, label="cat"))
    wait_until(lambda: sink.report().unwritten == "")
    sink.close()
    with Subscriber(broker.port) as later:
        wait_until(lambda: len(later.retained) == 2)
        assert set(later.retained) == {TOPIC, AVAILABILITY}


@with_broker
def test_a_camera_that_is_killed_leaves_its_will(broker: Broker, tmp_path: Path) -> None:
    tiny_artifact(tmp_path / "tiny.onnx")
    clip = write_clip(tmp_path / "clip.mp4", ["red"] * 600, fps=10)
    words = ["camera", str(tmp_path / "tiny.onnx"), "--source", str(clip), "--json",
             "--mqtt", f"mqtt://127.0.0.1:{broker.port}/{TOPIC}"]  # fmt: skip
    with Subscriber(broker.port) as live:
        with subprocess.Popen([sys.executable, "-m", "toolchain", *words], stdout=subprocess.DEVNULL) as process:
            wait_until(lambda: live.of(AVAILABILITY)[-1:] == ["online"], 30)
            process.send_signal(signal.SIGKILL)
        wait_until(lambda: live.of(AVAILABILITY)[-1:] == ["offline"])
        assert _answers(live)[-1] == "red"


@with_broker
def test_a_broker_that_is_killed_and_comes_back_gets_the_last_state(broker: Broker) -> None:
    reporter = Remembering()
    sink = _sink(broker.port, reporter)
    sink.show(answer(0, label="cat"))
    with Subscriber(broker.port) as live:
        wait_until(lambda: _answers(live) == ["cat"])
    broker.kill()
    wait_until(lambda: reporter.warned)
    before = time.monotonic()
    for number, label in enumerate(["dog", "fish", "bird"]):
        sink.show(answer(number, label=label))
    assert time.monotonic() - before < 1, "nobody waits for it"
    assert "the last answer was not delivered" in sink.report().unwritten
    broker.start()
    with Subscriber(broker.port) as later:
        wait_until(lambda: _answers(later))
        wait_until(lambda: later.of(AVAILABILITY)[-1:] == ["online"])
        assert _answers(later) == ["bird"], "what changed meanwhile is not queued"
        assert later.of(CONFIG), "a broker that forgot all is told all"
    assert sink.report().unwritten == ""
    [warned] = reporter.warned
    assert f"the broker at 127.0.0.1:{broker.port} cannot be reached" in warned
    assert reporter.said == [f"the broker at 127.0.0.1:{broker.port} is back"]
    sink.close()


@with_broker
def test_an_answer_to_a_broker_that_was_gone_unnoticed_was_not_delivered(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolchain.camera.sinks.mqtt.KEEPALIVE_S", 2)
    reporter = Remembering()
    sink = _sink(broker.port, reporter)
    sink.show(answer(0, label="cat"))
    with Subscriber(broker.port) as live:
        wait_until(lambda: _answers(live) == ["cat"])
    broker.freeze()
    sink.show(answer(1, label="dog"))
    assert sink.report().unwritten == "", "nothing tells it yet"
    wait_until(lambda: reporter.warned)
    sink.close()
    assert "the last answer was not delivered (the connection is lost" in sink.report().unwritten


@with_broker
def test_a_broker_that_comes_later(tmp_path: Path) -> None:
    reporter, broker = Remembering(), Broker(tmp_path)
    sink = _sink(broker.port, reporter)
    sink.show(answer(0, label="cat"))
    wait_until(lambda: reporter.warned)
    assert "Connection refused" in reporter.warned[0]
    with broker, Subscriber(broker.port) as live:
        wait_until(lambda: _answers(live) == ["cat"])
        sink.close()


@with_broker
def test_a_source_that_is_lost_makes_the_answer_unavailable(broker: Broker) -> None:
    now = [0.0]
    options = MqttOptions("127.0.0.1", broker.port, TOPIC)
    sink = Mqtt(options, None, "tiny", Remembering(), lambda: now[0])
    with Subscriber(broker.port) as live:
        wait_until(lambda: live.of(AVAILABILITY) == ["offline"])
        sink.show(answer(0, label="cat"))
        sink.idle("camera 0 gave no frame")
        now[0] = 4.0
        sink.idle("camera 0 gave no frame (4 s)")
        sink.show(answer(1, label="cat"))
        now[0] = 60.0
        sink.idle("")
        sink.idle("camera 0 gave no frame")
        now[0] = 66.0
        sink.idle("camera 0 gave no frame (6 s)")
        sink.idle("camera 0 gave no frame (6 s)")
        wait_until(lambda: live.of(AVAILABILITY)[-1] == "offline" and len(live.of(AVAILABILITY)) > 2)
        sink.show(answer(2, label="cat"))
        wait_until(lambda: live.of(AVAILABILITY)[-1] == "online")
        assert live.of(AVAILABILITY) == ["offline", "online", "offline", "online"]
        assert _answers(live) == ["cat"]
        sink.close()


@with_broker
def test_user_and_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = password_file(tmp_path, "me", "right one")
    with Broker(tmp_path, "allow_anonymous false", f"password_file {users}", "user root") as broker:
        reporter = Remembering()
        sink = _sink(broker.port, reporter, "wrong one", user="me")
        sink.show(answer(0, label="cat"))
        wait_until(lambda: reporter.warned)
        assert "it refuses (Not authorized)" in reporter.warned[0]
        sink.close()
        assert "was not delivered (it refuses (Not authorized))" in sink.report().unwritten

        tiny_artifact(tmp_path / "tiny.onnx")
        clip = write_clip(tmp_path / "clip.mp4", ["red"] * 30)
        words = ["camera", str(tmp_path / "tiny.onnx"), "--source", str(clip), "--headless",
                 "--mqtt", f"mqtt://me@127.0.0.1:{broker.port}/{TOPIC}"]  # fmt: skip
        monkeypatch.setenv("EDGETL_MQTT_PASSWORD", "right one")
        assert run(words) == 0
        monkeypatch.setenv("EDGETL_MQTT_PASSWORD", "wrong one")
        (tmp_path / "password").write_text("right one\n")
        assert run([*words, "--mqtt-password-file", str(tmp_path / "password")]) == 0
        assert run(words) == 1
        with Subscriber(broker.port, "me", "right one") as later:
            wait_until(lambda: later.retained.get(AVAILABILITY) == "offline")
            assert json.loads(later.retained[TOPIC])["answer"] == "red"


@with_broker
@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl")
def test_tls_by_a_certificate_that_is_known_and_only_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.camera.test_certificates import _certificate

    certificate, key = _certificate(tmp_path, "here", "DNS:localhost", "IP:127.0.0.1")
    key.chmod(0o644)
    lines = (f"certfile {certificate}", f"keyfile {key}", "allow_anonymous true", "user root")
    with Broker(tmp_path, *lines) as broker:
        reporter = Remembering()
        sink = _sink(broker.port, reporter, tls=True)
        wait_until(lambda: reporter.warned)
        assert "certificate verify failed" in reporter.warned[0]
        sink.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        sink = _sink(broker.port, reporter, tls=True)
        sink.show(answer(0, label="cat"))
        wait_until(lambda: sink.report().unwritten == "")
        sink.close()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("mqtt://h/t", MqttOptions("h", 1883, "t")),
        ("mqtts://me@h/a/b/", MqttOptions("h", 8883, "a/b", True, "me")),
        ("mqtt://a%40b@[::1]:99/x%20y?discovery=", MqttOptions("::1", 99, "x y", False, "a@b", "")),
        ("mqtt://h/t?discovery=ha", MqttOptions("h", 1883, "t", discovery="ha")),
    ],
)
def test_addresses(url: str, options: MqttOptions) -> None:
    assert parse_url(url) == options


@pytest.mark.parametrize(
    "url",
    ["", "x", "mqtt://h", "mqtt://h/", "mqtt:///t", "http://h/t", "mqtt://h:0x/t", "mqtt://h/a/+", "mqtt://h/a#b",
     "mqtt://h/$SYS/x", "mqtt://h/t?a=b", "mqtt://h/t?discovery=%23", "mqtt://h/" + 300 * "t", "mqtt://[::zz]/t",
     "mqtt://.local/t"],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadInputError) as raised:
        parse_url(url)
    assert raised.value.hint


def test_a_password_in_the_address_is_refused_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_artifact(tmp_path / "tiny.onnx")
    words = ["camera", str(tmp_path / "tiny.onnx"), "--headless"]
    assert run([*words, "--mqtt", "mqtt://me:SECRETSECRET@h/t"]) == 2
    told = capsys.readouterr().err
    assert "has a password in it" in told
    assert "EDGETL_MQTT_PASSWORD" in told
    assert "SECRET" not in told
    assert run([*words, "--mqtt-password-file", "x"]) == 2
    assert run([*words, "--mqtt", "mqtt://me@h/t", "--mqtt-password-file", str(tmp_path / "nosuch")]) == 2
    assert "nosuch cannot be read: No such file" in capsys.readouterr().err


def test_without_paho_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingError, match="needs paho-mqtt") as raised:
        _sink(free_port())
    assert "[mqtt]" in raised.value.hint


def test_sensors_of_any_script_are_told_apart() -> None:
    topics = ["home/кухня", "home/ванна", "hall/door 1", "hall/door.1", "hall/door_1", "home/cat-flap"]
    ids = [mqtt._id_of(topic) for topic in topics]
    assert len({*ids}) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", one) for one in ids)
    assert ids[-2:] == ["edgetl_hall_door_1", "edgetl_home_cat-flap"], "others keep the one that they had"


def test_a_password_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="password of a user"):
        parse_url("mqtt://h/t", tmp_path / "password")
