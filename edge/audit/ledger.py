"""Everything a subscriber knows about the stations it listens to: their epochs, status and alarms. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.audit.epoch import FIRST_SEQ, Arrival, EpochLedger
from edge.audit.messages import (
    Heard,
    HeardAlarm,
    HeardCrop,
    HeardStatus,
    HeardVerdict,
    Tombstone,
    Unusable,
    read_message,
)
from edge.protocol.topics import Status

MAX_STATIONS = 1000
MAX_EPOCHS = 1000  # of one station
MAX_ALARMS = 100  # of one station
REMEMBERED = 20_000  # newest verdicts whose content is compared when they come again


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is known beforehand about the numbering."""

    from_seq: int | None = None  # every verdict from here on must come; None: from the first live one heard
    until_seq: int | None = None  # of each station's newest epoch; None: up to the highest heard of
    crops: bool = True  # the audit listens to crops


class StationLedger:
    """One station."""

    def __init__(self, base: str) -> None:
        """Start with nothing."""
        self.base = base
        self.epochs: dict[int, EpochLedger] = {}
        self.status = ""
        self.alarms: set[str] = set()  # codes that are active
        self.counts: Counter[str] = Counter()
        self.clock_ahead_ms: float | None = None  # this machine's clock minus the station's is at most this
        self.heard_live = False  # a live verdict: what the station begins from then on, it begins under our eyes
        self.was_away = False  # the audit had no session, and no live verdict has come since

    @property
    def newest(self) -> EpochLedger | None:
        """The epoch that counts now; None before the first."""
        return self.epochs[max(self.epochs)] if self.epochs else None

    def state(self) -> dict[str, object]:
        """Everything but the epochs, for `restore`."""
        return {
            "status": self.status,
            "alarms": sorted(self.alarms),
            "counts": dict(self.counts),
            "clock_ahead_ms": self.clock_ahead_ms,
            "heard_live": self.heard_live,
            "was_away": self.was_away,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what gave `state`."""
        self.status = state["status"]
        self.alarms = set(state["alarms"])
        self.counts.update(state["counts"])
        self.clock_ahead_ms = state["clock_ahead_ms"]
        self.heard_live = state["heard_live"]
        self.was_away = state["was_away"]


class Ledger:
    """All stations, and what came that was of none."""

    def __init__(self, expectation: Expectation) -> None:
        """Start with nothing."""
        self.expectation = expectation
        self.stations: dict[str, StationLedger] = {}
        self.counts: Counter[str] = Counter()
        self.last_problem = ""  # the newest message that could not be used, for people
        self._digests: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._changed_epochs: dict[tuple[str, int], EpochLedger] = {}

    def take(self, heard: Heard, resumed_at_s: float | None = None) -> None:
        """Enter one message, whatever it is.

        Args:
            heard: the message.
            resumed_at_s: when the broker took the audit's session up again, on this machine's wall clock: what was
                captured before had to wait for the audit. None: there was no session to take up.
        """
        self.counts["heard"] += 1
        match read_message(heard):
            case HeardVerdict() as verdict:
                queued = resumed_at_s is not None and verdict.captured_at_s < resumed_at_s
                self._take_verdict(verdict, heard, queued=queued)
            case HeardCrop() as crop:
                if (epoch := self._epoch(crop.base, crop.epoch)) is not None:
                    epoch.take_crop(crop)
            case Tombstone() as tombstone:
                self._take_tombstone(tombstone)
            case HeardStatus() as status:
                self._take_status(status)
            case HeardAlarm() as alarm:
                self._take_alarm(alarm)
            case Unusable() as unusable:
                self.counts[f"unusable_{unusable.kind}"] += 1
                self.last_problem = unusable.problem

    def interrupt(self) -> None:
        """The broker kept no session for the audit: what was sent meanwhile has passed it by."""
        self.counts["interruptions"] += 1
        for station in self.stations.values():
            station.was_away = True
            for epoch in station.epochs.values():
                epoch.interrupt()
                self._changed_epochs[station.base, epoch.epoch] = epoch

    def until(self, epoch: EpochLedger) -> int | None:
        """Up to where the verdicts of `epoch` are expected; None: the highest heard of."""
        newest = self.stations[epoch.base].newest
        return self.expectation.until_seq if epoch is newest else None

    @property
    def complete(self) -> bool:
        """Every station has come to `until_seq`, without a gap that a tombstone does not explain."""
        until = self.expectation.until_seq
        newest = [station.newest for station in self.stations.values() if station.newest is not None]
        if until is None or not newest:
            return False
        return all(
            epoch.first is not None and not list(epoch.unexplained(until)) and not epoch.unheard_gaps(until)
            for epoch in newest
        )

    def take_changed_epochs(self) -> list[EpochLedger]:
        """The epochs that changed since the last call."""
        changed, self._changed_epochs = list(self._changed_epochs.values()), {}
        return changed

    def _take_verdict(self, verdict: HeardVerdict, heard: Heard, *, queued: bool) -> None:
        epoch = self._epoch(verdict.base, verdict.epoch)
        if epoch is None:
            return
        station = self.stations[verdict.base]
        arrival = Arrival(heard.received_at_s, heard.redelivered, queued, self._same_content(verdict))
        is_new = epoch.take_verdict(verdict, arrival, crops=self.expectation.crops)
        if not is_new:
            return
        if epoch is not station.newest:
            station.counts["late_epoch_verdicts"] += 1
        if not verdict.backlog:
            station.was_away = False
            station.heard_live = True
            if not queued:
                ahead_ms = 1e3 * (heard.received_at_s - verdict.captured_at_s) - verdict.latency_ms
                before_ms = station.clock_ahead_ms
                station.clock_ahead_ms = ahead_ms if before_ms is None else min(ahead_ms, before_ms)

    def _take_tombstone(self, tombstone: Tombstone) -> None:
        epoch = self._epoch(tombstone.base, tombstone.epoch)
        if epoch is not None:
            epoch.take_tombstone(tombstone)

    def _take_status(self, heard: HeardStatus) -> None:
        station = self._station(heard.base)
        if station is not None and heard.status != station.status:
            station.status = heard.status
            station.counts[f"times_{Status(heard.status)}"] += 1

    def _take_alarm(self, alarm: HeardAlarm) -> None:
        station = self._station(alarm.base)
        if station is None:
            return
        if not alarm.active:
            station.alarms.discard(alarm.code)
        elif alarm.code not in station.alarms and len(station.alarms) < MAX_ALARMS:
            station.alarms.add(alarm.code)
            station.counts["alarms"] += 1

    def _station(self, base: str) -> StationLedger | None:
        if base not in self.stations:
            if len(self.stations) >= MAX_STATIONS:
                self._overflow(f"{base}: more than {MAX_STATIONS} stations: narrow the topic filter")
                return None
            self.stations[base] = StationLedger(base)
        return self.stations[base]

    def _epoch(self, base: str, number: int) -> EpochLedger | None:
        """The ledger of an epoch, which has changed as soon as it is asked for; None: there are too many."""
        station = self._station(base)
        if station is None:
            return None
        if number not in station.epochs:
            if len(station.epochs) >= MAX_EPOCHS:
                self._overflow(f"{base}: more than {MAX_EPOCHS} epochs: begin a new ledger")
                return None
            station.epochs[number] = self._new_epoch(station, number)
        epoch = station.epochs[number]
        self._changed_epochs[base, number] = epoch
        return epoch

    def _new_epoch(self, station: StationLedger, number: int) -> EpochLedger:
        """An epoch that begins while the audit listens is expected from its first verdict on."""
        began_now = station.heard_live and station.newest is not None and number > station.newest.epoch
        epoch = EpochLedger(station.base, number, FIRST_SEQ if began_now else self.expectation.from_seq)
        epoch.was_away = began_now and station.was_away
        return epoch

    def _overflow(self, problem: str) -> None:
        self.counts["beyond_memory"] += 1
        self.last_problem = problem

    def _same_content(self, verdict: HeardVerdict) -> bool:
        key = (verdict.base, verdict.epoch, verdict.seq)
        before = self._digests.setdefault(key, verdict.digest)
        if len(self._digests) > REMEMBERED:
            self._digests.popitem(last=False)
        return before == verdict.digest
