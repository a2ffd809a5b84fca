"""The stream of one channel: its latest publications and where it stands.

Facts of offsets, epochs and of asking for history: the client protocol (Centrifugal JSON 2),
sections 2 and 3.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from secrets import token_urlsafe
from typing import TypeAlias

import msgspec
from attrs import define, field
from msgspec.structs import replace

from twisted_push.model import ClientInfo, Publication, Recovered, StreamPosition

__all__ = ["Kept", "Stream", "new_epoch", "pack"]

Kept: TypeAlias = Publication | bytes
"""A publication in a stream, as it is or packed (`pack`)."""


def new_epoch() -> str:
    """Give the name of a stream's new life."""
    return token_urlsafe(6)


class _Packed(msgspec.Struct, array_like=True):
    """A publication without its channel and its position."""

    data: bytes
    time: int
    info: ClientInfo | None = None
    tags: dict[str, str] | None = None
    extra: dict[str, bytes] | None = None
    exclude: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def pack(publication: Publication) -> bytes:
    """Give a publication in few bytes, without its channel and its position."""
    tags, extra = publication.tags, publication.extra
    return _encode(
        _Packed(
            publication.data,
            publication.time,
            publication.info,
            None if tags is None else dict(tags),
            None if extra is None else dict(extra),
            publication.exclude,
        )
    )


def _unpack(packed: bytes, channel: str, position: StreamPosition) -> Publication:
    found = _decode(packed)
    return Publication(
        channel,
        found.data,
        position,
        found.info,
        found.tags,
        found.extra,
        found.time,
        found.exclude,
    )


@define
class Stream:
    """Publications of a channel, with offsets that count from 1 within one epoch.

    The position outlives the publications: an empty stream still proves that nothing was missed.
    """

    channel: str
    epoch: str = field(factory=new_epoch)
    top: int = 0
    _kept: deque[tuple[float, Kept]] = field(factory=deque, repr=False)

    @property
    def position(self) -> StreamPosition:
        """Where the stream stands."""
        return StreamPosition(self.top, self.epoch)

    @property
    def first(self) -> int:
        """The offset of the oldest publication that is kept; one past the top without any."""
        return self.top - len(self._kept) + 1

    def place(self, publication: Publication, offset: int) -> Publication:
        """Give a publication with its position. It is not in the stream yet."""
        return replace(publication, position=StreamPosition(offset, self.epoch))

    def append(self, placed: Publication, size: int, until: float) -> None:
        """Take in the publication that has the next offset, until a time; keep ``size`` of them."""
        self.top += 1
        self._kept.append((until, placed))
        while len(self._kept) > size:
            self._kept.popleft()

    def trim(self, now: float) -> None:
        """Drop what is over its time."""
        while self._kept and self._kept[0][0] <= now:
            self._kept.popleft()

    def clear(self) -> None:
        """Drop all publications."""
        self._kept.clear()

    def after(self, offset: int) -> Iterator[tuple[int, float, Kept]]:
        """Give what is kept with a greater offset: offset, end, publication."""
        start = max(offset + 1, self.first)
        kept = islice(self._kept, start - self.first, None)
        return ((start + number, until, each) for number, (until, each) in enumerate(kept))

    def since(self, position: StreamPosition | None, limit: int, now: float) -> Recovered:
        """Give all that came after ``position``, or nothing if that cannot be all.

        None asks only where the stream stands, which is always complete.
        """
        if position is None:
            return Recovered((), self.position, complete=True)
        self.trim(now)
        missing = self.top - position.offset
        provable = position.epoch == self.epoch and 0 <= missing <= min(limit, len(self._kept))
        if not provable:
            return Recovered((), self.position, complete=False)
        found = self._found(range(position.offset + 1, self.top + 1))
        return Recovered(found, self.position, complete=True)

    def history(
        self, since: StreamPosition | None, limit: int, reverse: bool, now: float
    ) -> Recovered:
        """Give what is kept, page by page: see `IEngine.history`."""
        self.trim(now)
        if since is not None and not self._reaches(since, reverse):
            return Recovered((), self.position, complete=False)
        if since is None:
            offsets = range(self.first, self.top + 1)
        elif reverse:
            offsets = range(self.first, max(since.offset, self.first))
        else:
            offsets = range(since.offset + 1, self.top + 1)
        if 0 <= limit < len(offsets):
            offsets = offsets[len(offsets) - limit :] if reverse else offsets[:limit]
        found = self._found(offsets)
        return Recovered(found[::-1] if reverse else found, self.position, complete=True)

    def _reaches(self, since: StreamPosition, reverse: bool) -> bool:
        """Tell whether nothing is missing next to a position: what is older may be gone."""
        oldest = 0 if reverse else self.first - 1
        return since.epoch == self.epoch and oldest <= since.offset <= self.top

    def _found(self, offsets: range) -> tuple[Publication, ...]:
        start = offsets.start - self.first
        return tuple(
            _unpack(kept, self.channel, StreamPosition(offset, self.epoch))
            if isinstance(kept, bytes)
            else kept
            for offset, (_, kept) in zip(
                offsets, islice(self._kept, start, start + len(offsets)), strict=True
            )
        )
