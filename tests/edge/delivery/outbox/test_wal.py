from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.delivery.outbox.wal import WalCommits, read_commits

FRAME = 24 + 4096
HEADER = 32


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as found:
        found.execute("PRAGMA journal_mode = WAL")
        found.execute("CREATE TABLE t (x)")
        yield found


def frames(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])


def test_each_commit_ends_with_a_marked_frame_and_none_is_lost(tmp_path: Path, connection: sqlite3.Connection) -> None:
    for _ in range(3):
        connection.execute("INSERT INTO t VALUES (zeroblob(6000))")  # two pages and more
    found = read_commits(tmp_path / "t.db-wal")
    assert len(found.frames) == 4
    assert found.frames[-1] == frames(connection)
    assert found.lost(frames(connection)) == 0
    assert found.lost(found.frames[1]) == 2
    assert found.lost(found.frames[2]) == 0  # the last one alone: what a kill in mid-commit leaves


def test_frames_that_an_older_log_left_behind_do_not_count(tmp_path: Path, connection: sqlite3.Connection) -> None:
    for _ in range(5):
        connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("PRAGMA wal_checkpoint(RESTART)")
    connection.execute("INSERT INTO t VALUES (2)")
    assert (tmp_path / "t.db-wal").stat().st_size > HEADER + 2 * FRAME
    assert read_commits(tmp_path / "t.db-wal") == WalCommits(frames=(1,))


def test_a_log_that_is_missing_or_empty_has_no_commits(tmp_path: Path) -> None:
    assert read_commits(tmp_path / "missing") == WalCommits()
    (tmp_path / "empty").write_bytes(b"")
    assert read_commits(tmp_path / "empty").lost(0) == 0


def test_a_commit_that_was_not_written_to_its_end_is_not_lost(tmp_path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO t VALUES (1)")
    log = tmp_path / "t.db-wal"
    whole = read_commits(log)
    (tmp_path / "torn").write_bytes(log.read_bytes()[:-1])
    assert read_commits(tmp_path / "torn").frames == whole.frames[:-1]


@pytest.mark.parametrize("position", range(HEADER))
def test_a_damaged_header_counts_as_a_loss(tmp_path: Path, connection: sqlite3.Connection, position: int) -> None:
    contents = bytearray((tmp_path / "t.db-wal").read_bytes())
    contents[position] ^= 0x40
    (tmp_path / "damaged").write_bytes(contents)
    assert read_commits(tmp_path / "damaged").lost(0) == 1
