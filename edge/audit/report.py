"""What an audit found: as records for JSON, as lines for people, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.table import Table

from edge.audit.epoch import EpochLedger
from edge.audit.ledger import Ledger, StationLedger
from edge.audit.ranges import Range

REPORT_VERSION = 1
_LISTED_RANGES = 1000  # in JSON
_NAMED_RANGES = 10  # in text
_SHOWN_EPOCHS = 5  # of each station, in the table
_LATENCY_TEXT = {"live": "live", "backlog": "backlog of the station", "queued": "waited for this audit"}


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One epoch of one station; numbers are counts of verdicts unless they say otherwise."""

    epoch: int
    first: int | None  # from here on every verdict is expected; None: no live one was heard yet
    last: int | None  # up to here
    received: int  # first arrivals
    missing: int  # expected, not received, and not explained
    missing_ranges: tuple[Range, ...]  # the first thousand, first and last number of each
    evicted: int  # not received: the station gave them up and said so
    unheard: int  # not received: they may have been sent while the audit had no session at the broker
    passed: int
    failed: int
    no_result: int
    no_result_reasons: Mapping[str, int]
    duplicates: int  # came again from the station
    redelivered: int  # came again from the broker, because an acknowledgement of ours was lost
    conflicts: int  # came again with other content
    inversions: int  # first arrivals out of order
    overtaken: int  # came as backlog after newer live ones
    tombstones: int  # messages
    latency_ms: Mapping[str, Mapping[str, int | float]]  # capture to receipt, difference of the clocks included
    crops: Mapping[str, int]  # messages


@dataclass(frozen=True, slots=True)
class StationReport:
    """One station."""

    station: str  # base of its topics
    status: str  # empty: not heard
    active_alarms: tuple[str, ...]
    counts: Mapping[str, int]  # alarms raised, times online, offline, stopped; verdicts of epochs that had ended
    clock_ahead_at_most_ms: float | None  # this machine's clock minus the station's
    epochs: tuple[EpochReport, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The whole audit."""

    v: int
    broker: str
    filters: tuple[str, ...]
    client_id: str
    started: str  # of this run, UTC; the counts are those of the whole ledger
    ended: str
    accounted: bool  # every verdict that is expected was received, or given up by a tombstone
    received: int
    missing: int
    evicted: int
    unheard: int
    conflicts: int
    heard: int  # messages of every kind
    connections: int
    interruptions: int  # connections for which the broker had kept no session
    beyond_memory: int  # messages of stations and epochs beyond what an audit keeps
    unusable: Mapping[str, int]  # messages that are not of ours or malformed, by kind
    last_problem: str
    stations: tuple[StationReport, ...]


def make_report(
    ledger: Ledger, *, broker: str, filters: tuple[str, ...], client_id: str, started: str, ended: str
) -> Report:
    """What `ledger` says; the rest is how it was made."""
    stations = tuple(_station_report(ledger, ledger.stations[base]) for base in sorted(ledger.stations))
    epochs = [epoch for station in stations for epoch in station.epochs]
    missing = sum(epoch.missing for epoch in epochs)
    unheard = sum(epoch.unheard for epoch in epochs)
    conflicts = sum(epoch.conflicts for epoch in epochs)
    expected = any(epoch.first is not None for epoch in epochs)
    beyond_memory = ledger.counts["beyond_memory"]
    return Report(
        v=REPORT_VERSION,
        broker=broker,
        filters=filters,
        client_id=client_id,
        started=started,
        ended=ended,
        accounted=expected and not (missing or unheard or conflicts or beyond_memory),
        received=sum(epoch.received for epoch in epochs),
        missing=missing,
        evicted=sum(epoch.evicted for epoch in epochs),
        unheard=unheard,
        conflicts=conflicts,
        heard=ledger.counts["heard"],
        connections=ledger.counts["connections"],
        interruptions=ledger.counts["interruptions"],
        beyond_memory=beyond_memory,
        unusable=_beginning(ledger.counts, "unusable_"),
        last_problem=ledger.last_problem,
        stations=stations,
    )


def conclusion(report: Report) -> str:
    """In one sentence."""
    if report.accounted:
        evicted = f", {report.evicted} given up by the station, which said so" if report.evicted else ""
        return f"accounted for: {report.received} verdicts received, none missing{evicted}"
    if not any(epoch.first is not None for station in report.stations for epoch in station.epochs):
        return "nothing is proven: no live verdict was heard; is the station running, and are the filters right?"
    return (
        f"not accounted for: {report.missing} verdicts missing without explanation, {report.unheard} that may have "
        f"been sent while this audit had no session, {report.conflicts} that came again with other content, "
        f"{report.beyond_memory} messages beyond memory"
    )


def text_lines(report: Report) -> Iterator[str]:
    """Everything, for people."""
    for station in report.stations:
        alarms = f"; active alarms: {', '.join(station.active_alarms)}" if station.active_alarms else ""
        yield f"{station.station}: {station.status or 'no status heard'}{alarms}"
        if station.clock_ahead_at_most_ms is not None:
            yield f"  {_clock_text(station.clock_ahead_at_most_ms)}"
        if late := station.counts.get("late_epoch_verdicts"):
            yield f"  {late} verdicts of an epoch that a newer one had followed"
        for epoch in station.epochs:
            yield from (f"  {line}" for line in _epoch_lines(epoch))
    if report.unusable:
        kinds = ", ".join(f"{kind} {count}" for kind, count in report.unusable.items())
        yield f"messages not of ours or malformed: {kinds}"
    if report.last_problem:
        yield f"  the last problem: {report.last_problem}"
    if report.interruptions:
        yield f"the broker had kept no session for this audit: {report.interruptions} times"


def status_line(ledger: Ledger) -> str:
    """One line for each station's newest epoch; `text_lines` has the rest."""
    parts = []
    for station in ledger.stations.values():
        if (epoch := station.newest) is not None:
            row = _epoch_report(epoch, ledger.until(epoch))
            parts.append(
                f"{station.base}: up to {row.last}, received {row.received}, missing {row.missing}, evicted "
                f"{row.evicted}, unheard {row.unheard}, repeated {row.duplicates}, live {_percentiles(row, 'live')}"
            )
    return "\n".join(parts) or "no verdict heard yet"


def live_table(ledger: Ledger, title: str) -> Table:
    """One row for each epoch, the newest of each station first."""
    table = Table(title=title, caption=_caption(ledger))
    for name in ("station", "epoch"):
        table.add_column(name, no_wrap=True)
    names = ("from", "to", "received", "missing", "evicted", "unheard", "repeated", "out of order", "PASS/FAIL/NO")
    for name in (*names, "live ms p50/p99/max", "backlog ms p50/p99/max", "crops missing"):
        table.add_column(name, justify="right")
    for station in ledger.stations.values():
        for epoch in reversed(_in_order(station)[-_SHOWN_EPOCHS:]):
            _add_row(table, station, _epoch_report(epoch, ledger.until(epoch)))
    return table


def _station_report(ledger: Ledger, station: StationLedger) -> StationReport:
    return StationReport(
        station=station.base,
        status=station.status,
        active_alarms=tuple(sorted(station.alarms)),
        counts=dict(station.counts),
        clock_ahead_at_most_ms=None if station.clock_ahead_ms is None else round(station.clock_ahead_ms, 1),
        epochs=tuple(_epoch_report(epoch, ledger.until(epoch)) for epoch in _in_order(station)),
    )


def _in_order(station: StationLedger) -> list[EpochLedger]:
    return [station.epochs[number] for number in sorted(station.epochs)]


def _epoch_report(epoch: EpochLedger, until: int | None) -> EpochReport:
    counts = epoch.counts
    last = epoch.last
    return EpochReport(
        epoch=epoch.epoch,
        first=epoch.first,
        last=last if until is None or last is None else max(last, until),
        received=counts["received"],
        missing=epoch.missing(until),
        missing_ranges=tuple(epoch.unexplained(until)[:_LISTED_RANGES]),
        evicted=epoch.evicted_gaps(until),
        unheard=epoch.unheard_gaps(until),
        passed=counts["pass"],
        failed=counts["fail"],
        no_result=counts["no_result"],
        no_result_reasons=_beginning(counts, "no_result_"),
        duplicates=counts["duplicates"],
        redelivered=counts["redelivered"],
        conflicts=counts["conflicts"],
        inversions=counts["inversions"],
        overtaken=counts["overtaken"],
        tombstones=counts["tombstones"],
        latency_ms={name: histogram.as_json() for name, histogram in epoch.latency.items()},
        crops={
            "received": counts["crops"],
            "matched": counts["crops_matched"],
            "missing": epoch.missing_crops(),
            "without_verdict": epoch.stray_crops(),
            "repeated": counts["crops_repeated"],
            "damaged": counts["crops_damaged"],
            "mismatched": counts["crops_mismatched"],
        },
    )


def _beginning(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}


def _epoch_lines(epoch: EpochReport) -> Iterator[str]:
    expected = "nothing is expected yet" if epoch.first is None else f"{epoch.first} to {epoch.last} expected"
    yield (
        f"epoch {epoch.epoch}: {expected}; {epoch.received} received, {epoch.missing} missing, "
        f"{epoch.evicted} evicted, {epoch.unheard} unheard"
    )
    if epoch.missing_ranges:
        yield f"  missing: {_range_text(epoch.missing_ranges)}"
    reasons = ", ".join(f"{reason} {count}" for reason, count in epoch.no_result_reasons.items())
    yield (
        f"  {epoch.passed} PASS, {epoch.failed} FAIL, {epoch.no_result} NO_RESULT{f' ({reasons})' if reasons else ''}"
    )
    yield (
        f"  repeated by the station {epoch.duplicates}, by the broker {epoch.redelivered}, with other content "
        f"{epoch.conflicts}; out of order {epoch.inversions}; backlog overtaken by live {epoch.overtaken}"
    )
    for name, text in _LATENCY_TEXT.items():
        if count := epoch.latency_ms[name]["count"]:
            yield f"  capture to receipt, {text}: p50/p99/max {_percentiles(epoch, name)} ms of {count} verdicts"
    if any(epoch.crops.values()):
        crops = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in epoch.crops.items())
        yield f"  crops: {crops}"


def _range_text(ranges: tuple[Range, ...]) -> str:
    named = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges[:_NAMED_RANGES])
    more = len(ranges) - _NAMED_RANGES
    return f"{named} and {more} more ranges" if more > 0 else named


def _percentiles(epoch: EpochReport, name: str) -> str:
    figures = epoch.latency_ms[name]
    return "/".join(f"{figures[key]:.0f}" for key in ("p50", "p99", "max")) if figures["count"] else "-"


def _clock_text(ahead_ms: float) -> str:
    """The fastest live verdict bounds the difference of the clocks, and so what it adds to every latency."""
    if ahead_ms < 0:
        return f"this machine's clock is at least {-ahead_ms:.1f} ms behind the station's: latencies are too low by it"
    return (
        f"clocks: this machine's is at most {ahead_ms:.1f} ms ahead of the station's; latencies contain the difference"
    )


def _caption(ledger: Ledger) -> str:
    unusable = sum(_beginning(ledger.counts, "unusable_").values())
    return (
        f"{ledger.counts['heard']} messages, {unusable} not of ours or malformed, {ledger.counts['connections']} "
        f"connections, {ledger.counts['interruptions']} without a session"
    )


def _add_row(table: Table, station: StationLedger, epoch: EpochReport) -> None:
    alarm = " ⚠" if station.alarms else ""
    table.add_row(
        f"{station.base} ({station.status or '?'}{alarm})",
        str(epoch.epoch),
        "-" if epoch.first is None else str(epoch.first),
        "-" if epoch.last is None else str(epoch.last),
        *map(str, (epoch.received, epoch.missing, epoch.evicted, epoch.unheard, epoch.duplicates, epoch.inversions)),
        f"{epoch.passed}/{epoch.failed}/{epoch.no_result}",
        _percentiles(epoch, "live"),
        _percentiles(epoch, "backlog"),
        str(epoch.crops["missing"]),
    )
