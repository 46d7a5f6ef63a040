"""What all our MQTT connections share: one paho client, driven by one thread through paho's external loop.

Nothing of paho's own thread, reconnecting or resending is used: in 2.2 they resend beyond the broker's
Receive Maximum, reconnect for ever on a message the broker cannot take, and die in silence. The callbacks
only append to a list, which the same thread reads afterwards.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from time import monotonic
from typing import Generic, TypeVar

from paho.mqtt.client import Client
from paho.mqtt.properties import Properties

from edge.publishers.mqtt.credentials import read_password, tls_context
from edge.settings.sections import MqttSettings

CONNECT_TIMEOUT_S = 5.0  # for TCP and again for TLS; paho's default

Event = TypeVar("Event")


class DrivenClient(Generic[Event]):
    """A connection to be, of the kind that `Event` describes. Belongs to one thread."""

    def __init__(self, client: Client, settings: MqttSettings, wake: socket.socket | None = None) -> None:
        """Prepare `client` to connect as `settings` say; a byte on `wake` ends the waiting in `turn`.

        Raises:
            SettingsError: a certificate, key or password file cannot be used.
        """
        self._client = client
        self._wake = wake
        self._events: list[Event] = []
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_socket_open = _send_at_once
        if settings.user is not None:
            client.username_pw_set(settings.user, read_password(settings))
        if (context := tls_context(settings)) is not None:
            client.tls_set_context(context)

    @property
    def congested(self) -> bool:
        """Bytes are waiting for the network."""
        return self._client.want_write()

    def turn(self, timeout_s: float, packets: int = 1) -> bool:
        """Wait for the network or a wake-up, then read and write what is possible. False: it has ended.

        Reads up to so many `packets`, if they are there already.
        """
        for number in range(packets):
            if not self._exchange(0 if number else timeout_s):
                break
        self._client.loop_misc()
        return self._client.socket() is not None

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def cut(self) -> None:
        """End without a word, unless it has ended: the broker then publishes the will."""
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _exchange(self, timeout_s: float) -> bool:
        """Read one packet and write what waits. False: there was nothing to read."""
        connection = self._client.socket()
        if connection is None:
            return False
        buffered = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        readers = [connection] if self._wake is None else [connection, self._wake]
        writers = [connection] if self._client.want_write() else []
        readable, _, _ = select.select(readers, writers, [], 0 if buffered else timeout_s)
        if self._wake is not None and self._wake in readable:
            self._wake.recv(4096)
        has_input = buffered or connection in readable
        if has_input:
            self._client.loop_read()
        self._client.loop_write()
        return has_input


def take_leave(client: Client, properties: Properties | None, patience_s: float) -> None:
    """Send DISCONNECT and let the broker read it, which takes up to `patience_s`.

    Closing while the broker still sends resets the connection, and the broker may throw away what it has not read:
    our last acknowledgements, and the DISCONNECT itself, so that it publishes the will.
    """
    connection = client.socket()
    if connection is None:
        return
    with socket.socket(fileno=os.dup(connection.fileno())) as open_end:
        client.disconnect(properties=properties)
        if client.socket() is None:  # paho closes its own end at once; otherwise older bytes go first
            _wait_for_the_end(open_end, patience_s)


def _wait_for_the_end(connection: socket.socket, patience_s: float) -> None:
    give_up_at_s = monotonic() + patience_s
    connection.settimeout(patience_s)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536) and monotonic() < give_up_at_s:
            pass


def mqtt_properties(packet_type: int) -> Properties:
    """Those of MQTT 5, empty, for one type of packet."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho leaves it out


def _send_at_once(_client: Client, _userdata: object, connection: object) -> None:
    """Without this a verdict waits up to 40 ms for the broker's system to confirm the one before (Nagle)."""
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
