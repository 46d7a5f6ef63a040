"""What `source.device` names: an index, a device under /dev, or an address of an allowed scheme.

Secrets come from a file, and no text made here for people, logs or errors holds any.
"""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from edge.errors import SourceError
from edge.files.given import read_secret
from edge.settings.paths import credentials_hint

# Scheme → port. FFmpeg knows many more, some of which read local files or run a pipeline.
PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}


@dataclass(frozen=True, slots=True)
class Address:
    """A camera's place. `target` is for what opens it alone: it may hold user and password."""

    label: str  # for people: without user, password and query
    target: int | str = field(repr=False)
    host: str = ""  # empty: not a network camera
    port: int = 0

    @property
    def network(self) -> bool:
        """True: reached over the network, by FFmpeg. False: a device of this machine, by V4L2."""
        return bool(self.host)


def parse_address(device: str, credentials_file: Path | None) -> Address:
    """Read `device`, with user and password from `credentials_file` if there is one.

    Raises:
        SourceError: it is none of the three forms, or the credentials do not fit it.
    """
    if "://" in device:
        return _network_address(device, credentials_file)
    if credentials_file is not None:
        raise SourceError(
            f"source.credentials_file is for addresses; '{_without_login(device)}' is a device of this machine"
        )
    if device.isascii() and device.isdigit():
        return Address(label=f"camera {device} (/dev/video{int(device)})", target=int(device))
    if device.startswith("/dev/"):
        return _device_path(device)
    raise SourceError(
        f"source.device '{_without_login(device)}': expected an index (0), a device (/dev/v4l/by-id/…) or an address "
        f"({', '.join(f'{scheme}://' for scheme in PORTS)})"
    )


def why_silent(address: Address, timeout_s: float) -> str:
    """Why a camera could not be opened, for people: away, or there but not giving video."""
    if not address.network:
        device = f"/dev/video{address.target}" if isinstance(address.target, int) else address.target
        if not Path(device).exists():
            return f"{device} does not exist: is it plugged in?"
        if not os.access(device, os.R_OK | os.W_OK):
            return f"{device} may not be opened: is the service in the group 'video'?"
        return f"{device} gives no video: does another program use it?"
    try:
        socket.create_connection((address.host, address.port), timeout_s).close()
    except OSError as error:
        return f"{address.host} port {address.port} does not answer ({error.strerror or error})"
    return f"{address.host} port {address.port} answers but gives no video: check path, user and password"


def _device_path(device: str) -> Address:
    path = Path(device)
    if path.exists() and not stat.S_ISCHR(path.stat().st_mode):
        raise SourceError(f"source.device {device}: expected a camera, got something else; see /dev/v4l/by-id")
    return Address(label=device, target=device)


def _network_address(device: str, credentials_file: Path | None) -> Address:
    if "@" in device:  # before it is taken apart: a password with a slash in it would end up elsewhere
        raise SourceError(
            f"source.device {_without_login(device)}: '@' announces a user or password; put `user:password` "
            "into a file and name it as source.credentials_file (an '@' of the address itself is written %40)"
        )
    parts, port = _split(device)
    label = _label(parts, port)
    if parts.scheme not in PORTS:
        raise SourceError(f"source.device {label}: scheme '{parts.scheme}' refused; expected one of {', '.join(PORTS)}")
    if not parts.hostname:
        raise SourceError(f"source.device {label}: the address names no host")
    login = _read_login(credentials_file) + "@" if credentials_file else ""
    target = urlunsplit(parts._replace(netloc=login + parts.netloc))
    return Address(label=label, target=target, host=parts.hostname, port=port or PORTS[parts.scheme])


def _split(device: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(device)
        port = parts.port
    except ValueError:
        # The text of the error may quote the address; it may hold a password, so nothing is chained.
        raise SourceError("source.device: not an address; expected scheme://host:port/path") from None
    return parts, port


def _label(parts: SplitResult, port: int | None) -> str:
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    # Some cameras take user and password in the path (`/user=…&password=…`), many in the query.
    path = "/…" if "=" in parts.path else parts.path
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{path}{'?…' if parts.query else ''}"


def _without_login(device: str) -> str:
    _, at, rest = device.rpartition("@")
    return f"…@{rest}" if at else device


def _read_login(path: Path) -> str:
    name, expected = "source.credentials_file", "one line, user:password"
    text = read_secret(path, name, expected, credentials_hint(path), error=SourceError)
    user, colon, password = text.strip("\r\n").partition(":")
    if not user or not colon or "\n" in password:
        raise SourceError(f"{name} {path}: expected {expected}")
    return f"{quote(user, safe='')}:{quote(password, safe='')}"
