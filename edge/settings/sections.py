"""The tables of the settings file, every setting with its bounds and its meaning."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, field_validator, model_validator

from edge.records import Mode, PrecisionWish, SearchWish
from edge.settings.paths import CredentialPath, DirectoryPath, FilePath
from edge.settings.values import (
    LARGEST_SIDE,
    MQTT_SECONDS,
    RESPONSE_PREFIX,
    YEAR_S,
    Device,
    Host,
    Pixels,
    Section,
    SparkplugId,
    Text,
    Threads,
    TopicLevel,
)


class PublisherKind(StrEnum):
    """Where verdicts go."""

    MQTT = "mqtt"
    JSON_LINES = "jsonl"


class CommandName(StrEnum):
    """Last level of `/cmd/<name>`."""

    TRIGGER = "trigger"
    RECIPE = "recipe"
    PAUSE = "pause"
    RESUME = "resume"


class SendOrder(StrEnum):
    """In which order the broker gets what waited for it."""

    LIVE_FIRST = "live_first"
    STRICT = "strict"


class RegionSettings(Section):
    """A rectangle in the frame's pixels."""

    x: int = Field(ge=0, le=LARGEST_SIDE)
    """Left edge."""
    y: int = Field(ge=0, le=LARGEST_SIDE)
    """Upper edge."""
    width: Pixels
    """Columns."""
    height: Pixels
    """Rows."""


class StationSettings(Section):
    """Who speaks: the base of every topic is `<root>/<site>/<line>/<name>`."""

    root: TopicLevel = "patchline"
    """First topic level."""
    site: TopicLevel = "site"
    """Second topic level: the plant."""
    line: TopicLevel = "line"
    """Third topic level: the production line."""
    name: TopicLevel = "station"
    """Fourth topic level, and `station` in every verdict."""


class InspectionSettings(Section):
    """How frames are judged."""

    device: Device = "CPU"
    """OpenVINO device: `CPU`, `GPU`, `GPU.0`, `NPU`, `AUTO`, `AUTO:GPU,CPU`."""
    precision: PrecisionWish = "as_taught"
    """Arithmetic of the embedding. The bank belongs to the precision that it was taught with."""
    search: SearchWish = "as_taught"
    """Search of the memory bank. `fast` gives the same scores, and maps within 0.2 % of the exact ones."""
    mode: Mode = "latency"
    """`latency`: all cores work on one frame; `throughput`: several frames at a time, each on its own core."""
    workers: int = Field(default=0, ge=0, le=64)
    """throughput: frames at a time; 0: one more than OpenVINO finds best, on most processors its cores plus one."""
    embed_threads: Threads = 0
    """OpenVINO threads; 0: its own choice."""
    search_threads: Threads = 0
    """Threads of one search; 0: all cores if it is exact, one if it is fast or in throughput mode."""
    trigger: Literal["free", "command"] = "free"
    """`free`: every frame is judged; `command`: the first frame after each trigger, with one answer to each."""
    deadline_ms: float | None = Field(default=None, ge=0.1, le=600_000)
    """Later than this after its trigger, or free running its capture, the answer is NO_RESULT, `deadline_missed`."""
    max_triggers: int = Field(default=4, ge=1, le=1000)
    """command: triggers without an answer at the most; one more is answered NO_RESULT, `overrun`, at once."""
    recipes_loaded: int = Field(default=2, ge=1, le=64)
    """Recipes kept in memory, those used last; switching to one of them takes no time."""
    recipe_at_start: Literal["bundle", "last"] = "bundle"
    """The recipe after a start: that of `bundle`, or the `last` that was asked for by command. Where the first is
    another one than the last, there is an alarm."""
    cache_dir: DirectoryPath | None = None
    """Compiled-model cache; none: systemd's `CACHE_DIRECTORY`, else `~/.cache/patchline`."""
    region: RegionSettings | None = None
    """The part of the bundle's region that is judged; none: all of it. No more can be judged than was taught."""
    mask: FilePath | None = None
    """Picture of the frame's size, black, and white where nothing shall be judged, beside the bundle's own mask."""
    threshold: float | None = Field(default=None, gt=0, le=1e6)
    """Image threshold instead of the bundle's."""
    self_test: bool = True
    """Check the bundle's golden frames on this device before the first verdict."""


class DefectSettings(Section):
    """What is reported of a failed part."""

    minimum_area: int = Field(default=0, ge=0, le=LARGEST_SIDE**2)
    """Smallest region, in the frame's pixels, that is listed; the verdict does not depend on it."""
    max_crops: int = Field(default=3, ge=0, le=16)
    """Crops per verdict, worst defects first."""
    crop_margin: float = Field(default=0.25, ge=0, le=4)
    """Margin around a defect, as a share of its longer side (at least 16 pixels)."""
    crop_max_bytes: int = Field(default=96 * 1024, ge=4096, le=1024 * 1024)
    """JPEG quality, then size, is reduced until a crop fits."""


class MqttSettings(Section):
    """The broker. Plain text goes to loopback only, unless `allow_plaintext` says otherwise."""

    host: Host = "127.0.0.1"
    """Name or address of the broker."""
    port: int = Field(default=1883, ge=1, le=65535)
    """1883, or 8883 with TLS."""
    client_id: Text = Field(default="", max_length=64)
    """Empty: `patchline-<site>-<line>-<station>`."""
    user: Text | None = None
    """User name."""
    password_file: CredentialPath | None = None
    """File with the password on its first line, which not everybody may read; `%d/mqtt-password` under systemd."""
    tls: bool = False
    """TLS 1.2 or newer; the broker's certificate and name are always verified."""
    ca_file: CredentialPath | None = None
    """Certificate authorities; none: the system's."""
    certificate_file: CredentialPath | None = None
    """Client certificate, for mutual TLS."""
    key_file: CredentialPath | None = None
    """Its private key, not encrypted, which not everybody may read."""
    allow_plaintext: bool = False
    """Speak without TLS to a host that is not loopback."""
    keepalive_s: int = Field(default=15, ge=5, le=600)
    """MQTT keep-alive."""
    session_expiry_s: int = Field(default=86_400, ge=0, le=MQTT_SECONDS)
    """MQTT 5 session expiry interval. Sessions start clean all the same: the station keeps what is unanswered."""
    window: int = Field(default=10, ge=1, le=100)
    """Unacknowledged messages at the most; the broker's Receive Maximum lowers it."""
    answer_timeout_s: float = Field(default=20.0, ge=1, le=600)
    """When the next answer is due for so long, connect again. Must be more than one crop takes on your network."""
    publish_last: bool = True
    """Also keep the newest verdict, retained, on `/verdict/last`."""
    retain_health: bool = False
    """`/health` retained, for whoever comes late; `time` in it says how old it is."""

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


class CommandSettings(Section):
    """What may be asked of the station at `<base>/cmd/<name>`. Who may is for the broker to say, by its ACL."""

    enabled: bool = False
    """Listen to commands."""
    allow: tuple[CommandName, ...] = tuple(CommandName)
    """Which of them: `trigger`, `recipe`, `pause`, `resume`."""
    response_prefix: str = Field(default="", max_length=200, pattern=RESPONSE_PREFIX)
    """Answers go to topics that begin so, nowhere else; empty: `<base>/reply/`, where the station may write anyway."""
    max_per_s: float = Field(default=20.0, ge=0.001, le=1000)
    """Commands above this rate are neither executed nor answered."""
    remember_s: float = Field(default=60.0, ge=1, le=600)
    """A command that comes again within this time is answered as before and not executed again."""
    triggers_without_reply: bool = False
    """Execute triggers that name no response topic, as those of MQTT 3.1.1 do not. Nobody is answered: the verdict that
    carries the trigger's id is the answer."""


class OutboxSettings(Section):
    """Where verdicts wait for the broker: on disk, before anybody hears of them. Without `mqtt` there is none."""

    enabled: bool = True
    """Off: they wait in memory, `service.verdict_buffer` of them, and are lost with the process."""
    directory: DirectoryPath | None = None
    """Of this station alone; none: below systemd's `STATE_DIRECTORY`, else below `~/.local/state/patchline`."""
    max_rows: int = Field(default=1_000_000, ge=100, le=10**9)
    """Messages kept at the most; then crops give way, then refused messages, then the oldest verdicts."""
    max_bytes: int = Field(default=2**30, ge=2**20, le=2**50)
    """Bytes of messages kept at the most; the files are about a quarter larger."""
    min_free_bytes: int = Field(default=256 * 2**20, ge=0, le=2**50)
    """With less free on the disk, no crops are kept, and new verdicts replace the oldest."""
    ballast_bytes: int = Field(default=16 * 2**20, ge=0, le=2**30)
    """A file that is given up when the disk is full, because deleting takes space, too."""
    order: SendOrder = SendOrder.LIVE_FIRST
    """`live_first`: after an outage new verdicts overtake a long backlog; `strict`: everything as it arose."""
    backlog_share: float = Field(default=0.25, ge=0.01, le=1)
    """live_first: share of the messages that the backlog gets while live ones wait, too."""
    crop_expiry_s: int = Field(default=86_400, ge=1, le=MQTT_SECONDS)
    """Crops of the backlog: the broker forgets them after this time if nobody has fetched them."""


class SparkplugSettings(Section):
    """A second connection for SCADA hosts, which speaks Sparkplug B 3.0 over MQTT 3.1.1."""

    enabled: bool = False
    """Speak Sparkplug. Needs `pip install '.[sparkplug]' -c constraints.txt`."""
    group: SparkplugId = ""
    """Group id; empty: the station's site."""
    edge_node: SparkplugId = ""
    """Edge node id, unique within the group; empty: `<line>-<station>`."""
    device: SparkplugId = ""
    """Device id; empty: the station's name."""
    primary_host: SparkplugId = ""
    """Host id to wait for: nothing is said while that host is offline. Empty: wait for nobody."""
    capacity: int = Field(default=1000, ge=10, le=100_000)
    """Verdicts kept, in memory, until the broker has them; about 2 KB each."""
    rebirth_interval_s: float = Field(default=2.0, ge=0, le=60)
    """Shortest time between two births that hosts ask for."""
    describe_data: bool = True
    """Data messages name the type of every metric, two bytes each: decoders that keep no births, Tahu's for JavaScript
    among them, read null without. Off: as Sparkplug 3.0 recommends."""
    mqtt: MqttSettings | None = None
    """The broker, if it is another than that of `[mqtt]`."""

    @field_validator("group")
    @classmethod
    def _not_state(cls, group: str) -> str:
        if group == "STATE":
            raise ValueError("STATE is reserved for hosts' own topics: choose another group")
        return group


class AlarmSettings(Section):
    """When alarms are raised."""

    broker_away_s: float = Field(default=10.0, ge=0, le=YEAR_S)
    """The broker is away for so long."""
    backlog_messages: int = Field(default=1000, ge=1, le=10**9)
    """So many messages wait for the broker; over when half of them are left."""
    clock_s: float = Field(default=60.0, ge=0, le=YEAR_S)
    """The system says for so long that its clock is not synchronised."""
    quiet_s: float = Field(default=600.0, ge=0, le=YEAR_S)
    """Alarms about events (evicted, refused) are over after so long without another one."""


class ServiceSettings(Section):
    """Buffers and supervision."""

    frame_buffer: int = Field(default=4, ge=1, le=1000)
    """Frames between capture and inspection. Live sources drop the oldest, files wait."""
    verdict_buffer: int = Field(default=1000, ge=1, le=1_000_000)
    """Verdicts between inspection and outbox, in memory. Live sources drop the oldest, explained; files wait."""
    health_interval_s: float = Field(default=10.0, ge=0.1, le=3600)
    """Time between two `/health` messages and statistics lines in the log."""
    drain_timeout_s: float = Field(default=10.0, ge=0.1, le=600)
    """After SIGTERM, SIGINT or the end of files: longest time to answer and publish what is left."""
    stall_timeout_s: float = Field(default=30.0, ge=0.5, le=3600)
    """A thread without progress for this long withholds the watchdog."""
