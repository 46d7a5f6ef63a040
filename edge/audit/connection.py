"""One MQTT 5 connection that listens at QoS 1.

A message is acknowledged when the caller says so and not when it was received, so that the caller can put it on
disk first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.audit.messages import Heard
from edge.publishers.mqtt.client import DrivenClient, mqtt_properties, take_leave
from edge.settings.sections import MqttSettings

_FAREWELL_S = 2.0
_MOST_PACKETS = 500  # read in one turn, so that acknowledging and showing are not put off for ever


@dataclass(frozen=True, slots=True)
class Session:
    """Whose messages the broker keeps, and for how long after the connection ended."""

    client_id: str
    expiry_s: int
    lasting: bool  # False: the session ends when the audit takes leave


@dataclass(frozen=True, slots=True)
class Welcome:
    """The broker's CONNACK."""

    reason: ReasonCode  # a failure: we are not connected
    session_present: bool  # what was published since the last connection is kept and will come


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker's SUBACK."""

    reasons: tuple[ReasonCode, ...]  # one for each filter: the QoS granted, or a refusal


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The end of the connection."""

    reason: ReasonCode
    from_broker: bool  # it said so, instead of falling silent


Event = Welcome | Subscribed | Heard | Goodbye


class Subscription(DrivenClient[Event]):
    """Open from construction to `leave` or `cut`."""

    def __init__(self, settings: MqttSettings, session: Session, filters: Sequence[str]) -> None:
        """Connect, which takes up to twice `CONNECT_TIMEOUT_S`; everything the broker says is an event.

        Args:
            settings: the broker; its `client_id` is the station's and is not used.
            session: ours.
            filters: topic filters to subscribe to as soon as the broker has welcomed us.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
            OSError: nobody answers, or not whom we trust.
            ValueError: the host is no valid name.
        """
        self._filters = filters
        self._session = session
        super().__init__(self._make_client(), settings)
        properties = mqtt_properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session.expiry_s
        # Never a clean start: the session is looked for, and the broker says whether it was there.
        self._client.connect(
            settings.host, settings.port, settings.keepalive_s, clean_start=False, properties=properties
        )

    def turn(self, timeout_s: float, packets: int = _MOST_PACKETS) -> bool:
        """See `DrivenClient.turn`."""
        return super().turn(timeout_s, packets)

    def acknowledge(self, heard: Heard) -> None:
        """Tell the broker that it need not send this message again."""
        self._client.ack(heard.packet_id, 1)

    def leave(self) -> None:
        """Take leave; the session stays at the broker only if it is a lasting one."""
        properties = mqtt_properties(PacketTypes.DISCONNECT)
        properties.SessionExpiryInterval = self._session.expiry_s if self._session.lasting else 0
        take_leave(self._client, properties, _FAREWELL_S)

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._session.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _on_connect(
        self, client: Client, _userdata: object, flags: ConnectFlags, reason: ReasonCode, _limits: Properties | None
    ) -> None:
        self._events.append(Welcome(reason, flags.session_present))
        if not reason.is_failure:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._filters])

    def _on_subscribe(
        self, _client: Client, _userdata: object, _packet_id: int, reasons: list[ReasonCode], _properties: Properties
    ) -> None:
        self._events.append(Subscribed(tuple(reasons)))

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        received_at_s = time.time()
        properties = tuple(getattr(message.properties, "UserProperty", ()))
        # paho raises where a topic is not UTF-8, which no broker should pass on.
        topic = bytes(message._topic).decode("utf-8", "replace")  # noqa: SLF001 — the only way to the raw bytes
        self._events.append(
            Heard(
                topic=topic,
                payload=bytes(message.payload),
                received_at_s=received_at_s,
                redelivered=message.dup,
                retained=message.retain,
                packet_id=message.mid,
                user_properties=properties,
            )
        )

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._events.append(Goodbye(reason, flags.is_disconnect_packet_from_server))
