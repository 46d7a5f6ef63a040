"""A stored message as the columns of its row, sealed: what a disk changed is noticed and never delivered. Pure.

A seal has three parts: the payload's hash, a hash of every other column with that, and one of the columns that say
which message it is, so that a damaged message can still be named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge.delivery.outbox.records import Entry, Kind
from edge.records import Message

Values = Sequence[Any]  # as SQLite gives them: of a damaged row, anything

COLUMNS = (
    "kind, epoch, seq, topic, payload, file, size, qos, retain, content_type, user_properties, expiry_s, committed_at, "
    "late"
)
KEY_COLUMNS = "id, kind, epoch, seq, size, file, seal"

_PAYLOAD = 5  # its place in (id, *COLUMNS)
_HASH_BYTES = 16
_KEY_BYTES = 8
_LONGEST_SHOWN = 1000  # characters of a damaged column


class RowDamagedError(Exception):
    """A row is not what was committed. Never leaves the outbox, which sets the row aside."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A message as it is stored."""

    entry: Entry  # without its payload where that is in a file
    file: str  # "": none
    payload_hash: bytes  # b"": stored by a version that kept none


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a row without its contents."""

    row_id: int
    kind: Kind
    epoch: int
    seq: int
    size: int
    file: str


def hash_payload(payload: bytes) -> bytes:
    """16 bytes."""
    return hashlib.blake2b(payload, digest_size=_HASH_BYTES).digest()


def message_bytes(message: Message) -> int:
    """What a message counts for `max_bytes`: everything in it that has no fixed size."""
    texts = (message.topic, message.content_type, *(text for pair in message.user_properties for text in pair))
    return len(message.payload) + sum(len(text.encode()) for text in texts)


def make_row(row_id: int, entry: Entry, file: str) -> Row:
    """`entry` under another number; with a `file`, its payload is there."""
    message = replace(entry.message, payload=b"") if file else entry.message
    return Row(replace(entry, row_id=row_id, message=message), file, hash_payload(entry.message.payload))


def to_values(row: Row, *more: float) -> tuple[Any, ...]:
    """(id, *COLUMNS, *more, seal)."""
    entry, message = row.entry, row.entry.message
    values = (
        entry.row_id,
        entry.kind.value,
        entry.epoch,
        entry.seq,
        message.topic,
        message.payload,
        row.file,
        entry.size,
        message.qos,
        int(message.retain),
        message.content_type,
        json.dumps(message.user_properties),
        message.expiry_s,
        float(entry.committed_at_s),
        int(entry.late),
        *more,
    )
    return (*values, _seal(values, row.payload_hash))


def from_values(values: Values, *, may_lack_seal: bool) -> Row:
    """The row of (id, *COLUMNS, …, seal).

    Raises:
        RowDamagedError: they are not what was sealed, or make no message.
    """
    *content, seal = values
    if seal is None and may_lack_seal:
        payload = content[_PAYLOAD]
        row = _parse(content, b"")
        return row if row.file else replace(row, payload_hash=hash_payload(payload))
    if not is_sealed(values):
        raise RowDamagedError("it is not what was written")
    return _parse(content, seal[:_HASH_BYTES])


def is_sealed(values: Values) -> bool:
    """The row of (id, *COLUMNS, …, seal) is what was written, apart from its file."""
    *content, seal = values
    file, payload = content[_PAYLOAD + 1], content[_PAYLOAD]
    if not isinstance(seal, bytes) or not isinstance(payload, bytes):
        return False
    payload_hash = seal[:_HASH_BYTES]
    return seal == _seal(content, payload_hash) and (bool(file) or hash_payload(payload) == payload_hash)


def read_key(values: Values, *, may_lack_seal: bool) -> Key:
    """The key of KEY_COLUMNS.

    Raises:
        RowDamagedError: they are not what was sealed.
    """
    *content, seal = values
    if seal is None:
        sound = may_lack_seal
    else:
        sound = isinstance(seal, bytes) and seal[-_KEY_BYTES:] == _hash(content, _KEY_BYTES)
    row_id, kind, epoch, seq, size, file = content
    try:
        if not sound or not all(isinstance(number, int) for number in (epoch, seq, size)):
            raise RowDamagedError("its key is not what was written")
        return Key(row_id, Kind(kind), epoch, seq, size, str(file))
    except ValueError as error:
        raise RowDamagedError(str(error)) from error


def key_values(values: Values) -> Values:
    """KEY_COLUMNS of (id, *COLUMNS, …, seal)."""
    return (*values[:4], values[_PAYLOAD + 2], values[_PAYLOAD + 1], values[-1])


def remains_of(values: Values, key: Key | None) -> Entry:
    """A damaged row as a message for people to look at, whatever is in it; `key`, if that is sound."""
    _, _, _, _, topic, payload, _, _, _, _, content_type, properties, _, committed_at, *_ = values
    message = Message(
        topic=_shown(topic),
        payload=payload if isinstance(payload, bytes) else _shown(payload).encode(),
        qos=0,
        content_type=_shown(content_type),
        user_properties=(("damaged", _shown(properties)),),
    )
    return Entry(
        row_id=values[0],
        kind=Kind.OTHER if key is None else key.kind,
        epoch=0 if key is None else key.epoch,
        seq=0 if key is None else key.seq,
        message=message,
        size=message_bytes(message),
        committed_at_s=committed_at if isinstance(committed_at, float) else 0.0,
    )


def seal_numbers(*values: object) -> bytes:
    """The seal of a row that is numbers and words."""
    return _hash(values, _HASH_BYTES)


def _seal(values: Values, payload_hash: bytes) -> bytes:
    row_id, kind, epoch, seq, topic, _, file, size, *rest = values
    rest_hash = _hash((row_id, kind, epoch, seq, topic, payload_hash, file, size, *rest), _HASH_BYTES)
    return payload_hash + rest_hash + _hash((row_id, kind, epoch, seq, size, file), _KEY_BYTES)


def _hash(values: Values, size: int) -> bytes:
    # As literals, numbers, texts, bytes and None can be told apart, whatever SQLite gives.
    return hashlib.blake2b(ascii(tuple(values)).encode("ascii"), digest_size=size).digest()


def _parse(content: Values, payload_hash: bytes) -> Row:
    row_id, kind, epoch, seq, topic, payload, file, size, qos, retain, content_type, properties, *rest = content
    expiry_s, committed_at_s, late, *_ = rest
    try:
        message = Message(
            topic=topic,
            payload=bytes(payload),
            qos=qos,
            retain=bool(retain),
            content_type=content_type,
            user_properties=tuple((str(key), str(value)) for key, value in json.loads(properties)),
            expiry_s=expiry_s,
        )
        entry = Entry(row_id, Kind(kind), int(epoch), int(seq), message, int(size), float(committed_at_s), bool(late))
        if not file and message_bytes(message) != size:
            raise RowDamagedError("its size is not that of its contents")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # of one that has no seal
        raise RowDamagedError(str(error)) from error
    return Row(entry, str(file), payload_hash)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "replace").decode()[:_LONGEST_SHOWN]
