"""A Sparkplug host application for tests: a real MQTT client that reads with the published schema, not with ours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from sparkplub_b_packets.core.sparkplug_b_pb2 import DataType, Payload

from benchmarks.rig.brokers import PATIENCE_S, Mosquitto, wait_until

HOST_ID = "scada"
NCMD = "spBv1.0/plant/NCMD/line3-camera2"
STATE = f"spBv1.0/STATE/{HOST_ID}"


@dataclass(frozen=True)
class Heard:
    """One message, as the broker delivered it to a subscription of QoS 1."""

    topic: str
    kind: str  # NBIRTH, DDATA, …
    qos: int
    retain: bool
    payload: Any

    @property
    def names(self) -> list[str]:
        return [metric.name for metric in self.payload.metrics]

    @property
    def values(self) -> dict[str, Any]:
        return {metric.name: value_of(metric) for metric in self.payload.metrics}

    @property
    def historical(self) -> set[bool]:
        return {metric.is_historical for metric in self.payload.metrics}


def decode(payload: bytes) -> Any:
    """By the published schema."""
    return Payload.FromString(payload)


def value_of(metric: Any) -> Any:
    """The value as a host understands it; None for null."""
    field = metric.WhichOneof("value")
    assert (field is None) == metric.is_null
    value: Any = None if field is None else getattr(metric, field)
    if field in {"int_value", "long_value"}:
        bits = 32 if field == "int_value" else 64
        return value - (1 << bits) if value >= 1 << bits - 1 else value
    return value


def rebirth_request(*, name: str = "Node Control/Rebirth", value: bool = True) -> bytes:
    """As a host application sends it."""
    request = Payload(timestamp=round(time.time() * 1000))
    request.metrics.add(name=name, datatype=DataType.Value("Boolean"), boolean_value=value)
    return bytes(request.SerializeToString())


def state(*, online: bool, timestamp: int) -> bytes:
    return json.dumps({"online": online, "timestamp": timestamp}).encode()


class Host:
    """Subscribed to everything of Sparkplug from `__enter__` on."""

    def __init__(self, broker: Mosquitto, name: str = "host") -> None:
        self._heard: list[Heard] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv311)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("spBv1.0/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._hear
        self._client.connect(broker.host, broker.port)

    def heard(self, *kinds: str) -> list[Heard]:
        """Of those kinds, in order of arrival."""
        return [one for one in list(self._heard) if one.kind in kinds]

    def wait_for(self, kind: str, count: int = 1) -> list[Heard]:
        wait_until(lambda: len(self.heard(kind)) >= count, f"{count} {kind}, got {[one.kind for one in self._heard]}")
        return self.heard(kind)

    def say(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(PATIENCE_S)

    def announce(self, *, online: bool, timestamp: int) -> None:
        """Its own STATE."""
        self.say(STATE, state(online=online, timestamp=timestamp), qos=1, retain=True)

    def reconnected(self) -> Callable[[], bool]:
        """A condition: it has subscribed again since this call."""
        self._subscribed.clear()
        return self._subscribed.is_set

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        kind = message.topic.split("/")[2]
        if kind in {"NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"}:
            payload = decode(bytes(message.payload))
            self._heard.append(Heard(message.topic, kind, message.qos, message.retain, payload))
