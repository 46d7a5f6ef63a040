"""What a broker answers: MQTT 5's reason codes, and how people are told of them, one line for each change."""

from __future__ import annotations

import logging

from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger("patchline.mqtt")

# MQTT 5, section 2.4. Those from FAILURE on are refusals; what is not FINAL may pass later.
FAILURE = 0x80
PROTOCOL_ERROR = 0x82
IMPLEMENTATION_SPECIFIC_ERROR = 0x83
NOT_AUTHORIZED = 0x87
TOPIC_NAME_INVALID = 0x90
PACKET_TOO_LARGE = 0x95
PAYLOAD_FORMAT_INVALID = 0x99
RETAIN_NOT_SUPPORTED = 0x9A
FINAL = frozenset({NOT_AUTHORIZED, TOPIC_NAME_INVALID, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID})
OF_ONE_MESSAGE = frozenset({PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID})  # the next one on the same topic may pass


class Reporter:
    """Tells the log of one broker. Belongs to one thread."""

    def __init__(self, address: str) -> None:
        """`address` begins every line."""
        self._address = address
        self._said = ""
        self._refused: dict[str, int] = {}  # topic → reason code

    def say(self, level: int, state: str) -> None:
        """The state of the connection."""
        if state != self._said:
            self._said = state
            log.log(level, "%s: %s", self._address, state)

    def begin_connection(self) -> None:
        """What was refused before may be refused anew."""
        self._refused.clear()

    def report_answer(self, topic: str, reason: ReasonCode) -> None:
        """The broker's answer to a message."""
        before = self._refused.pop(topic, 0)
        if reason.value >= FAILURE:
            self._refused[topic] = reason.value
            if reason.value != before:
                log.error("%s: refuses %s: %s", self._address, topic, name_reason(reason))
        elif before:
            log.info("%s: accepts %s again", self._address, topic)

    def report_oversize(self, topic: str, size: int, limit: int) -> None:
        """A message of `size` bytes was not sent."""
        if self._refused.get(topic) != PACKET_TOO_LARGE:
            self._refused[topic] = PACKET_TOO_LARGE
            log.error(
                "%s: %s of %d bytes is larger than the broker's Maximum Packet Size of %d: discarded; "
                "raise that limit or lower defects.crop_max_bytes",
                self._address,
                topic,
                size,
                limit,
            )

    def report_culprit(self, topic: str, size: int, strikes: int) -> None:
        """A message of `size` bytes ended one connection after the other."""
        log.error(
            "%s: the connection ended %d times while only a message of %d bytes on %s was unanswered: "
            "discarded; does the broker have a limit that it does not announce?",
            self._address,
            strikes,
            size,
            topic,
        )


def name_reason(reason: ReasonCode) -> str:
    """As the specification names it, with its code."""
    return f"{reason} (0x{reason.value:02X})"
