"""One typed tree of settings: a TOML file, `PATCHLINE_…` environment over it, secrets from files.

Nested keys are joined by two underscores: `PATCHLINE_MQTT__HOST=broker.local`. An unknown key is refused
with the nearest known name. Every setting is documented where it is defined, here.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as EnvironmentSettingsError

from edge.errors import SettingsError

ENVIRONMENT_PREFIX = "PATCHLINE_"
NESTED_DELIMITER = "__"
# DELIVERY.md's topic alphabet: safe in every broker, PLC client and file name.
TOPIC_LEVEL = r"^[A-Za-z0-9_-]{1,60}$"


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SourceKind(StrEnum):
    """Where frames come from."""

    SIMULATED = "simulated"
    FOLDER = "folder"
    VIDEO = "video"
    CAMERA = "camera"


class PublisherKind(StrEnum):
    """Where verdicts go."""

    MQTT = "mqtt"
    JSON_LINES = "jsonl"


class RegionSettings(Section):
    """A rectangle in the frame's pixels."""

    x: int = Field(ge=0)
    """Left edge."""
    y: int = Field(ge=0)
    """Upper edge."""
    width: int = Field(ge=32)
    """Columns."""
    height: int = Field(ge=32)
    """Rows."""


class StationSettings(Section):
    """Who speaks: the base of every topic is `<root>/<site>/<line>/<name>`."""

    root: str = Field(default="patchline", pattern=TOPIC_LEVEL)
    """First topic level."""
    site: str = Field(default="site", pattern=TOPIC_LEVEL)
    """Second topic level: the plant."""
    line: str = Field(default="line", pattern=TOPIC_LEVEL)
    """Third topic level: the production line."""
    name: str = Field(default="station", pattern=TOPIC_LEVEL)
    """Fourth topic level, and `station` in every verdict."""


class SourceSettings(Section):
    """Where frames come from."""

    kind: SourceKind = SourceKind.SIMULATED
    """`simulated`, `folder`, `video` or `camera`."""
    path: str = ""
    """folder: a directory, picture or glob; video: a file."""
    device: str = "0"
    """camera: an index (`0`), a stable path (`/dev/v4l/by-id/…`) or an address (`rtsp://…`, `http://…`)."""
    credentials_file: Path | None = None
    """camera: a file with `user:password` on one line, put into the address when it is opened."""
    width: int | None = Field(default=None, ge=32)
    """camera: frame width to ask for; refused if the camera gives another."""
    height: int | None = Field(default=None, ge=32)
    """camera: frame height to ask for; refused if the camera gives another."""
    fps: float | None = Field(default=None, gt=0, le=1000)
    """camera: rate to ask for. Others: pace frames at this rate; none: as fast as possible."""
    fourcc: str | None = Field(default=None, pattern="^.{4}$")
    """camera: pixel format to ask for, such as `MJPG`."""
    exposure: float | None = None
    """camera: exposure to set, in the driver's unit; automatic exposure is switched off first."""
    open_timeout_s: float = Field(default=5.0, gt=0, le=60)
    """camera: longest time for opening an address."""
    read_timeout_s: float = Field(default=2.0, gt=0, le=60)
    """camera: longest time without a frame before the camera counts as away and is opened again."""
    loop: bool = False
    """folder, video: begin again at the end."""
    frames: int | None = Field(default=None, ge=1)
    """Stop after this many frames; none: never (or at the end of the files)."""
    seed: int = Field(default=0, ge=0)
    """simulated: the line is a pure function of this seed and the part's number."""
    defect_rate: float = Field(default=0.1, ge=0, le=1)
    """simulated: share of defective parts."""
    simulated_width: int = Field(default=480, ge=64, le=4096)
    """simulated: frame width."""
    simulated_height: int = Field(default=480, ge=64, le=4096)
    """simulated: frame height."""


class InspectionSettings(Section):
    """How frames are judged."""

    device: str = "CPU"
    """OpenVINO device: `CPU`, `GPU`, `GPU.0`, `AUTO:GPU,CPU`."""
    precision: Literal["as_taught", "f32", "bf16", "f16"] = "as_taught"
    """Arithmetic of the embedding. The bank belongs to the precision that it was taught with."""
    search: Literal["as_taught", "exact", "fast"] = "as_taught"
    """Search of the memory bank. `fast` gives the same scores, and maps within 0.2 % of the exact ones."""
    embed_threads: int = Field(default=0, ge=0)
    """OpenVINO threads; 0: its own choice."""
    search_threads: int = Field(default=0, ge=0)
    """faiss threads; 0: all cores."""
    cache_dir: Path | None = None
    """Compiled-model cache; none: systemd's `CACHE_DIRECTORY`, else `~/.cache/patchline`."""
    region: RegionSettings | None = None
    """Region of interest; none: the bundle's."""
    mask: Path | None = None
    """Picture of the frame's size, white where nothing shall be judged; none: the bundle's."""
    threshold: float | None = Field(default=None, gt=0)
    """Image threshold instead of the bundle's."""
    self_test: bool = True
    """Check the bundle's golden frames on this device before the first verdict."""


class DefectSettings(Section):
    """What is reported of a failed part."""

    minimum_area: int = Field(default=0, ge=0)
    """Smallest region, in the frame's pixels, that is listed; the verdict does not depend on it."""
    max_crops: int = Field(default=3, ge=0, le=16)
    """Crops per verdict, worst defects first."""
    crop_margin: float = Field(default=0.25, ge=0, le=4)
    """Margin around a defect, as a share of its longer side (at least 16 pixels)."""
    crop_max_bytes: int = Field(default=96 * 1024, ge=4096, le=1024 * 1024)
    """JPEG quality, then size, is reduced until a crop fits."""


class MqttSettings(Section):
    """The broker. Plain text goes to loopback only, unless `allow_plaintext` says otherwise."""

    host: str = "127.0.0.1"
    """Name or address of the broker."""
    port: int = Field(default=1883, ge=1, le=65535)
    """1883, or 8883 with TLS."""
    client_id: str = Field(default="", max_length=64)
    """Empty: `patchline-<site>-<line>-<station>`."""
    user: str | None = None
    """User name."""
    password_file: Path | None = None
    """File with the password on its first line (systemd: `%d/mqtt-password`)."""
    tls: bool = False
    """TLS 1.2 or newer; the broker's certificate and name are always verified."""
    ca_file: Path | None = None
    """Certificate authorities; none: the system's."""
    certificate_file: Path | None = None
    """Client certificate, for mutual TLS."""
    key_file: Path | None = None
    """Its private key."""
    allow_plaintext: bool = False
    """Speak without TLS to a host that is not loopback."""
    keepalive_s: int = Field(default=15, ge=5, le=600)
    """MQTT keep-alive."""
    session_expiry_s: int = Field(default=86_400, ge=0)
    """MQTT 5 session expiry interval."""
    window: int = Field(default=10, ge=1, le=100)
    """Unacknowledged messages at the most; the broker's Receive Maximum lowers it."""
    publish_last: bool = True
    """Also keep the newest verdict, retained, on `/verdict/last`."""

    @model_validator(mode="after")
    def _secure(self) -> MqttSettings:
        if not self.tls and not self.allow_plaintext and self.host not in {"127.0.0.1", "::1", "localhost"}:
            raise ValueError(
                f"host {self.host} is not loopback and tls is off: set tls = true, "
                "or allow_plaintext = true if the network itself is trusted"
            )
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together: give both or none")
        if not self.tls and (self.ca_file or self.certificate_file):
            raise ValueError("ca_file and certificate_file need tls = true")
        if self.password_file is not None and self.user is None:
            raise ValueError("password_file needs user")
        return self


class ServiceSettings(Section):
    """Buffers and supervision."""

    frame_buffer: int = Field(default=4, ge=1, le=1000)
    """Frames between capture and inspection. Live sources drop the oldest, files wait."""
    verdict_buffer: int = Field(default=1000, ge=1, le=1_000_000)
    """Verdicts between inspection and publishing. In memory: lost when the process ends."""
    health_interval_s: float = Field(default=10.0, gt=0, le=3600)
    """Time between two `/health` messages and statistics lines in the log."""
    drain_timeout_s: float = Field(default=10.0, gt=0, le=600)
    """After SIGTERM, SIGINT or the end of files: longest time to publish what is left."""
    stall_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    """A thread without progress for this long withholds the watchdog."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=NESTED_DELIMITER,
    )

    bundle: Path = Path("bundle")
    """Bundle directory, made by `patchline-export teach`."""
    publish: Annotated[tuple[PublisherKind, ...], NoDecode] = (PublisherKind.MQTT,)
    """`mqtt`, `jsonl` (JSON lines on standard output), or both; in the environment separated by commas."""
    station: StationSettings = StationSettings()
    source: SourceSettings = SourceSettings()
    inspection: InspectionSettings = InspectionSettings()
    defects: DefectSettings = DefectSettings()
    mqtt: MqttSettings = MqttSettings()
    service: ServiceSettings = ServiceSettings()

    @field_validator("publish", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment stands over the file, whose contents arrive as arguments."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


# Written in a file, these are relative to the directory of that file.
_PATHS = (
    ("bundle",),
    ("source", "path"),
    ("source", "credentials_file"),
    ("inspection", "mask"),
    ("inspection", "cache_dir"),
    ("mqtt", "password_file"),
    ("mqtt", "ca_file"),
    ("mqtt", "certificate_file"),
    ("mqtt", "key_file"),
)


def load_settings(path: Path | None) -> Settings:
    """The settings of `path` (none: defaults) with the environment over them.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or a value or key is wrong.
    """
    values = {} if path is None else _read_toml(path)
    _refuse_unknown_environment()
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from error
    except EnvironmentSettingsError as error:
        raise SettingsError(f"environment: {error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    for keys in _PATHS:
        _anchor(values, keys, path.parent)
    return values


def _anchor(values: dict[str, Any], keys: tuple[str, ...], base: Path) -> None:
    *tables, last = keys
    table: Any = values
    for key in tables:
        table = table.get(key) if isinstance(table, dict) else None
    if isinstance(table, dict) and isinstance(table.get(last), str) and table[last]:
        try:
            table[last] = str(base / Path(table[last]).expanduser())
        except RuntimeError as error:
            raise SettingsError(f"{'.'.join(keys)}: {table[last]}: there is no such user's home directory") from error


def _refuse_unknown_environment() -> None:
    known = {name for name, _ in walk_settings()}
    for variable in os.environ:
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace(NESTED_DELIMITER, ".")
        tables = {key.split(".")[0] for key in known}
        if name not in known and name not in tables:
            raise SettingsError(f"environment: {variable}: unknown setting {name}{_nearest(name, known)}")


def walk_settings(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting's dotted name and its definition."""
    for key, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from walk_settings(annotation, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", info
            if annotation == RegionSettings | None:
                yield from walk_settings(RegionSettings, f"{prefix}{key}.")


def _explain(error: ValidationError, path: Path | None) -> str:
    known = {name for name, _ in walk_settings()}
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{_where(name, path)}: unknown setting {name}{_nearest(name, known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            got = problem["input"]
            shown = "" if isinstance(got, dict) else f", got {got!r}"
            lines.append(f"{_where(name, path)}: {message}{shown}")
    return "; ".join(lines)


def _where(name: str, path: Path | None) -> str:
    """Who said it: the environment stands over the file."""
    variable = ENVIRONMENT_PREFIX + name.upper().replace(".", NESTED_DELIMITER)
    return f"environment: {variable}" if path is None or variable in os.environ else f"{path}: {name}"


def _nearest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
