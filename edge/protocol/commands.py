"""Commands to a station: what arrives on `<base>/cmd/<name>` becomes a command or a refusal. Pure: the clock is given.

Who speaks is for the broker to know, who lets only some clients publish here. A command names things that the
settings know; none takes a path or an address. Nothing that a sender writes into a payload is repeated to anybody.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from edge.protocol.messages import PART_ID_BYTES, RECIPE_BYTES, SCHEMA_VERSION, TRIGGER_ID_BYTES, encode
from edge.protocol.text import bounded
from edge.records import Message, Scalar
from edge.settings.sections import CommandName, CommandSettings

MAX_PAYLOAD_BYTES = 1024
MAX_CORRELATION_BYTES = 64
MAX_RESPONSE_TOPIC_BYTES = 200  # as long as a station's own base may be
_SHOWN_BYTES = 60  # of a name or topic that somebody else chose
_TOPIC = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One message on a command topic, as the broker handed it over."""

    topic: str
    payload: bytes = field(repr=False)
    retained: bool
    response_topic: str  # "": none
    correlation: bytes = field(repr=False)  # b"": none
    received_s: float  # monotonic


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


def _fits(limit: int, *, empty: bool = False) -> AfterValidator:
    """Text that is later published as it is, neither cut nor cleaned."""

    def check(text: str) -> str:
        if bounded(text, limit) != text or not (text or empty):
            raise ValueError(f"expected {0 if empty else 1} to {limit} bytes of printable text")
        return text

    return AfterValidator(check)


class Trigger(_Body):
    """Judge the first frame captured from now on."""

    trigger_id: Annotated[str, _fits(TRIGGER_ID_BYTES)]
    part_id: Annotated[str, _fits(PART_ID_BYTES, empty=True)] = ""


class SwitchRecipe(_Body):
    """Inspect by another recipe, one of those that the settings name."""

    name: Annotated[str, _fits(RECIPE_BYTES)]


class Pause(_Body):
    """Judge nothing until `resume`."""


class Resume(_Body):
    """Judge again."""


Command = Trigger | SwitchRecipe | Pause | Resume

_BODIES: dict[CommandName, type[Command]] = {
    CommandName.TRIGGER: Trigger,
    CommandName.RECIPE: SwitchRecipe,
    CommandName.PAUSE: Pause,
    CommandName.RESUME: Resume,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing is done, and why."""

    error: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command."""

    error: str = ""  # "": it is done, or for a trigger accepted
    recipe: str = ""  # what inspected when it was done
    model: str = ""

    @property
    def ok(self) -> bool:
        """True: it is done."""
        return not self.error


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing is done, and nobody can or shall be told."""

    why: str


class Reader:
    """Requests → commands, by the rules of one station."""

    def __init__(self, settings: CommandSettings, base: str) -> None:
        """`base` is what every topic of the station begins with."""
        self._allow = frozenset(settings.allow)
        self._prefix = settings.response_prefix or f"{base}/reply/"
        self._base = base
        self._topics = f"{base}/cmd/"
        self._triggers_without_reply = settings.triggers_without_reply

    @property
    def topic_filter(self) -> str:
        """What to subscribe to."""
        return f"{self._topics}+"

    def name(self, request: Request) -> str:
        """The command's name as the sender wrote it, printable and short."""
        return bounded(request.topic.removeprefix(self._topics), _SHOWN_BYTES)

    def read(self, request: Request) -> Command | Refusal:
        """The command that `request` asks for."""
        if request.retained:
            return Refusal("a retained message is not executed: publish commands without the retain flag")
        name = next((name for name in self._allow if request.topic == f"{self._topics}{name}"), None)
        if name is None:
            allowed = ", ".join(sorted(self._allow)) or "none"
            return Refusal(f"unknown or not allowed; commands.allow of this station: {allowed}")
        if len(request.payload) > MAX_PAYLOAD_BYTES:
            return Refusal(f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(request.payload)}")
        try:
            return _BODIES[name].model_validate_json(request.payload or b"{}")
        except ValidationError as error:
            return Refusal(_explain(error, _BODIES[name]))

    def why_unanswerable(self, request: Request) -> str:
        """Why it is not executed, for want of somebody to answer; "": it is."""
        topic = request.response_topic
        if not topic and not request.correlation and self._needs_no_reply(request):
            return ""
        if not topic or not request.correlation:
            return "an MQTT 5 response topic and correlation data are required"
        if len(request.correlation) > MAX_CORRELATION_BYTES:
            return f"correlation data: expected at most {MAX_CORRELATION_BYTES} bytes, got {len(request.correlation)}"
        if len(topic) > MAX_RESPONSE_TOPIC_BYTES or not _TOPIC.fullmatch(topic) or not topic.startswith(self._prefix):
            return (
                f"response topic: expected at most {MAX_RESPONSE_TOPIC_BYTES} bytes of A-Z a-z 0-9 _ . - / "
                f"that begin with {self._prefix}"
            )
        if topic.startswith(f"{self._base}/") and not topic.startswith(f"{self._base}/reply/"):
            return f"response topic: of the station's own topics only those under {self._base}/reply/ are for answers"
        return ""

    def reply(self, request: Request, answer: Answer) -> Message:
        """`answer` for the sender of an answerable `request`: QoS 1, not retained."""
        payload: dict[str, Scalar] = {
            "v": SCHEMA_VERSION,
            "command": self.name(request),
            "ok": int(answer.ok),
            "error": answer.error,
            "recipe": bounded(answer.recipe, RECIPE_BYTES),
            "model": answer.model,
        }
        return Message(topic=request.response_topic, payload=encode(payload), qos=1, correlation=request.correlation)

    def _needs_no_reply(self, request: Request) -> bool:
        """The verdict that carries a trigger's id answers it."""
        return self._triggers_without_reply and request.topic == f"{self._topics}{CommandName.TRIGGER}"


class Deduplicator:
    """Which requests are executed, which are answered as before, and which are not heard. Belongs to one thread.

    A request that comes again, known by response topic and correlation data, or without them by its very content, is
    answered as the first time and not executed again. The rate limit bounds what is remembered.
    """

    def __init__(self, settings: CommandSettings) -> None:
        """Nothing has been heard yet."""
        self._remember_s = settings.remember_s
        self._limit = _RateLimit(settings.max_per_s)
        self._known: dict[tuple[str, bytes], _Known] = {}  # oldest first

    def admit(self, now_s: float) -> bool:
        """False: too many, `max_per_s` are heard. At `now_s`, monotonic seconds."""
        return self._limit.take(now_s)

    def recall(self, request: Request, now_s: float) -> Answer | Ignored | None:
        """What is known of `request`; None: it is new, and `conclude` is owed for it."""
        self._forget(now_s)
        key, digest = _key(request), _digest(request)
        known = self._known.get(key)
        if known is None:
            self._known[key] = _Known(digest, now_s)
            return None
        if known.digest != digest:
            return Answer(
                f"the same correlation data came with another command within {self._remember_s:g} s: "
                "give every command its own"
            )
        return known.answer or Ignored("comes again while it is being executed; answered once")

    def conclude(self, request: Request, answer: Answer) -> None:
        """`answer` is what becomes of `request`."""
        if known := self._known.get(_key(request)):
            known.answer = answer

    def __len__(self) -> int:
        """Requests remembered."""
        return len(self._known)

    def _forget(self, now_s: float) -> None:
        while self._known:
            key, oldest = next(iter(self._known.items()))
            if now_s - oldest.since_s < self._remember_s:
                return
            del self._known[key]


@dataclass(slots=True, eq=False)
class _Known:
    digest: bytes
    since_s: float
    answer: Answer | None = None


class _RateLimit:
    """A bucket of tokens that holds those of one second, and at least one."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s)
        self._tokens = self._most
        self._at_s: float | None = None

    def take(self, now_s: float) -> bool:
        elapsed_s = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        self._tokens = min(self._most, self._tokens + elapsed_s * self._per_s)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _key(request: Request) -> tuple[str, bytes]:
    return request.response_topic, request.correlation or _digest(request)


def _digest(request: Request) -> bytes:
    return hashlib.sha256(request.topic.encode() + b"\0" + request.payload).digest()


def _explain(error: ValidationError, body: type[Command]) -> str:
    """What is wrong, without a word of the payload."""
    return "payload: " + "; ".join(dict.fromkeys(_explain_one(problem, body) for problem in error.errors()))


def _explain_one(problem: Mapping[str, Any], body: type[Command]) -> str:
    keys = ", ".join(body.model_fields) or "none"
    match problem["type"]:
        case "json_invalid":
            return "not valid JSON"
        case "extra_forbidden":
            return f"unknown key; expected {keys}"
        case "model_type":
            return f"expected a JSON object with the keys {keys}"
        case _:
            message = str(problem["msg"]).removeprefix("Value error, ")
            return f"{'.'.join(str(part) for part in problem['loc'])}: {message}"
