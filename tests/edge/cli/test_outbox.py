"""Arguments, output and exit codes of `patchline-edge outbox`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.delivery.outbox.outbox import Outbox
from tests.edge.cli.test_main import run
from tests.outboxes import ROOMY, Maker, verdict_seqs


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with Outbox.open(tmp_path / "outbox", ROOMY) as outbox:
        for _ in range(4):
            outbox.bury(outbox.append(Maker()).row_id, 0x87)
    return tmp_path / "outbox"


def test_dead_letters_are_listed_sent_again_and_dropped(directory: Path, tmp_path: Path) -> None:
    settings = tmp_path / "station.toml"
    settings.write_text(f'[outbox]\ndirectory = "{directory}"\n', encoding="utf-8")
    done = run("outbox", "list", "--config", settings)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "2", "3", "4"]
    assert "not authorized (0x87)" in done.stdout
    assert "4 dead letters" in done.stderr
    done = run("outbox", "resend", "1", "3", "--config", settings, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"action": "resend", "done": [1, 3]})
    done = run("outbox", "drop", "--all", "--directory", directory)
    assert (done.returncode, done.stdout) == (0, "")
    with Outbox.open(directory, ROOMY) as outbox:
        assert verdict_seqs(outbox) == [1, 3]
        assert outbox.dead_letters() == ()


def test_json_has_one_object_a_line(directory: Path) -> None:
    done = run("outbox", "list", "--json", "--directory", directory)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["id"], each["kind"], each["seq"], each["reason"]) for each in found] == [
        (number, "verdict", number, "not authorized (0x87)") for number in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["drop"], 2, "expected the numbers of dead letters"),
        (["drop", "1", "--all"], 2, "expected the numbers of dead letters"),
        (["resend", "1", "99"], 2, "99: there is no such dead letter"),
        (["list", "--config", "x.toml"], 2, "expected one of them"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    directory: Path, arguments: list[str], code: int, complaint: str
) -> None:
    done = run("outbox", *arguments, "--directory", directory)
    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_directory_without_an_outbox_is_named(tmp_path: Path) -> None:
    done = run("outbox", "list", "--directory", tmp_path)
    assert (done.returncode, done.stdout) == (6, "")
    assert f"error: {tmp_path}: there is no outbox here" in done.stderr
