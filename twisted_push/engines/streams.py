"""The streams of all channels, and what makes a publication one that was published before.

A publish has two steps: `plan` finds out what will come of it, `apply` does it. What is planned
shows in no stream, so that it can be written down in between; one plan builds on those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Protocol, TypeAlias

from attrs import define, field, frozen
from msgspec.structs import replace

from twisted_push.engines.facts import Kind, Notes, Table
from twisted_push.engines.quiet import Quiet
from twisted_push.errors import Overloaded
from twisted_push.history import Stream
from twisted_push.model import (
    Publication,
    Published,
    PublishOptions,
    Recovered,
    StreamPosition,
)

__all__ = [
    "ANSWER_LIFE",
    "MAX_ANSWERS",
    "STREAM_LIFE",
    "Ahead",
    "Channel",
    "Placing",
    "Removal",
    "Streams",
    "Version",
    "Watcher",
]

STREAM_LIFE = 86400.0
"""Seconds that a stream's position outlives its last publication."""

RESTART_LIFE = 3600.0
"""Seconds for which at least a stream with publications outlives a restart."""

ANSWER_LIFE = 300.0
"""Seconds for which an idempotency key is known.

Source: the client protocol's specification, section 6.
"""

MAX_ANSWERS = 1_000_000
"""Most idempotency keys that are known at a time."""

SLICE = 2_000
"""Streams that are looked at in one turn of the reactor: about a millisecond."""

Announce: TypeAlias = Callable[[Publication], int]
"""Delivers a publication to the clients here, and gives their number."""


@frozen
class Version:
    """The version of what was published last, within an epoch of the publisher's. 0: none."""

    number: int = 0
    epoch: str = ""


@define
class Ahead:
    """What is planned for a channel: where it will stand.

    ``floor`` is the oldest offset that will be kept, ``rows`` what will be in the stream from
    there on that is not yet: offset, end, packed publication.
    """

    top: int
    version: Version
    floor: int = 0
    rows: list[tuple[int, float, bytes]] = field(factory=list)


@define(eq=False)
class Channel:
    """The stream of one channel, and what else is known of it.

    ``used_at`` is the time of its last use, or of the end of its last publication. ``saved`` is for
    who writes it down.
    """

    name: str
    stream: Stream
    used_at: float
    version: Version = Version()
    ahead: Ahead | None = None
    saved: object = None


@define(eq=False)
class Placing:
    """One publish on its way; ``packed`` is for who writes it down.

    ``answer`` is there when it is known what comes of it, ``first`` is the one on its way with the
    same idempotency key.
    """

    publication: Publication
    options: PublishOptions
    packed: bytes = b""
    now: float = 0.0
    channel: Channel | None = None
    key: bytes | None = None
    first: Placing | None = None
    answer: Published | None = None


@define(eq=False)
class Removal:
    """One removal of a channel's history on its way."""

    name: str
    channel: Channel | None = None


class Watcher(Protocol):
    """Is told what becomes of streams by themselves."""

    def touched(self, channel: Channel) -> None:
        """A stream that lasts is there, or may have lost publications."""

    def gone(self, channel: Channel) -> None:
        """A stream is forgotten."""


class Streams:
    """All streams of one engine, and the answers to idempotency keys.

    ``quiet`` has the epochs of those without publications.
    """

    def __init__(self, notes: Notes | None, quiet: Quiet) -> None:
        self.watcher: Watcher | None = None
        self.quiet = quiet
        self.channels: dict[str, Channel] = {}
        self.answers: Table[bytes, StreamPosition | None] = Table(Kind.ANSWER, notes, ordered=True)
        self._recipients: dict[bytes, int] = {}
        self.planned: list[Channel] = []
        self._firsts: dict[bytes, Placing] = {}

    # --- Planning ----------------------------------------------------------------------------

    def plan(self, placing: Placing, now: float) -> None:
        """Find out what comes of a publish after all that is planned.

        Raises Overloaded for too many idempotency keys.
        """
        placing.now = now
        if placing.options.idempotency_key and not self._is_first(placing):
            return
        self._place(placing)

    def _is_first(self, placing: Placing) -> bool:
        """Tell whether nobody published with this idempotency key before."""
        key = _answer_key(placing.publication.channel, placing.options.idempotency_key)
        if self.answers.until(key) > placing.now:
            position = self.answers.get(key, placing.now)
            placing.answer = Published(position, self._recipients.get(key, 0), duplicate=True)
            return False
        placing.first = self._firsts.get(key)
        if placing.first is not None:
            return False
        if len(self.answers) + len(self._firsts) >= MAX_ANSWERS:
            raise Overloaded("too many idempotency keys")
        placing.key = key
        self._firsts[key] = placing
        return True

    def _place(self, placing: Placing) -> None:
        options = placing.options
        if not (options.history_size or options.version):
            return
        channel = placing.channel = self._touch(placing.publication.channel, placing.now)
        ahead = self._ahead(channel)
        if options.version:
            version, last = Version(options.version, options.version_epoch), ahead.version
            if version.epoch == last.epoch and version.number <= last.number:
                position = StreamPosition(ahead.top, channel.stream.epoch)
                place = position if options.history_size else None
                placing.answer = Published(place, 0, outdated=True)
                return
            ahead.version = version
        if options.history_size:
            ahead.top += 1
            ahead.floor = max(ahead.floor, ahead.top - options.history_size + 1)
            ahead.rows.append((ahead.top, placing.now + options.history_ttl, placing.packed))
            placing.publication = channel.stream.place(placing.publication, ahead.top)

    def plan_removal(self, removal: Removal) -> None:
        """Plan that a channel has no publications after all that is planned."""
        removal.channel = self.channels.get(removal.name)
        if removal.channel is not None:
            ahead = self._ahead(removal.channel)
            ahead.floor = ahead.top + 1
            ahead.rows.clear()

    def _ahead(self, channel: Channel) -> Ahead:
        if channel.ahead is None:
            channel.ahead = Ahead(channel.stream.top, channel.version)
            self.planned.append(channel)
        return channel.ahead

    def settle(self) -> None:
        """Forget what is planned: it was applied, or it will not be."""
        for channel in self.planned:
            channel.ahead = None
        self.planned.clear()
        self._firsts.clear()

    # --- Doing -------------------------------------------------------------------------------

    def apply(self, placing: Placing, announce: Announce) -> Published:
        """Do what was planned. A fault of ``announce`` comes after everything else is done."""
        if placing.first is not None and placing.first.answer is not None:
            return replace(placing.first.answer, duplicate=True)
        if placing.answer is not None:
            self._answered(placing)
            return placing.answer
        publication = placing.publication
        if placing.channel is not None:
            self._take(placing.channel, placing)
        placing.answer = Published(publication.position, 0)
        self._answered(placing)
        recipients = announce(publication)
        if recipients:
            placing.answer = Published(publication.position, recipients)
            if placing.key is not None:
                self._recipients[placing.key] = recipients
        return placing.answer

    def _take(self, channel: Channel, placing: Placing) -> None:
        options = placing.options
        end = placing.now + options.history_ttl
        channel.used_at = max(channel.used_at, end)
        if options.version:
            channel.version = Version(options.version, options.version_epoch)
        if options.history_size:
            channel.stream.append(placing.publication, options.history_size, end)

    def _answered(self, placing: Placing) -> None:
        if placing.key is not None and placing.answer is not None:
            end = placing.now + ANSWER_LIFE
            self.answers.restore(placing.key, placing.answer.position, end)

    def apply_removal(self, removal: Removal) -> None:
        """Do what was planned."""
        if removal.channel is not None:
            removal.channel.stream.clear()

    def clear(self, name: str) -> None:
        """Let go of a channel's publications, at once."""
        channel = self.channels.get(name)
        if channel is not None:
            channel.stream.clear()

    # --- Reading -----------------------------------------------------------------------------

    def since(
        self, name: str, position: StreamPosition | None, limit: int, now: float
    ) -> Recovered:
        """Give what came after a position: see `IEngine.since`."""
        channel = self._touch(name, now)
        return channel.stream.since(self._meant(channel, position, now), limit, now)

    def history(
        self, name: str, since: StreamPosition | None, limit: int, reverse: bool, now: float
    ) -> Recovered:
        """Give what is kept: see `IEngine.history`."""
        channel = self._touch(name, now)
        return channel.stream.history(self._meant(channel, since, now), limit, reverse, now)

    def _meant(
        self, channel: Channel, position: StreamPosition | None, now: float
    ) -> StreamPosition | None:
        """Give a position as its stream has it: the beginning has many names."""
        if position is not None and not position.offset and self.quiet.is_good(position.epoch, now):
            return StreamPosition(0, channel.stream.epoch)
        return position

    def _touch(self, name: str, now: float) -> Channel:
        channel = self.channels.get(name)
        if channel is None:
            stream = Stream(name, self.quiet.epoch(now))
            channel = self.channels[name] = Channel(name, stream, now)
        channel.used_at = max(channel.used_at, now)
        return channel

    # --- Time --------------------------------------------------------------------------------

    def expire(self, now: float, in_use: Callable[[str], bool]) -> Iterator[None]:
        """Let go of what is over its time; streams ``in_use`` keep their position.

        There may be very many: between two slices of them others can have their turn.
        """
        for key in self.answers.expire(now):
            self._recipients.pop(key, None)
        channels = list(self.channels.values())
        for start in range(0, len(channels), SLICE):
            if start:
                yield
            for channel in channels[start : start + SLICE]:
                self._expire(channel, now, in_use)

    def _expire(self, channel: Channel, now: float, in_use: Callable[[str], bool]) -> None:
        channel.stream.trim(now)
        if self.watcher is not None and self.lasts(channel, now):
            self.watcher.touched(channel)
        if self._is_over(channel, now) and not in_use(channel.name):
            del self.channels[channel.name]
            if self.watcher is not None:
                self.watcher.gone(channel)

    def lasts(self, channel: Channel, now: float) -> bool:
        """Tell whether a stream is kept when nobody uses it: its epoch does not say it all.

        Clients may make streams by asking for channels that nobody publishes into. Those go, unless
        they were in use for longer than an epoch is good.
        """
        has_been = channel.stream.top or channel.version.number
        return bool(has_been) or not self.quiet.is_good(channel.stream.epoch, now)

    def _is_over(self, channel: Channel, now: float) -> bool:
        """Tell whether nobody needs a stream to ask for its position any more."""
        if channel.ahead is not None:
            return False
        return channel.used_at + STREAM_LIFE <= now or not self.lasts(channel, now)

    def restore(self, channel: Channel, now: float) -> None:
        """Take in a stream of the time before a restart, and let its clients come back."""
        channel.used_at = max(channel.used_at, now - STREAM_LIFE + RESTART_LIFE)
        self.channels[channel.name] = channel


def _answer_key(channel: str, key: str) -> bytes:
    """Give what an idempotency key of a channel is known by: of one size, whatever its length."""
    text = f"{len(channel)} {channel} {key}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()
