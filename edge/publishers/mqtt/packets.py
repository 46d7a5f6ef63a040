"""What of a message MQTT 5 carries beside its payload, and how large the packet becomes. Pure."""

from __future__ import annotations

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.records import Message


def mqtt_properties(packet_type: int) -> Properties:
    """Those of MQTT 5, empty, for one type of packet."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho leaves it out


def publish_properties(message: Message) -> Properties:
    """The MQTT 5 properties of `message`."""
    properties = mqtt_properties(PacketTypes.PUBLISH)
    properties.ContentType = message.content_type
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    if message.correlation:
        properties.CorrelationData = message.correlation
    if message.user_properties:
        properties.UserProperty = list(message.user_properties)
    return properties


def packet_bytes(message: Message) -> int:
    """Size of the whole PUBLISH packet, which a broker's Maximum Packet Size limits."""
    properties = publish_properties(message).pack()  # type: ignore[no-untyped-call]  # paho leaves it out
    packet_id = 2 if message.qos else 0
    rest = 2 + len(message.topic.encode()) + packet_id + len(properties) + len(message.payload)
    length_field = 1 + (rest >= 1 << 7) + (rest >= 1 << 14) + (rest >= 1 << 21)
    return 1 + length_field + rest
