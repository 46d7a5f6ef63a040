"""What people are told of a connection, and what they can do: texts only. Pure."""

from __future__ import annotations

import ssl

from paho.mqtt.reasoncodes import ReasonCode

from edge.publishers.mqtt import reasons

_WHO = "check the user, its password and the client id in the settings, and the broker's access rules"
ADVICE = {
    reasons.UNSUPPORTED_PROTOCOL: "it must speak MQTT 5 with stations and audits, and MQTT 3.1.1 with Sparkplug",
    reasons.CLIENT_ID_INVALID: "choose another mqtt.client_id",
    reasons.BAD_PASSWORD: _WHO,
    reasons.NOT_AUTHORIZED: _WHO,
    reasons.SERVER_UNAVAILABLE: "it is up to the broker; we try again",
    reasons.SERVER_BUSY: "it is up to the broker; we try again",
    reasons.BANNED: "lift the ban at the broker",
    reasons.SESSION_TAKEN_OVER: "another client uses our client id: give each an own mqtt.client_id or station name",
    reasons.TOPIC_NAME_INVALID: "allow the topics of this station at the broker",
    reasons.PACKET_TOO_LARGE: "raise the broker's Maximum Packet Size",
    reasons.QUOTA_EXCEEDED: "raise the broker's limits for this client",
    reasons.RETAIN_NOT_SUPPORTED: "it keeps no retained messages: we go on without them",
    reasons.QOS_NOT_SUPPORTED: "allow QoS 1 at the broker: without acknowledgements no verdict is safe",
    reasons.USE_ANOTHER_SERVER: "put the other broker's name into mqtt.host",
    reasons.SERVER_MOVED: "put the other broker's name into mqtt.host",
    reasons.CONNECTION_RATE_EXCEEDED: "it is up to the broker; we try again",
}


def name_reason(reason: ReasonCode) -> str:
    """As the specification names it, with its code."""
    return f"{reason} (0x{reason.value:02X})"


def with_advice(reason: ReasonCode) -> str:
    """`reason`, and what to do about it."""
    return f"{name_reason(reason)}; {ADVICE.get(reason.value, 'the broker log may say why')}"


def explain(error: Exception, *, tls: bool = False) -> str:
    """Why there is no connection.

    Args:
        error: of connecting.
        tls: we wanted to speak TLS.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is refused: {error.verify_message}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # A broker that does not speak TLS takes our greeting for garbage: it hangs up, or answers with its own.
    if tls and isinstance(error, ssl.SSLError | ConnectionResetError | TimeoutError):
        return f"{text}; does the broker speak TLS on mqtt.port?"
    return text


def explain_silence(reason: ReasonCode, *, tls: bool) -> str:
    """The broker ended the connection instead of answering our CONNECT."""
    # TLS 1.3 lets a client believe that it is in before the broker has looked at its certificate.
    doubt = "is mqtt.certificate_file of an authority that it trusts" if tls else "does it expect TLS there (mqtt.tls)"
    return f"no answer to CONNECT: {reason}; is it an MQTT broker, {doubt}, and are user and password right?"
