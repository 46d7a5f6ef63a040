"""What is wrong, raised and over exactly once for each change. Pure: the clocks are arguments.

A condition must last before an alarm is raised, and be absent before it is over; what nobody knows changes nothing.
An alarm's first look says its state whatever it is, so that what a former run left with the broker is corrected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from edge.records import Severity
from edge.settings.sections import AlarmSettings


class AlarmCode(StrEnum):
    """Last level of `/alarm/<code>`."""

    BROKER_AWAY = "broker_away"
    BACKLOG_GROWING = "backlog_growing"
    EVICTING = "evicting"
    DEAD_LETTERS = "dead_letters"
    DISK_LOW = "disk_low"
    MEMORY_ONLY = "memory_only"
    OUTBOX_CORRUPT = "outbox_corrupt"
    CLOCK_UNSYNCHRONISED = "clock_unsynchronised"
    SOURCE_AWAY = "source_away"
    RECIPE_LEFT = "recipe_left"
    PUBLISHER_AWAY = "publisher_away"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What alarms are judged by; None: nobody knows, or there is no such thing."""

    source_away: bool | None = None
    clock_synchronised: bool | None = None
    connected: bool | None = None
    broker_trouble: str = ""  # why not, for people
    publisher_trouble: str | None = None  # of those who hear of verdicts beside the broker; "": all is well
    waiting: int | None = None  # messages that wait for the broker
    evicted: int | None = None  # so far: whatever gave way before it was delivered
    refused: int | None = None  # so far: messages that the broker refused for good
    disk_low: bool | None = None
    outbox_refuses: bool | None = None
    outbox_damage: str | None = None  # what was found, and where it is now; "": nothing
    recipe_left: str | None = None  # the one that a start has left for another; "": none, or one was chosen since


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """An alarm is raised or over."""

    code: AlarmCode
    active: bool
    severity: Severity
    since_s: float  # when it was raised; at the first look, if nothing is wrong: now
    text: str
    first_look: bool = False  # nothing was known before

    @property
    def is_news(self) -> bool:
        """Somebody should hear of it; a first look at an alarm that is not raised is only for the broker."""
        return self.active or not self.first_look


@dataclass(frozen=True, slots=True)
class Rule:
    """How one alarm behaves."""

    severity: Severity
    raised_text: str
    over_text: str
    raise_after_s: float = 0.0
    over_after_s: float = 0.0


class Alarms:
    """Every alarm of a station."""

    def __init__(self, settings: AlarmSettings) -> None:
        """Nothing is known yet."""
        self._settings = settings
        self._alarms = {code: _Alarm(code, rule) for code, rule in _rules(settings).items()}
        self._evicted = _Growth()
        self._refused = _Growth()

    @property
    def active(self) -> tuple[AlarmCode, ...]:
        """Those that are raised."""
        return tuple(code for code, alarm in self._alarms.items() if alarm.active)

    def look(self, conditions: Conditions, now_s: float, at_s: float) -> list[AlarmChange]:
        """What has changed.

        Args:
            conditions: as they are now.
            now_s: monotonic seconds.
            at_s: wall clock, seconds since 1970-01-01 UTC.
        """
        judged = {
            AlarmCode.BROKER_AWAY: _not(conditions.connected),
            AlarmCode.BACKLOG_GROWING: self._is_backlog(conditions.waiting),
            AlarmCode.EVICTING: self._evicted.has_grown(conditions.evicted),
            AlarmCode.DEAD_LETTERS: self._refused.has_grown(conditions.refused),
            AlarmCode.DISK_LOW: conditions.disk_low,
            AlarmCode.MEMORY_ONLY: conditions.outbox_refuses,
            AlarmCode.OUTBOX_CORRUPT: _is_said(conditions.outbox_damage),
            AlarmCode.CLOCK_UNSYNCHRONISED: _not(conditions.clock_synchronised),
            AlarmCode.SOURCE_AWAY: conditions.source_away,
            AlarmCode.RECIPE_LEFT: _is_said(conditions.recipe_left),
            AlarmCode.PUBLISHER_AWAY: _is_said(conditions.publisher_trouble),
        }
        details = {
            AlarmCode.BROKER_AWAY: conditions.broker_trouble,
            AlarmCode.PUBLISHER_AWAY: conditions.publisher_trouble or "",
            AlarmCode.BACKLOG_GROWING: f"{conditions.waiting} messages",
            AlarmCode.EVICTING: f"{conditions.evicted} in all",
            AlarmCode.DEAD_LETTERS: f"{conditions.refused} in all",
            AlarmCode.OUTBOX_CORRUPT: conditions.outbox_damage or "",
            AlarmCode.RECIPE_LEFT: f"before: {conditions.recipe_left}",
        }
        changes = [
            self._alarms[code].look(condition, details.get(code, ""), now_s, at_s) for code, condition in judged.items()
        ]
        return [change for change in changes if change is not None]

    def _is_backlog(self, waiting: int | None) -> bool | None:
        """Raised at the limit, over at half of it."""
        if waiting is None:
            return None
        limit = self._settings.backlog_messages
        return 2 * waiting > limit if self._alarms[AlarmCode.BACKLOG_GROWING].active else waiting >= limit


class _Alarm:
    """One alarm's state."""

    def __init__(self, code: AlarmCode, rule: Rule) -> None:
        self._code = code
        self._rule = rule
        self._state: bool | None = None  # None: not said yet
        self._since_s = 0.0  # wall clock
        self._since_monotonic_s = 0.0
        self._contrary_from_s: float | None = None  # monotonic: the condition contradicts the state since then

    @property
    def active(self) -> bool:
        return self._state is True

    def look(self, condition: bool | None, detail: str, now_s: float, at_s: float) -> AlarmChange | None:
        if condition is None or condition is self._state:
            self._contrary_from_s = None
            return None
        if self._contrary_from_s is None:
            self._contrary_from_s = now_s
        lasted_s = now_s - self._contrary_from_s
        if lasted_s < self._patience_s(condition=condition):
            return None
        self._contrary_from_s = None
        first_look, self._state = self._state is None, condition
        if condition or first_look:
            self._since_s, self._since_monotonic_s = at_s - lasted_s, now_s - lasted_s
            remark = detail if condition else ""
        else:
            remark = f"it lasted {now_s - lasted_s - self._since_monotonic_s:.0f} s"
        return self._change(remark, first_look=first_look, active=condition)

    def _patience_s(self, *, condition: bool) -> float:
        if condition:
            return self._rule.raise_after_s
        return self._rule.over_after_s if self.active else 0.0

    def _change(self, remark: str, *, first_look: bool, active: bool) -> AlarmChange:
        text = self._rule.raised_text if active else self._rule.over_text
        return AlarmChange(
            code=self._code,
            active=active,
            severity=self._rule.severity,
            since_s=self._since_s,
            text=f"{text} ({remark})" if remark else text,
            first_look=first_look,
        )


class _Growth:
    """Has a counter grown since the last look? The first look only learns where it stands."""

    def __init__(self) -> None:
        self._before: int | None = None

    def has_grown(self, counter: int | None) -> bool | None:
        if counter is None:
            return None
        before, self._before = self._before, counter
        return before is not None and counter > before


_RULES = {
    AlarmCode.BROKER_AWAY: Rule(Severity.CRITICAL, "the broker is away: verdicts wait", "the broker is there"),
    AlarmCode.BACKLOG_GROWING: Rule(Severity.WARNING, "many messages wait for the broker", "few messages wait"),
    AlarmCode.EVICTING: Rule(Severity.CRITICAL, "there is no room: what waited longest gives way", "nothing gives way"),
    AlarmCode.DEAD_LETTERS: Rule(Severity.WARNING, "the broker refuses messages for good", "no message is refused"),
    AlarmCode.DISK_LOW: Rule(
        Severity.WARNING,
        "less disk space is free than outbox.min_free_bytes",
        "enough disk space is free",
        over_after_s=10.0,
    ),
    AlarmCode.MEMORY_ONLY: Rule(
        Severity.CRITICAL,
        "the disk refuses: verdicts are in memory only",
        "verdicts are safe on disk",
        over_after_s=5.0,
    ),
    AlarmCode.OUTBOX_CORRUPT: Rule(
        Severity.CRITICAL, "the outbox is damaged: what could not be used was set aside", "the outbox is sound"
    ),
    AlarmCode.CLOCK_UNSYNCHRONISED: Rule(
        Severity.WARNING, "the clock is not synchronised: times in verdicts may be wrong", "the clock is synchronised"
    ),
    AlarmCode.SOURCE_AWAY: Rule(Severity.CRITICAL, "the source of frames is away", "frames come", over_after_s=1.0),
    AlarmCode.RECIPE_LEFT: Rule(
        Severity.CRITICAL,
        "since the start parts are inspected by another recipe than before",
        "the recipe is the one that was asked for",
    ),
    AlarmCode.PUBLISHER_AWAY: Rule(
        Severity.WARNING,
        "verdicts do not reach everybody who should hear of them",
        "everybody hears of verdicts",
    ),
}


def _rules(settings: AlarmSettings) -> dict[AlarmCode, Rule]:
    raise_after_s = {
        AlarmCode.BROKER_AWAY: settings.broker_away_s,
        AlarmCode.PUBLISHER_AWAY: settings.broker_away_s,
        AlarmCode.CLOCK_UNSYNCHRONISED: settings.clock_s,
    }
    over_after_s = dict.fromkeys((AlarmCode.EVICTING, AlarmCode.DEAD_LETTERS), settings.quiet_s)
    return {
        code: replace(
            rule,
            raise_after_s=raise_after_s.get(code, rule.raise_after_s),
            over_after_s=over_after_s.get(code, rule.over_after_s),
        )
        for code, rule in _RULES.items()
    }


def _is_said(text: str | None) -> bool | None:
    return None if text is None else bool(text)


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value
