"""Who we are to the broker, and whom we trust: password, certificates, keys."""

from __future__ import annotations

import ssl
from pathlib import Path

from edge.errors import SettingsError
from edge.files.given import read_secret, refuse_irregular, refuse_public
from edge.publishers.mqtt.words import explain
from edge.settings.paths import credentials_hint
from edge.settings.sections import MqttSettings


def read_password(settings: MqttSettings) -> str | None:
    """First line of the password file; None without one.

    Raises:
        SettingsError: the file cannot be read, or by everybody, or its first line is empty.
    """
    path = settings.password_file
    if path is None:
        return None
    expected = "a readable text file with the password on its first line"
    hint = credentials_hint(path)
    first_line = read_secret(path, "mqtt.password_file", expected, hint, error=SettingsError).partition("\n")[0]
    if not first_line:
        raise SettingsError(f"mqtt.password_file {path}: expected the password on its first line, got none")
    return first_line


def tls_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer that verifies the broker's certificate and name; None for plain text.

    Raises:
        SettingsError: a certificate or key file cannot be used.
    """
    if not settings.tls:
        return None
    context = _trust(settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate_file is not None:
        try:
            _refuse_strangers(settings.certificate_file, settings.key_file)
            # With a password given, an encrypted key is refused instead of asked for on the terminal.
            context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
        except OSError as error:
            raise SettingsError(
                f"mqtt.certificate_file {settings.certificate_file} with mqtt.key_file {settings.key_file}: "
                f"cannot be used ({explain(error)}); expected a PEM certificate and its unencrypted PEM key"
            ) from error
    return context


def _refuse_strangers(certificate: Path, key: Path | None) -> None:
    refuse_irregular(certificate)
    if key is not None:
        refuse_irregular(key)
        refuse_public(key, "mqtt.key_file", error=SettingsError)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        if ca_file is not None:
            refuse_irregular(ca_file)
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(
            f"mqtt.ca_file {ca_file}: cannot be used ({explain(error)}); expected readable PEM certificates"
        ) from error
