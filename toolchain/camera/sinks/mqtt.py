"""Answers as messages of MQTT, which Home Assistant finds by itself."""

from __future__ import annotations

import hashlib
import math
import os
import re
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from toolchain._version import __version__
from toolchain.camera.answering import Answered, pretty
from toolchain.camera.sinks import Delivery, Sink, SinkContext, SinkReport
from toolchain.camera.sinks.messages import Changes, message
from toolchain.errors import BadInputError, MissingError
from toolchain.system import files
from toolchain.system.installation import install
from toolchain.system.progress import Reporter

if TYPE_CHECKING:
    from paho.mqtt.client import Client

PASSWORD = "EDGETL_MQTT_PASSWORD"
"""The environment variable that holds the password, unless a file does."""
PORTS = {"mqtt": 1883, "mqtts": 8883}
DISCOVERY = "homeassistant"
"""The topic under which Home Assistant looks for devices, unless it was told another one."""
KEEPALIVE_S = 15
"""A broker that is asked after so long a silence, and answers nothing for as long again, counts as lost; for the
broker a camera does after half as much again."""
SILENCE, MARGIN_S = "Keep alive timeout", 2.0
"""What paho calls that, and how much later it may be noticed."""
CONNECT_LIMIT_S = 5.0
FIRST_PAUSE_S, MAX_PAUSE_S = 1, 5
"""The pause between attempts to connect doubles from the first to the longest."""
SILENT_S = 5.0
"""A source that has been lost for so long makes the answer unavailable."""
END_LIMIT_S = 2.0
MAX_TOPIC = 256
MAX_PASSWORD = 4096
HINT = "Write --mqtt mqtt://[USER@]HOST[:PORT]/TOPIC, or mqtts:// for TLS."


@dataclass(frozen=True)
class MqttOptions:
    """Answers go to `topic` of the broker at `host`, encrypted with `tls`. `discovery` is the topic under which
    Home Assistant finds them; empty: it does not. Without `password_file`, the environment has the password."""

    host: str
    port: int
    topic: str
    tls: bool = False
    user: str | None = None
    discovery: str = DISCOVERY
    password_file: Path | None = None

    def open(self, context: SinkContext) -> Mqtt:
        return Mqtt(self, _password(self), context.artifact.card.source.model, context.reporter)


def parse_url(url: str, password_file: Path | None = None) -> MqttOptions:
    """Read `mqtt://[user@]host[:port]/topic[?discovery=PREFIX]`. Raises BadInputError for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        (parts.hostname or "").encode("idna")  # `.local` is no name: a part of it is empty
    except ValueError:
        raise BadInputError("--mqtt is no address of a broker", HINT) from None
    if parts.password is not None:
        raise BadInputError(
            "--mqtt has a password in it, which others on this machine can read",
            f"Leave it out, and put it into the variable {PASSWORD}, or a file: --mqtt-password-file FILE.",
        )
    topic, discovery = unquote(parts.path.strip("/")), query.pop("discovery", DISCOVERY)
    if parts.scheme not in PORTS or not parts.hostname or parts.fragment or query:
        raise BadInputError("--mqtt is no address of a broker", HINT)
    for name in (topic, discovery or DISCOVERY):
        if not name or len(name) > MAX_TOPIC or name.startswith("$") or re.search(r"[+#\x00-\x1f\x7f]", name):
            raise BadInputError(f"{name!r} is no topic to write to", HINT)
    user = unquote(parts.username) if parts.username else None
    if password_file is not None and user is None:
        raise BadInputError("--mqtt-password-file is the password of a user, and --mqtt names none", HINT)
    return MqttOptions(parts.hostname, port, topic, parts.scheme == "mqtts", user, discovery, password_file)


def from_text(value: str) -> MqttOptions:
    """The options that `--sink mqtt=URL` stands for."""
    return parse_url(value)


def _password(options: MqttOptions) -> str | None:
    if options.password_file is None:
        return os.environ.get(PASSWORD)
    try:
        return files.read_regular(options.password_file, MAX_PASSWORD).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadInputError(f"{options.password_file} cannot be read: {reason}") from None


@dataclass
class _State:
    """What the broker should hold: the answers, by region."""

    answers: dict[str, bytes] = field(default_factory=dict)
    available: bool = False


class Mqtt(Sink):
    """Publishes the answer whenever it changes, as JSON that the broker retains.

    `TOPIC/availability` says `online` or `offline`: also when the source has been lost for some seconds, and, by
    the broker itself, when this process is gone. After each connection the broker gets all of it anew, so that the
    last answer arrives however long it was away; what changed meanwhile is not queued. Quality of service 0 is
    enough for that, and of the others paho would send old messages again, after the newest one.
    """

    delivery: Delivery = "newest"

    def __init__(
        self,
        options: MqttOptions,
        password: str | None,
        model: str,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name: str = f"the broker at {options.host}:{options.port}"
        self._options = options
        self._availability = f"{options.topic}/availability"
        self._model = model
        self._reporter = reporter
        self._clock = clock
        self._changes = Changes()
        self._lock = Lock()
        """Held while the state is changed or published, so that an older one never follows a newer one."""
        self._state = _State()
        self._lost_since_s: float | None = None
        self._connected = Event()
        self._delivered = False
        self._published_s = -math.inf
        """When an answer was last handed to the connection."""
        self._trouble = ""
        self._client = self._made(password)
        self._client.connect_async(options.host, options.port, KEEPALIVE_S)
        self._client.loop_start()

    def show(self, answered: Answered) -> None:
        self._lost_since_s = None
        for one in answered.each():
            if self._changes(one):
                with self._lock:
                    if one.region not in self._state.answers:
                        self._describe(one.region)
                    self._state.answers[one.region] = message(one)
                    self._delivered, self._published_s = self._connected.is_set(), self._clock()
                    self._publish(self._topic(one.region), self._state.answers[one.region])
        self._set_available(True)

    def idle(self, state: str) -> None:
        if not state:
            return
        now = self._clock()
        self._lost_since_s = now if self._lost_since_s is None else self._lost_since_s
        if now - self._lost_since_s >= SILENT_S:
            self._set_available(False)

    def close(self) -> None:
        """Say good-bye, and wait `END_LIMIT_S` until the broker confirms: then it has what came before, too."""
        if self._state.answers and not self._trouble:
            self._connected.wait(END_LIMIT_S)  # of a short clip, the end may come before the connection
        if self._connected.is_set() and not self._confirmed():
            self._delivered, self._trouble = False, self._trouble or "it does not confirm it"
        self._client.disconnect()

    def report(self) -> SinkReport:
        if self._state.answers and not self._delivered:
            return SinkReport(
                unwritten=f"{self.name}: the last answer was not delivered ({self._trouble or 'no connection yet'})"
            )
        return SinkReport()

    def _made(self, password: str | None) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise MissingError("--mqtt needs paho-mqtt, which is not installed", install("mqtt")) from None
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"edgetl-{secrets.token_hex(6)}")
        if self._options.user is not None:
            client.username_pw_set(self._options.user, password)
        if self._options.tls:
            client.tls_set_context(ssl.create_default_context())
        client.will_set(self._availability, "offline", qos=1, retain=True)
        client.reconnect_delay_set(FIRST_PAUSE_S, MAX_PAUSE_S)
        client.connect_timeout = CONNECT_LIMIT_S
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        reconnect = client.reconnect

        def told() -> Any:
            try:
                return reconnect()
            except OSError as error:
                self._lose(error.strerror or str(error) or type(error).__name__)
                raise

        client.reconnect = told  # type: ignore[method-assign]  # paho does not tell why it failed
        return client

    def _on_connect(self, client: object, userdata: object, flags: object, reason: Any, properties: object) -> None:
        """Runs in paho's thread, at each connection."""
        if reason.is_failure:
            self._lose(f"it refuses ({reason})")
            return
        with self._lock:
            self._connected.set()
            if self._trouble:
                self._reporter.say(f"{self.name} is back")
                self._trouble = ""
            for region, answer in self._state.answers.items():
                self._describe(region)
                self._publish(self._topic(region), answer)
                self._delivered, self._published_s = True, self._clock()
            self._publish(self._availability, b"online" if self._state.available else b"offline")

    def _on_disconnect(
        self, client: object, userdata: object, flags: object, reason: Any, properties: object
    ) -> None:
        was = self._connected.is_set()
        self._connected.clear()
        if reason.is_failure and was:
            # It may have been gone before the last answer: it is asked after a silence, and given as long again.
            silent = str(reason) == SILENCE and self._clock() - self._published_s < 2 * KEEPALIVE_S + MARGIN_S
            self._delivered = self._delivered and not silent
            self._lose(f"the connection is lost ({reason})")

    def _lose(self, reason: str) -> None:
        if not self._trouble:
            self._reporter.warn(f"{self.name} cannot be reached: {reason}; trying again until it answers")
        self._trouble = reason

    def _confirmed(self) -> bool:
        last = self._client.publish(self._availability, b"offline", qos=1, retain=True)
        try:
            last.wait_for_publish(END_LIMIT_S)
            return last.is_published()
        except (RuntimeError, ValueError):  # the connection was lost just now
            return False

    def _set_available(self, available: bool) -> None:
        if self._state.available != available:
            with self._lock:
                self._state.available = available
                self._publish(self._availability, b"online" if available else b"offline")

    def _publish(self, topic: str, payload: bytes) -> None:
        """Hand a message to paho's thread; nothing happens while there is no connection."""
        if self._connected.is_set():
            self._client.publish(topic, payload, qos=0, retain=True)

    def _topic(self, region: str) -> str:
        return f"{self._options.topic}/{region}" if region else self._options.topic

    def _describe(self, region: str) -> None:
        """Tell Home Assistant of a sensor."""
        if self._options.discovery:
            topic = f"{self._options.discovery}/sensor/{_id_of(self._topic(region))}/config"
            self._publish(topic, files.to_json(self._described(region), indent=0).strip())

    def _described(self, region: str) -> dict[str, object]:
        """A sensor whose state is the label. Those of several regions belong to one device."""
        topic, device = self._topic(region), _id_of(self._options.topic)
        name = pretty(re.sub(r"[-_/]+", " ", self._options.topic.rpartition("/")[2]))
        return {
            "name": region or None,  # without one, it is called like the device
            "unique_id": _id_of(topic),
            "state_topic": topic,
            "value_template": "{{ value_json.answer if value_json.answer is not none else 'not sure' }}",
            "json_attributes_topic": topic,
            "availability_topic": self._availability,
            "icon": "mdi:cctv",
            "device": {
                "identifiers": [device],
                "name": name,
                "manufacturer": "edgetl",
                "model": self._model,
                "sw_version": __version__,
            },
            "origin": {"name": "edgetl", "sw_version": __version__},
        }


def _id_of(topic: str) -> str:
    """What stays the same over all runs with a topic, in letters that Home Assistant permits."""
    levels = topic.replace("/", "_")
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", levels)
    if plain == levels:
        return f"edgetl_{plain}"
    # What is replaced, such as letters of other scripts, becomes the same sign.
    return f"edgetl_{plain}_{hashlib.sha256(topic.encode()).hexdigest()[:8]}"
