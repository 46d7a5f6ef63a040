"""A ledger on disk is the ledger in memory, and is refused where it would tell something wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge.audit.ledger import Expectation, Ledger
from edge.audit.messages import Heard
from edge.audit.report import make_report
from edge.audit.store import LedgerFile
from edge.errors import SettingsError
from edge.protocol.messages import alarm_message, crop_messages, status_message, verdict_message
from edge.protocol.topics import Status
from edge.records import Message, Severity
from tests.edge.protocol.test_messages import FAIL, NO_RESULT, PASS, TOPICS

NOTHING = Expectation()


def messages() -> list[Message]:
    """Two epochs with gaps, repeats, a late verdict, crops, a tombstone, status, an alarm and garbage."""
    tombstone = b'{"v":1,"station":"station_7","epoch":5,"first":7,"last":8,"count":2,"reason":"evicted"}'
    alarm = alarm_message(TOPICS, "evicting", active=True, severity=Severity.WARNING, since_s=1.0, text="")
    return [
        status_message(TOPICS, Status.ONLINE),
        *(verdict_message(TOPICS, PASS, 5, seq) for seq in (1, 2, 4, 4, 9, 6)),
        verdict_message(TOPICS, NO_RESULT, 5, 3, backlog=True),
        verdict_message(TOPICS, FAIL, 5, 10),
        *crop_messages(TOPICS, FAIL, 5, 10),
        verdict_message(TOPICS, FAIL, 5, 11),
        Message(f"{TOPICS.base}/tombstone", tombstone, qos=1),
        alarm,
        verdict_message(TOPICS, PASS, 6, 2),
        Message(f"{TOPICS.base}/verdict", b"{}", qos=1),
        verdict_message(TOPICS, PASS, 5, 12),
    ]


def take(ledger: Ledger, message: Message) -> None:
    ledger.take(Heard(message.topic, message.payload, 1_700_000_001.0, user_properties=message.user_properties))


def findings(ledger: Ledger) -> object:
    return make_report(ledger, broker="", filters=(), client_id="", started="", ended="")


def test_an_audit_that_starts_again_after_every_message_finds_the_same(tmp_path: Path) -> None:
    whole = Ledger(NOTHING)
    for message in messages():
        take(whole, message)
        with LedgerFile(tmp_path / "ledger.sqlite") as store:
            again = store.load(NOTHING)
            take(again, message)
            store.commit(again)
    with LedgerFile(tmp_path / "ledger.sqlite") as store:
        assert findings(store.load(NOTHING)) == findings(whole)


def test_an_absence_of_the_audit_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with LedgerFile(path) as store:
        ledger = store.load(NOTHING)
        take(ledger, verdict_message(TOPICS, PASS, 5, 1))
        ledger.interrupt()
        store.commit(ledger)
    with LedgerFile(path) as store:
        ledger = store.load(NOTHING)
        take(ledger, verdict_message(TOPICS, PASS, 5, 4))
        epoch = ledger.stations[TOPICS.base].epochs[5]
        assert (epoch.unheard_gaps(), epoch.missing()) == (2, 0)


def test_what_was_not_committed_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with LedgerFile(path) as store:
        ledger = store.load(NOTHING)
        take(ledger, verdict_message(TOPICS, PASS, 5, 1))
        store.commit(ledger)
        take(ledger, verdict_message(TOPICS, PASS, 5, 2))
    with LedgerFile(path) as store:
        assert list(store.load(NOTHING).stations[TOPICS.base].epochs[5].received) == [(1, 1)]


def test_months_of_verdicts_take_one_row(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with LedgerFile(path) as store:
        ledger = store.load(NOTHING)
        for seq in range(1, 301):
            take(ledger, verdict_message(TOPICS, PASS, 5, seq))
            if seq % 50 == 0:
                store.commit(ledger)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name, first, last FROM ranges").fetchall() == [("received", 1, 300)]
    connection.close()


def test_two_audits_cannot_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with LedgerFile(path), pytest.raises(SettingsError, match="no other audit is using"):
        LedgerFile(path)
    with LedgerFile(path) as store:
        assert store.load(NOTHING).stations == {}


def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes\n" * 100, encoding="utf-8")
    with pytest.raises(SettingsError, match="file is not a database"):
        LedgerFile(path)
    assert path.read_text(encoding="utf-8") == "these are notes\n" * 100


def test_a_ledger_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    LedgerFile(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE facts SET value = '99' WHERE name = 'format'")
    connection.close()
    with pytest.raises(SettingsError, match="expected format 1, got 99"):
        LedgerFile(path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"--ledger {tmp_path}/none/l.sqlite: cannot be used"):
        LedgerFile(tmp_path / "none" / "l.sqlite")


def test_a_ledger_keeps_the_option_it_was_made_with(tmp_path: Path) -> None:
    with LedgerFile(tmp_path / "ledger.sqlite") as store:
        assert store.bind("--topic", "", "patchline/+/+/+") == "patchline/+/+/+"
        assert store.bind("--topic", "", "other/+/+/+") == "patchline/+/+/+"
        assert store.bind("--topic", "patchline/+/+/+", "") == "patchline/+/+/+"
        with pytest.raises(SettingsError, match=r"--topic a/b/c/d: the ledger .* was made with patchline/\+/\+/\+"):
            store.bind("--topic", "a/b/c/d", "")
