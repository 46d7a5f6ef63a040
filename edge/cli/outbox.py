"""`patchline-edge outbox`: what a station's broker refused for good, and what its disk damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.command_line import Commands
from edge.delivery.opening import outbox_directory
from edge.delivery.outbox.records import DAMAGED, FILE_LOST
from edge.delivery.outbox.requests import MOST_LISTED, Action, Answer, Listed, Request, ask
from edge.errors import SettingsError
from edge.line.opening import station_topics
from edge.publishers.mqtt.reasons import NOT_AUTHORIZED, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID, TOPIC_NAME_INVALID
from edge.settings.file import load_settings
from edge.terminal import complain, say

outbox_app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="List, send again and drop dead letters: what the broker refused for good. The station may be running.",
)

_REASONS = {
    NOT_AUTHORIZED: "not authorized",
    TOPIC_NAME_INVALID: "topic name invalid",
    PACKET_TOO_LARGE: "packet too large",
    PAYLOAD_FORMAT_INVALID: "payload format invalid",
    FILE_LOST: "its file is lost",
    DAMAGED: "damaged on disk",
}

ConfigOption = Annotated[Path | None, typer.Option(help="Settings file (TOML) of the station.")]
DirectoryOption = Annotated[Path | None, typer.Option(help="The outbox's directory, in place of --config.")]
RowIds = Annotated[
    list[int] | None, typer.Argument(min=1, max=2**63 - 1, metavar="ID…", help="Dead letters, as `list` numbers them.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, one object a line.")]


@outbox_app.command("list")
def list_dead_letters(
    config: ConfigOption = None, directory: DirectoryOption = None, *, as_json: JsonOption = False
) -> None:
    """List dead letters, oldest first: number, kind, key, size, reason, time, topic."""
    number = 0
    for dead in _every(_directory(config, directory)):
        number += 1
        reason = _reason(dead.reason_code)
        typer.echo(json.dumps({**asdict(dead), "reason": reason}) if as_json else _line(dead, reason))
    say(f"{number} dead letters")


@outbox_app.command()
def resend(
    row_ids: RowIds = None,
    config: ConfigOption = None,
    directory: DirectoryOption = None,
    *,
    everything: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let dead letters wait for the broker again: with the same key and content, as backlog."""
    _change(Action.RESEND, _chosen(row_ids, everything=everything), _directory(config, directory), as_json=as_json)


@outbox_app.command()
def drop(
    row_ids: RowIds = None,
    config: ConfigOption = None,
    directory: DirectoryOption = None,
    *,
    everything: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete dead letters for good."""
    _change(Action.DROP, _chosen(row_ids, everything=everything), _directory(config, directory), as_json=as_json)


def _change(action: Action, row_ids: Sequence[int] | None, directory: Path, *, as_json: bool) -> None:
    done = _ask(directory, Request(action, None if row_ids is None else tuple(row_ids))).done
    word = "wait to be sent again" if action is Action.RESEND else "dropped"
    if as_json:
        typer.echo(json.dumps({"action": action.value, "done": done}))
    say(f"{len(done)} dead letters {word}")
    if left := sorted(set(row_ids or ()) - set(done)):
        raise SettingsError(f"{', '.join(map(str, left))}: there is no such dead letter, or nothing whole to send")


def _every(directory: Path) -> Iterator[Listed]:
    after = 0
    while listed := _ask(directory, Request(Action.LIST, after=after)).listed:
        yield from listed
        after = listed[-1].id
        if len(listed) < MOST_LISTED:
            return


def _ask(directory: Path, request: Request) -> Answer:
    answer = ask(directory, request)
    if answer.damage:
        complain(f"{directory}: {answer.damage}")
    return answer


def _chosen(row_ids: Sequence[int] | None, *, everything: bool) -> Sequence[int] | None:
    """None: all."""
    if everything == bool(row_ids):
        raise SettingsError("expected the numbers of dead letters, as `patchline-edge outbox list` has them, or --all")
    return row_ids or None


def _directory(config: Path | None, directory: Path | None) -> Path:
    if directory is not None and config is not None:
        raise SettingsError("--config and --directory: expected one of them")
    if directory is not None:
        return directory
    settings = load_settings(config)
    return outbox_directory(settings.outbox, station_topics(settings))


def _line(dead: Listed, reason: str) -> str:
    at = datetime.fromtimestamp(dead.buried_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{dead.id:>8}  {dead.kind:<8} {dead.epoch}-{dead.seq:<8} {dead.bytes:>8} B  {reason:<24} {at}  {dead.topic}"


def _reason(code: int) -> str:
    name = _REASONS.get(code, "refused")
    return f"{name} (0x{code:02X})" if code >= 0 else name
