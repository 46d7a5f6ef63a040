"""Who speaks to a station: a client that sends commands and waits for their answers, as a PLC's gateway does."""

from __future__ import annotations

import itertools
import ssl
import threading
from types import TracebackType
from typing import Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.rig.brokers import PATIENCE_S, Place, wait_until


class Requester:
    """Connected and listening to its answers from the beginning to the end of its context."""

    def __init__(
        self,
        broker: Place,
        base: str,
        *,
        name: str = "plc",
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.response_topic = f"{base}/reply/{name}"
        self.base = base
        self._replies: dict[bytes, list[MQTTMessage]] = {}
        self._numbers = itertools.count()
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{base}/reply/{name}", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._take
        if password is not None:
            self._client.username_pw_set(name, password)
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.connect("localhost" if tls else broker.host, broker.port)

    def send(self, command: str, payload: bytes, *, correlation: bytes = b"c", retain: bool = False) -> None:
        """Without waiting for the answer, but until the broker has it."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it out
        properties.ResponseTopic = self.response_topic
        properties.CorrelationData = correlation
        topic = f"{self.base}/cmd/{command}"
        self._client.publish(topic, payload, 1, retain, properties).wait_for_publish(PATIENCE_S)

    def ask(self, command: str, payload: bytes, *, correlation: bytes) -> MQTTMessage:
        """The answer to this command."""
        before = len(self.replies(correlation))
        self.send(command, payload, correlation=correlation)
        wait_until(lambda: len(self.replies(correlation)) > before, f"an answer to {command}")
        return self.replies(correlation)[before]

    def replies(self, correlation: bytes) -> list[MQTTMessage]:
        """The answers with this correlation data so far."""
        return list(self._replies.get(correlation, []))

    def await_listener(self, command: str) -> None:
        """Send `command`, each time as a new one, until somebody answers."""

        def answered() -> bool:
            correlation = b"listener-%d" % next(self._numbers)
            self.send(command, b"", correlation=correlation)
            return any(key.startswith(b"listener-") for key in list(self._replies))

        wait_until(answered, "the station listens")
        self.ask(command, b"", correlation=b"last")  # those before are answered, too

    def _take(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", b"")
        self._replies.setdefault(correlation, []).append(message)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE_S), "the broker does not answer the subscription"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
