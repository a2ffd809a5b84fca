"""What goes into the journal's file and comes out of it, as values."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec
from attrs import define, evolve, field, frozen

from twisted_push.engines.facts import Kind
from twisted_push.history import Kept
from twisted_push.model import ChannelOverlay, ContentToken, Grant, PresenceList, StreamPosition

__all__ = [
    "Batch",
    "DamagedError",
    "FactKey",
    "FactRow",
    "Loaded",
    "LoadedStream",
    "StreamRow",
    "StreamWrite",
    "fact_key",
    "fact_row",
    "fact_sum",
    "read_fact",
    "read_stream",
    "stream_body",
]

FactKey = tuple[int, bytes]
"""The kind of a fact and its packed key."""

FactRow = tuple[int, bytes, float, bytes, int]
"""A fact as it is in the file: kind, key, end, value, check sum of all that."""

_encode = msgspec.msgpack.Encoder().encode

_DECODERS: Mapping[Kind, tuple[Any, Any]] = {
    kind: (msgspec.msgpack.Decoder(key).decode, msgspec.msgpack.Decoder(value).decode)
    for kind, key, value in (
        (Kind.GRANT, bytes, Grant),
        (Kind.REVOKED_TOKEN, bytes, bool),
        (Kind.LOGOUT, str, float),
        (Kind.KICK, str, float),
        (Kind.OVERLAY, tuple[str, str], ChannelOverlay),
        (Kind.CONTENT_TOKEN, bytes, ContentToken),
        (Kind.ANSWER, bytes, StreamPosition | None),
        (Kind.PRESENCE_LIST, str, PresenceList),
        (Kind.CHANNEL, str, bool),
    )
}


class DamagedError(Exception):
    """The file holds what nobody wrote. The text has no content of it."""


def fact_key(kind: Kind, key: object) -> FactKey:
    """Give what a fact is found by. Raises ValueError for text that is none."""
    return kind, _encode(key)


def fact_row(kind: Kind, key: object, value: object, until: float) -> FactRow:
    """Give the row of a fact. Raises ValueError for text that is none.

    Of a grant the content tokens are left out: they are secrets of one connection.
    """
    if isinstance(value, Grant) and value.content_tokens:
        value = evolve(value, content_tokens={})
    packed, body = _encode(key), _encode(value)
    return kind, packed, until, body, fact_sum(kind, packed, until, body)


def fact_sum(kind: int, key: bytes, until: float, body: bytes) -> int:
    """Give the check sum of a fact."""
    return crc32(body, crc32(key, crc32(_encode((kind, until)))))


def read_fact(row: FactRow) -> tuple[Kind, Any, Any, float]:
    """Give kind, key, value and end. Raises DamagedError."""
    number, packed, until, body, check = row
    if fact_sum(number, packed, until, body) != check:
        raise DamagedError("a check sum is wrong")
    try:
        kind = Kind(number)
        read_key, read_value = _DECODERS[kind]
        return kind, read_key(packed), read_value(body), until
    except (ValueError, TypeError) as error:
        raise DamagedError("a fact cannot be read") from error


@frozen
class StreamRow:
    """A stream, without its publications; ``top`` may be older than they are."""

    channel: str
    epoch: str
    top: int
    used_at: float
    version: int = 0
    version_epoch: str = ""


_read_stream = msgspec.msgpack.Decoder(StreamRow).decode


def stream_body(number: int, row: StreamRow) -> tuple[int, bytes, int]:
    """Give a stream as it is in the file: number, value, check sum of both."""
    body = _encode(row)
    return number, body, crc32(body, number)


def read_stream(number: int, body: bytes, check: int) -> StreamRow:
    """Give a stream's row. Raises DamagedError."""
    if crc32(body, number) != check:
        raise DamagedError("a check sum is wrong")
    try:
        return _read_stream(body)
    except ValueError as error:
        raise DamagedError("a stream cannot be read") from error


@frozen
class LoadedStream:
    """A stream as it was written; ``kept`` are its last publications, packed, with their ends."""

    number: int
    row: StreamRow
    top: int
    kept: deque[tuple[float, Kept]]


@frozen
class Loaded:
    """All that was written; facts with kind, key, value and end, the first to end first.

    ``life`` is another where something may have been lost (see `quiet.Quiet`), and ``loss`` says
    why, else "".
    """

    life: str
    streams: list[LoadedStream]
    facts: list[tuple[Kind, Any, Any, float]]
    loss: str


@frozen
class StreamWrite:
    """What changes of one stream: first go the offsets below ``below`` and above ``above``.

    ``row`` is that of `stream_body`, None where only publications come: offset, end, packed.
    """

    number: int
    row: tuple[int, bytes, int] | None
    below: int
    above: int | None
    publications: list[tuple[int, float, bytes]]


@define
class Batch:
    """What one transaction writes; ``gone`` are numbers of streams."""

    streams: list[StreamWrite] = field(factory=list)
    gone: list[int] = field(factory=list)
    facts: list[FactRow] = field(factory=list)
    dropped: list[FactKey] = field(factory=list)
    tidy: bool = False
    probe: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        found = self.streams or self.gone or self.facts or self.dropped
        return not (found or self.tidy or self.probe)
