"""What happens on a connection, named after the packets, and how it is asked for: frozen records."""

from __future__ import annotations

from dataclasses import dataclass

from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge.records import Message

PROTOCOL_MAX_PACKET_BYTES = 268_435_460  # MQTT 5, section 2.1.4: four bytes of length, and the header
PROTOCOL_RECEIVE_MAXIMUM = 65_535  # section 3.2.2.3.3: when the broker names none
# What a station takes: commands have at most 1 KB, the rest is topics and properties.
COMMAND_PACKET_BYTES = 16_384
COMMAND_RECEIVE_MAXIMUM = 16


@dataclass(frozen=True, slots=True)
class Introduction:
    """Our CONNECT."""

    client_id: str
    will: Message | None = None
    clean_start: bool = True
    session_expiry_s: int = 0
    protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    manual_ack: bool = False  # messages are acknowledged by `acknowledge`
    max_packet_bytes: int = COMMAND_PACKET_BYTES  # that we take
    receive_maximum: int = COMMAND_RECEIVE_MAXIMUM  # messages that we may owe an answer


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to our CONNECT, and what it can do."""

    reason: ReasonCode  # a failure: we are not connected
    session_present: bool  # what was published since the last connection is kept and will come
    receive_maximum: int = PROTOCOL_RECEIVE_MAXIMUM  # messages
    max_packet_bytes: int = PROTOCOL_MAX_PACKET_BYTES
    max_qos: int = 2
    retains: bool = True


@dataclass(frozen=True, slots=True)
class Puback:
    """A message's answer; for a QoS 0 message, that it was written."""

    packet_id: int
    reason: ReasonCode


@dataclass(frozen=True, slots=True)
class Suback:
    """A subscription's answer: the broker has read everything that was sent before."""

    packet_id: int
    reasons: tuple[ReasonCode, ...]  # one for each topic filter: the QoS granted, or a refusal

    @property
    def refused(self) -> bool:
        """True: at least one of them."""
        return any(reason.is_failure for reason in self.reasons)


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """A message for us."""

    topic: str
    payload: bytes
    packet_id: int
    retained: bool
    redelivered: bool
    response_topic: str  # "": none
    correlation: bytes  # b"": none
    user_properties: tuple[tuple[str, str], ...]
    received_at_s: float  # wall clock, seconds since 1970-01-01 UTC
    received_monotonic_s: float


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The end of the connection."""

    reason: ReasonCode
    from_broker: bool  # it said so, instead of falling silent
    answered: bool  # it had answered our CONNECT, with whatever reason
    violation: str = ""  # it broke the protocol, and we ended the connection


Event = Connack | Puback | Suback | Received | Disconnected
