"""Who we are to the broker, and whom we trust: password, certificates, keys."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from edge.errors import SettingsError
from edge.settings.sections import CREDENTIALS, MqttSettings

_CREDENTIALS_HINT = f"; {CREDENTIALS} is systemd's, for a service with LoadCredential= in its unit"


def read_password(settings: MqttSettings) -> str | None:
    """First line of the password file; None without one.

    Raises:
        SettingsError: the file cannot be read, or by everybody, or its first line is empty.
    """
    path = settings.password_file
    if path is None:
        return None
    try:
        _refuse_public("password_file", path)
        first_line = path.read_text(encoding="utf-8").partition("\n")[0]
    except OSError as error:
        raise SettingsError(
            f"mqtt.password_file {path}: cannot be read ({error.strerror}); "
            "expected a readable text file with the password on its first line"
            f"{_CREDENTIALS_HINT if str(path).startswith(CREDENTIALS) else ''}"
        ) from error
    except UnicodeDecodeError:
        # Without the cause: its message would show bytes of the file.
        raise SettingsError(
            f"mqtt.password_file {path}: is not UTF-8; expected a text file with the password on its first line"
        ) from None
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
            _refuse_public("key_file", settings.key_file)
            # With a password given, an encrypted key is refused instead of asked for on the terminal.
            context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
        except OSError as error:
            raise SettingsError(
                f"mqtt.certificate_file {settings.certificate_file} with mqtt.key_file {settings.key_file}: "
                f"cannot be used ({explain(error)}); expected a PEM certificate and its unencrypted PEM key"
            ) from error
    return context


def explain(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is refused: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _refuse_public(name: str, path: Path | None) -> None:
    """Whoever has an account on the machine could speak as the station.

    Raises:
        SettingsError: everybody may read or change the file.
        OSError: it cannot be looked at.
    """
    if path is not None and (mode := path.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH):
        raise SettingsError(
            f"mqtt.{name} {path}: everybody on this machine may read or change it "
            f"(mode {stat.S_IMODE(mode):04o}); chmod 0400, owned by the service's user"
        )


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(
            f"mqtt.ca_file {ca_file}: cannot be used ({explain(error)}); expected readable PEM certificates"
        ) from error
