"""paho's client, made to read no more than we told the broker that we take.

paho reads every packet to its end before it looks at it, up to the protocol's 256 MB, and keeps what comes at QoS 2
until the broker says that it may go. Both are decided here as soon as the first bytes of a packet are known.
"""

from __future__ import annotations

from dataclasses import dataclass

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from edge.publishers.mqtt.reasons import PACKET_TOO_LARGE, PROTOCOL_ERROR, QUOTA_EXCEEDED

READ_BYTES = 65_536  # at once: paho asks for all that is left of a packet, for which Python then takes memory
MAX_UNSENT_PACKETS = 10_000  # answers that a broker has us give and does not read


@dataclass(frozen=True, slots=True)
class Violation:
    """The broker broke the protocol."""

    what: str
    reason_code: int  # of our DISCONNECT


class BoundedClient(Client):
    """Belongs to one thread, which calls paho's `loop_read`, `loop_write` and `loop_misc`."""

    def __init__(
        self, client_id: str, protocol: MQTTProtocolVersion, max_packet_bytes: int, *, manual_ack: bool = False
    ) -> None:
        """Not connected yet.

        Args:
            client_id: unique at the broker.
            protocol: MQTT 5, where a larger packet ends the connection, because the broker was told of the limit;
                or 3.1.1, which has no such limit to tell: what is larger is read and all but its beginning forgotten.
            max_packet_bytes: kept of one packet, its fixed header apart.
            manual_ack: messages at QoS 1 are acknowledged by `ack`.
        """
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if protocol == MQTTProtocolVersion.MQTTv5 else True,
            protocol=protocol,
            reconnect_on_failure=False,  # paho would try an older protocol within `loop_read`
            manual_ack=manual_ack,
        )
        self._max_packet_bytes = max_packet_bytes
        self._violation: Violation | None = None

    @property
    def violation(self) -> Violation | None:
        """What the broker did; nothing more is read then."""
        if self._violation is None and len(self._out_packet) > MAX_UNSENT_PACKETS:
            self._violation = Violation("it asks and does not read our answers", QUOTA_EXCEEDED)
        return self._violation

    def _sock_recv(self, bufsize: int) -> bytes:
        """Paho's only way to the network."""
        packet = self._in_packet
        if packet["have_remaining"]:
            self._judge(packet["command"], packet["remaining_length"])
            del packet["packet"][self._max_packet_bytes :]
        if self._violation is not None:
            raise BlockingIOError  # paho then leaves the rest for later, which never comes
        return super()._sock_recv(min(bufsize, READ_BYTES))

    def _judge(self, command: int, size: int) -> None:
        """What is known when the body of a packet of `size` bytes begins."""
        if self._protocol == MQTTProtocolVersion.MQTTv5 and size > self._max_packet_bytes:
            what = f"it sends {size} bytes in one packet, though we announced {self._max_packet_bytes} at the most"
            self._violation = Violation(what, PACKET_TOO_LARGE)
        elif command >> 4 == PacketTypes.PUBLISH and command >> 1 & 3 > 1:
            self._violation = Violation("it sends at QoS 2, though we subscribed at QoS 1", PROTOCOL_ERROR)
