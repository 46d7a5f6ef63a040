"""What people and machines are told about a ledger."""

from __future__ import annotations

import dataclasses
import io
import json

from rich.console import Console

from edge.audit.ledger import Expectation, Ledger
from edge.audit.messages import Heard
from edge.audit.report import Report, conclusion, live_table, make_report, status_line, text_lines
from edge.protocol.messages import alarm_message, crop_messages, status_message, verdict_message
from edge.protocol.topics import Status
from edge.records import Message, Severity
from tests.edge.protocol.test_messages import FAIL, NO_RESULT, PASS, TOPICS


def filled(*messages: Message, expectation: Expectation | None = None) -> Ledger:
    ledger = Ledger(expectation or Expectation())
    for message in messages:
        received_at_s = PASS.identity.captured_at_s + 0.05
        ledger.take(Heard(message.topic, message.payload, received_at_s, user_properties=message.user_properties))
    return ledger


def reported(ledger: Ledger) -> Report:
    return make_report(ledger, broker="b:1", filters=("f",), client_id="c", started="s", ended="e")


def verdicts(*seqs: int) -> list[Message]:
    return [verdict_message(TOPICS, PASS, 5, seq) for seq in seqs]


def test_everything_received_is_accounted_for() -> None:
    report = reported(filled(*verdicts(1, 2, 3)))
    assert report.accounted
    assert conclusion(report) == "accounted for: 3 verdicts received, none missing"


def test_what_a_tombstone_explains_is_accounted_for_and_said() -> None:
    payload = b'{"v":1,"station":"station_7","epoch":5,"first":2,"last":3,"count":2,"reason":"evicted"}'
    report = reported(filled(*verdicts(1), Message(f"{TOPICS.base}/tombstone", payload, qos=1), *verdicts(4)))
    assert report.accounted
    assert conclusion(report).endswith("none missing, 2 given up by the station, which said so")


def test_nothing_heard_or_only_a_backlog_proves_nothing() -> None:
    late = verdict_message(TOPICS, PASS, 5, 1, backlog=True)
    for ledger in (filled(), filled(late)):
        assert not reported(ledger).accounted
        assert conclusion(reported(ledger)).startswith("nothing is proven")


def test_missing_unheard_and_contradictory_verdicts_are_not_accounted_for() -> None:
    missing = filled(*verdicts(1, 3))
    unheard = filled(*verdicts(1))
    unheard.interrupt()
    unheard.take(Heard(TOPICS.verdict, verdicts(3)[0].payload, 1_700_000_001.0))
    contradictory = filled(*verdicts(1), verdict_message(TOPICS, NO_RESULT, 5, 1))
    beyond_memory = filled(*verdicts(1))
    beyond_memory.counts["beyond_memory"] += 1
    for ledger in (missing, unheard, contradictory, beyond_memory):
        report = reported(ledger)
        assert not report.accounted
        assert conclusion(report).startswith("not accounted for: ")
        assert sum((report.missing, report.unheard, report.conflicts, report.beyond_memory)) == 1


def test_the_report_is_json_and_the_text_names_what_it_holds() -> None:
    alarm = alarm_message(TOPICS, "evicting", active=True, severity=Severity.WARNING, since_s=1.0, text="")
    fail = verdict_message(TOPICS, FAIL, 5, 30)
    ledger = filled(
        status_message(TOPICS, Status.ONLINE),
        alarm,
        *verdicts(*range(1, 25, 2)),
        fail,
        *crop_messages(TOPICS, FAIL, 5, 30),
        verdict_message(TOPICS, NO_RESULT, 5, 31),
        Message("a/b", b"", qos=1),
    )
    report = reported(ledger)
    assert json.loads(json.dumps(dataclasses.asdict(report)))["stations"][0]["active_alarms"] == ["evicting"]
    text = "\n".join(text_lines(report))
    assert f"{TOPICS.base}: online; active alarms: evicting" in text
    assert "epoch 5: 1 to 31 expected; 14 received, 17 missing, 0 evicted, 0 unheard" in text
    assert "missing: 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 2 more ranges" in text
    assert "12 PASS, 1 FAIL, 1 NO_RESULT (deadline_missed 1)" in text
    assert "capture to receipt, live: p50/p99/max 50/50/50 ms of 14 verdicts" in text
    assert "crops: 1 received, 1 matched, 0 missing" in text
    assert "messages not of ours or malformed: foreign 1" in text
    assert "clocks: this machine's is at most 38" in text


def test_a_terminal_shows_a_row_for_each_epoch_and_others_a_line_for_each_station() -> None:
    old = verdict_message(TOPICS, PASS, 4, 7)
    ledger = filled(old, *verdicts(1, 2, 4), expectation=Expectation(until_seq=6))
    screen = io.StringIO()
    Console(file=screen, width=220).print(live_table(ledger, "audit"))
    rows = [line.split("│") for line in screen.getvalue().splitlines() if TOPICS.base in line]
    cells = [[cell.strip() for cell in row[2:8]] for row in rows]
    assert cells == [["5", "1", "6", "3", "3", "0"], ["4", "7", "7", "1", "0", "0"]]
    assert status_line(ledger).startswith(f"{TOPICS.base}: up to 6, received 3, missing 3, evicted 0")
    assert status_line(Ledger(Expectation())) == "no verdict heard yet"
