"""Publications on their way through the journal: numbered, written, and only then applied.

So no client ever sees an offset that a crash takes back. What waits is written by the batch; one
batch is on its way at a time, and its publications are applied in their order when it is on disk.
With the durability ``none`` they are applied at once, and written when there is time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_push.engines.facts import Kind
from twisted_push.engines.journal.journal import Journal
from twisted_push.engines.journal.records import (
    Batch,
    LoadedStream,
    StreamRow,
    StreamWrite,
    fact_key,
    stream_body,
)
from twisted_push.engines.streams import (
    ANSWER_LIFE,
    Announce,
    Channel,
    Placing,
    Removal,
    Streams,
    Version,
)
from twisted_push.errors import EngineUnavailable, OutcomeUnknown, Overloaded
from twisted_push.history import Kept, Stream, pack
from twisted_push.model import Published

__all__ = ["MAX_WAITING", "MAX_WAITING_BYTES", "Saving"]

MAX_WAITING = 10_000
"""Most publishes that wait for the disk."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Most bytes of their data."""

BATCH_SIZE = 512
"""Most publishes of one batch: they are applied in one turn of the reactor."""

BATCH_BYTES = 4 * 1024 * 1024
"""Most bytes of their data, unless a single one has more."""

HOUSEKEEPING = 1_000
"""Most old publications that one batch takes out: publishes may be waiting behind it."""

STREAM_NUMBERS = 2**23
"""How many numbers there are for streams in the file: see `store`."""


@define(eq=False)
class _Saved:
    """What of a stream is in the file, under which number.

    Publications from ``low`` to ``top``, unless ``low`` is greater. ``unsure``: there may be others
    above, of a batch whose outcome is not known. ``row`` is whether the stream's own row has to be
    written. ``written``: it is in the file at all.
    """

    number: int
    low: int = 1
    top: int = 0
    unsure: bool = False
    row: bool = True
    written: bool = False


@define(eq=False)
class _Waiting:
    """A publish or a removal that waits for the disk, and how many bytes it holds.

    ``asked`` is who waits for it, None once that is answered.
    """

    what: Placing | Removal
    size: int = 0
    fault: Failure | None = None
    asked: Deferred[Any] | None = None

    @property
    def name(self) -> str:
        return self.what.publication.channel if isinstance(self.what, Placing) else self.what.name

    @property
    def leaves_trace(self) -> bool:
        return isinstance(self.what, Removal) or self.what.options.leaves_trace

    def answer(self, found: object) -> None:
        """Answer, unless that is done; a Failure makes it fail."""
        asked, self.asked = self.asked, None
        if asked is not None:
            asked.callback(found)


@define(eq=False)
class _Taken:
    """One stream's part of a batch, and where it stands when that is written."""

    channel: Channel
    saved: _Saved
    write: StreamWrite
    top: int


class Saving:
    """Writes down the streams of one engine, through its journal."""

    def __init__(
        self, streams: Streams, journal: Journal, announce: Announce, clock: IReactorTime
    ) -> None:
        self._streams = streams
        self._journal = journal
        self._announce = announce
        self._clock = clock
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._in_channel: Counter[str] = Counter()
        self._dirty: dict[Channel, None] = {}
        self._gone: dict[int, None] = {}
        self._numbers: set[int] = set()
        self._next_number = 1
        self._taken: list[_Waiting] = []
        self._taken_channels: list[_Taken] = []
        self._taken_gone: list[int] = []

    # --- What comes in -----------------------------------------------------------------------

    def publish(self, placing: Placing) -> Deferred[Published]:
        """Write a publication, then apply it; one that leaves no trace only keeps its turn."""
        if not placing.options.leaves_trace:
            if not self._in_channel[placing.publication.channel]:
                return succeed(Published(None, self._announce(placing.publication)))
        else:
            self._journal.check()
            placing.packed = pack(placing.publication)
            # What cannot be written is this publish's fault alone, not that of a whole batch.
            fact_key(Kind.ANSWER, (placing.options.version, placing.options.version_epoch))
        if not self._journal.waits:
            return succeed(self._publish_now(placing))
        return self._wait(_Waiting(placing, len(placing.publication.data)))

    def knows(self, name: str) -> bool:
        """Tell whether no crash takes a channel's epoch back."""
        channel = self._streams.channels.get(name)
        if channel is None or not self._streams.lasts(channel, self._clock.seconds()):
            return True
        return isinstance(channel.saved, _Saved) and channel.saved.written

    def _publish_now(self, placing: Placing) -> Published:
        self._streams.plan(placing, self._clock.seconds())
        version = placing.channel.version if placing.channel is not None else None
        answer = self._streams.apply(placing, self._announce)
        self._streams.settle()
        if placing.channel is not None:
            if placing.channel.version != version:
                self._saved(placing.channel).row = True
            self._dirty[placing.channel] = None
        if placing.key is not None:
            end = placing.now + ANSWER_LIFE
            self._journal.notes.put(Kind.ANSWER, placing.key, answer.position, end)
        self._journal.poke()
        return answer

    def remove(self, name: str) -> Deferred[None]:
        """Take out a channel's publications, in its turn."""
        if self._journal.waits:
            self._journal.check()
            return self._wait(_Waiting(Removal(name)))
        self._streams.clear(name)
        if name in self._streams.channels:
            self.touched(self._streams.channels[name])
            self._journal.poke()
        return succeed(None)

    def _wait(self, waiting: _Waiting) -> Deferred[Any]:
        if len(self._queue) >= MAX_WAITING or self._bytes + waiting.size > MAX_WAITING_BYTES:
            return fail(Overloaded("too many publications wait for the disk"))
        asked = waiting.asked = Deferred()
        self._queue.append(waiting)
        self._bytes += waiting.size
        self._in_channel[waiting.name] += 1
        self._journal.poke()
        return asked

    # --- Streams by themselves (`Watcher`) ---------------------------------------------------

    def touched(self, channel: Channel) -> None:
        saved = channel.saved
        if not isinstance(saved, _Saved):
            self._dirty[channel] = None
        elif saved.low < channel.stream.first and saved.low <= saved.top:
            saved.row = True
            self._dirty[channel] = None

    def gone(self, channel: Channel) -> None:
        self._dirty.pop(channel, None)
        if isinstance(channel.saved, _Saved):
            self._gone[channel.saved.number] = None

    # --- The batch (`Contributor`) -----------------------------------------------------------

    @property
    def waiting(self) -> bool:
        return bool(self._queue or self._dirty or self._gone)

    def take(self, batch: Batch) -> None:
        self._plan(batch)
        for channel in self._streams.planned:
            self._take(channel, batch, 0)
        budget = HOUSEKEEPING
        for channel in list(islice(self._dirty, BATCH_SIZE)):
            if budget > 0:
                budget -= self._take(channel, batch, budget)
        self._taken_gone = list(islice(self._gone, BATCH_SIZE))
        for number in self._taken_gone:
            del self._gone[number]
        batch.gone += self._taken_gone

    def _plan(self, batch: Batch) -> None:
        now, size = self._clock.seconds(), 0
        while self._queue and len(self._taken) < BATCH_SIZE and size < BATCH_BYTES:
            waiting = self._queue.popleft()
            self._taken.append(waiting)
            size += waiting.size
            if isinstance(waiting.what, Removal):
                self._streams.plan_removal(waiting.what)
                continue
            try:
                self._streams.plan(waiting.what, now)
            except Overloaded:
                waiting.fault = Failure()
                continue
            self._note_answer(waiting.what, batch)

    def _note_answer(self, placing: Placing, batch: Batch) -> None:
        if placing.key is None:
            return
        placed = placing.answer or placing.publication
        end = placing.now + ANSWER_LIFE
        self._journal.notes.plan(batch, Kind.ANSWER, placing.key, placed.position, end)

    def _take(self, channel: Channel, batch: Batch, budget: int) -> int:
        """Add what of a stream is to be written; give how many old publications that takes out.

        All old ones go where more are planned, at most ``budget`` where not.
        """
        self._dirty.pop(channel, None)
        saved, stream, ahead = self._saved(channel), channel.stream, channel.ahead
        start = 0 if saved.unsure else saved.top
        rows = [(offset, until, _packed(kept)) for offset, until, kept in stream.after(start)]
        top, floor, version = stream.top, stream.first, channel.version
        if ahead is not None:
            top, floor, version = ahead.top, max(floor, ahead.floor), ahead.version
            rows = [row for row in (*rows, *ahead.rows) if row[0] >= floor]
        # Between what stays in the file and what comes there must be no gap.
        at_once = ahead is not None or (rows and rows[0][0] > saved.top + 1)
        below = floor if at_once else min(floor, saved.low + budget)
        old = max(0, min(below, saved.top + 1) - saved.low)
        # The last publication tells the top, if there is one.
        silent = not rows and (top != saved.top or below > saved.top)
        row = None
        if saved.row or saved.unsure or silent or version != channel.version:
            found = (channel.name, stream.epoch, top, channel.used_at)
            row = stream_body(saved.number, StreamRow(*found, version.number, version.epoch))
        above = 0 if saved.unsure else None
        write = StreamWrite(saved.number, row, below if old else 0, above, rows)
        saved.row = False
        self._taken_channels.append(_Taken(channel, saved, write, top))
        if row or rows or old or above is not None:
            batch.streams.append(write)
        return old

    def done(self) -> None:
        written, self._taken_channels = self._taken_channels, []
        for taken in written:
            _written(taken)
        self._numbers.difference_update(self._taken_gone)
        self._taken_gone = []
        finished, self._taken = self._taken, []
        for waiting in finished:
            self._finish(waiting)
        self._streams.settle()
        for taken in written:  # Old ones may be left, or have become old meanwhile.
            if self._streams.channels.get(taken.channel.name) is taken.channel:
                self.touched(taken.channel)

    def _finish(self, waiting: _Waiting) -> None:
        """Apply what was planned, and answer."""
        self._leave(waiting)
        if waiting.fault is not None:
            waiting.answer(waiting.fault)
            return
        try:
            if isinstance(waiting.what, Removal):
                self._streams.apply_removal(waiting.what)
                answer = None
            else:
                answer = self._streams.apply(waiting.what, self._announce)
        except Exception:
            waiting.answer(Failure())
        else:
            waiting.answer(answer)

    def failed(self, error: EngineUnavailable) -> None:
        unknown = isinstance(error, OutcomeUnknown)
        for taken in self._taken_channels:
            taken.saved.row = taken.saved.row or taken.write.row is not None
            taken.saved.unsure = taken.saved.unsure or unknown
            if self._streams.channels.get(taken.channel.name) is taken.channel:
                self._dirty[taken.channel] = None
        self._taken_channels.clear()
        self._gone.update(dict.fromkeys(self._taken_gone))
        self._taken_gone = []
        self._streams.settle()
        finished = [*self._taken, *self._queue]
        self._taken = []
        self._queue.clear()
        for waiting in finished:
            self._give_up(waiting, error)

    def _give_up(self, waiting: _Waiting, error: EngineUnavailable) -> None:
        """Refuse what cannot be written; what leaves no trace goes out."""
        if not waiting.leaves_trace:
            self._finish(waiting)
            return
        self._leave(waiting)
        if isinstance(waiting.what, Placing) and waiting.what.key is not None:
            self._journal.notes.drop(Kind.ANSWER, waiting.what.key)
        waiting.answer(Failure(type(error)(*error.args)))

    def late(self, error: OutcomeUnknown) -> None:
        queue, taken = list(self._queue), self._taken
        self._queue.clear()
        self._taken = [waiting for waiting in taken if waiting.leaves_trace]
        for waiting in taken:
            if waiting.leaves_trace:
                waiting.answer(Failure(OutcomeUnknown(*error.args)))
            else:
                self._finish(waiting)
        for waiting in queue:
            self._give_up(waiting, Overloaded(*error.args))

    def _leave(self, waiting: _Waiting) -> None:
        self._bytes -= waiting.size
        self._in_channel[waiting.name] -= 1
        if not self._in_channel[waiting.name]:
            del self._in_channel[waiting.name]

    # --- Numbers -----------------------------------------------------------------------------

    def _saved(self, channel: Channel) -> _Saved:
        if not isinstance(channel.saved, _Saved):
            while self._next_number in self._numbers:
                self._next_number = self._next_number % STREAM_NUMBERS + 1
            self._numbers.add(self._next_number)
            channel.saved = _Saved(self._next_number)
        return channel.saved

    def restore(self, loaded: Iterable[LoadedStream]) -> None:
        """Take in the streams of the time before a restart, those with lower numbers first."""
        now = self._clock.seconds()
        for each in loaded:
            row = each.row
            older = self._streams.channels.get(row.channel)
            if older is not None:  # It was forgotten, and that was not written any more.
                self.gone(older)
            stream = Stream(row.channel, row.epoch, each.top, each.kept)
            used_at = max(row.used_at, each.kept[-1][0] if each.kept else 0.0)
            channel = Channel(row.channel, stream, used_at, Version(row.version, row.version_epoch))
            channel.saved = _Saved(each.number, stream.first, each.top, row=False, written=True)
            self._numbers.add(each.number)
            self._streams.restore(channel, now)
        self._next_number = max(self._numbers, default=0) % STREAM_NUMBERS + 1


def _packed(kept: Kept) -> bytes:
    return kept if isinstance(kept, bytes) else pack(kept)


def _written(taken: _Taken) -> None:
    """Take notice of what is in the file now."""
    saved, write = taken.saved, taken.write
    low = saved.top + 1 if saved.unsure else max(saved.low, write.below)
    if low > saved.top:
        low = write.publications[0][0] if write.publications else taken.top + 1
    saved.low, saved.top, saved.unsure, saved.written = low, taken.top, False, True
