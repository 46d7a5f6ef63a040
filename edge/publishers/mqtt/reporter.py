"""What the log of one broker says, one line for each change, and what is wrong now."""

from __future__ import annotations

import logging
from time import monotonic

from paho.mqtt.reasoncodes import ReasonCode

from edge.publishers.mqtt.events import Connack, Disconnected
from edge.publishers.mqtt.reasons import FAILURE, PACKET_TOO_LARGE
from edge.publishers.mqtt.words import explain, explain_silence, name_reason, with_advice
from edge.settings.sections import MqttSettings

STABLE_S = 10.0  # a connection that lasted this long is one
_RESTLESS = 3  # connections in a row that did not


class Reporter:
    """Of the connections of one client. `trouble` may be read from any thread, the rest belongs to one."""

    def __init__(self, broker: MqttSettings, client_id: str, log: logging.Logger) -> None:
        """Nothing is known yet."""
        self.address = f"{broker.host}:{broker.port}"
        self._tls = broker.tls
        self._client_id = client_id
        self._log = log
        self._said = ""
        self._trouble = "not connected yet"
        self._connected_at_s: float | None = None
        self._short_lives = 0  # connections in a row that did not last

    @property
    def trouble(self) -> str:
        """What is wrong; "": nothing."""
        return self._trouble

    def say(self, level: int, state: str) -> None:
        """The state of the connection; from WARNING on it is trouble."""
        self._trouble = state if level > logging.INFO else ""
        if state != self._said:
            self._said = state
            self._log.log(level, "%s: %s", self.address, state)

    def complain(self, error: Exception) -> None:
        """There is no connection."""
        text = explain(error, tls=self._tls)
        self.say(logging.WARNING, f"cannot connect: {text}")

    def greet(self, connack: Connack) -> bool:
        """The broker's answer. False: the connection is of no use."""
        if connack.reason.is_failure:
            self.say(logging.ERROR, f"refuses us: {with_advice(connack.reason)}")
            return False
        if connack.max_qos < 1:
            self.say(
                logging.ERROR,
                "takes messages at QoS 0 only (Maximum QoS 0), which are never acknowledged, so that no verdict would "
                "be safe with it: allow QoS 1 at the broker, or use another one",
            )
            return False
        self._connected_at_s = monotonic()
        return True

    def work(self, state: str) -> None:
        """The connection is up; said at once, but after many short ones not before it has lasted."""
        if self._short_lives >= _RESTLESS and not self._has_lasted():
            return
        if self._has_lasted():
            self._short_lives = 0
        self.say(logging.INFO, state)

    def part(self, end: Disconnected) -> None:
        """A connection that we did not end has ended."""
        if end.violation:
            self.say(logging.ERROR, f"the broker breaks the protocol: {end.violation}; connecting again")
        elif not end.answered:
            self.say(logging.WARNING, explain_silence(end.reason, tls=self._tls))
        elif end.from_broker:
            self.say(logging.WARNING, f"the broker ended the connection: {with_advice(end.reason)}")
        elif self._connected_at_s is not None:
            self.say(logging.WARNING, f"connection lost: {end.reason}{self._doubt()}")

    def end_connection(self) -> None:
        """There is none any more, whoever ended it."""
        self._short_lives = self._count_lives()
        self._connected_at_s = None

    def _count_lives(self) -> int:
        if self._connected_at_s is None:
            return self._short_lives
        return 0 if self._has_lasted() else self._short_lives + 1

    def _has_lasted(self) -> bool:
        return self._connected_at_s is not None and monotonic() - self._connected_at_s >= STABLE_S

    def _doubt(self) -> str:
        """Not every broker says why it ends a connection when another client takes its id."""
        if self._count_lives() < _RESTLESS:
            return ""
        return (
            f", again and again soon after it was up; does another client use the client id {self._client_id}? "
            "Give each an own mqtt.client_id or station name. Or does the broker end again and again?"
        )


class AnswerReporter:
    """Of the messages that the broker refuses. Belongs to one thread."""

    def __init__(self, address: str, log: logging.Logger) -> None:
        """`address` begins every line."""
        self._address = address
        self._log = log
        self._refused: dict[str, int] = {}  # topic → reason code

    def begin_connection(self) -> None:
        """What was refused before may be refused anew."""
        self._refused.clear()

    def report_answer(self, topic: str, reason: ReasonCode) -> None:
        """The broker's answer to a message."""
        before = self._refused.pop(topic, 0)
        if reason.value >= FAILURE:
            self._refused[topic] = reason.value
            if reason.value != before:
                self._log.error("%s: refuses %s: %s", self._address, topic, name_reason(reason))
        elif before:
            self._log.info("%s: accepts %s again", self._address, topic)

    def report_oversize(self, topic: str, size: int, limit: int) -> None:
        """A message of `size` bytes was not sent."""
        if self._refused.get(topic) != PACKET_TOO_LARGE:
            self._refused[topic] = PACKET_TOO_LARGE
            self._log.error(
                "%s: %s of %d bytes is larger than the broker's Maximum Packet Size of %d: discarded; "
                "raise that limit or lower defects.crop_max_bytes",
                self._address,
                topic,
                size,
                limit,
            )

    def report_culprit(self, topic: str, size: int, strikes: int) -> None:
        """A message of `size` bytes ended one connection after the other."""
        self._log.error(
            "%s: the connection ended %d times while only a message of %d bytes on %s was unanswered: "
            "discarded; does the broker have a limit that it does not announce?",
            self._address,
            strikes,
            size,
            topic,
        )
