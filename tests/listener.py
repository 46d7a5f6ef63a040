"""A real MQTT subscriber that keeps everything it receives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion


class Listener:
    """Subscribed from `__enter__` on; what it received stays readable after `__exit__`."""

    def __init__(self, host: str, port: int, topic: str) -> None:
        self._messages: list[MQTTMessage] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="test-listener", protocol=MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._messages.append(message)
        self._client.connect(host, port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._subscribed.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def payloads(self, topic: str) -> list[bytes]:
        """Of one topic, in order of arrival."""
        return [bytes(message.payload) for message in list(self._messages) if message.topic == topic]

    def properties(self, topic: str) -> list[dict[str, str]]:
        """User properties of one topic's messages."""
        return [
            dict(getattr(message.properties, "UserProperty", []))
            for message in list(self._messages)
            if message.topic == topic
        ]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
        """Whether `condition` came true within the time; an IndexError means not yet."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if condition():
                    return True
            except IndexError:
                pass
            time.sleep(0.02)
        return False
