"""The engine of one process: everything in memory. With a journal it goes on after a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_push.engines.added import AddedChannels
from twisted_push.engines.contents import ContentTokens
from twisted_push.engines.facts import Kind, Table
from twisted_push.engines.journal.journal import Journal
from twisted_push.engines.journal.records import Loaded
from twisted_push.engines.journal.saving import Saving
from twisted_push.engines.quiet import Quiet
from twisted_push.engines.rights import Rights
from twisted_push.engines.streams import Placing, Streams
from twisted_push.errors import EngineUnavailable, Overloaded
from twisted_push.interfaces import IEngine, IEngineEvents
from twisted_push.model import (
    ChannelOverlay,
    ClientInfo,
    ContentToken,
    Grant,
    PresenceList,
    Publication,
    Published,
    PublishOptions,
    Recovered,
    StreamPosition,
)
from twisted_push.presence import PresenceTable

__all__ = ["MemoryEngine"]

_T = TypeVar("_T")

SWEEP_INTERVAL = 30.0
"""Seconds between two looks for what is over its time."""


@implementer(IEngine)
class MemoryEngine:
    """Holds everything in memory, and in ``journal``, if there is one, what outlives a restart.

    Without a journal each Deferred that it gives has already fired. With one, what the CMS asks for
    is answered when it is written, and refused while it cannot be. What serves clients goes on: a
    new grant, a position or the use of a content token waits for the journal, but does not fail
    with it.
    """

    def __init__(self, clock: IReactorTime, journal: Journal | None = None) -> None:
        self._clock = clock
        self._journal = journal
        self._events: IEngineEvents | None = None
        self._subscribed: set[str] = set()
        self._presence = PresenceTable()
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock
        self._slice: IDelayedCall | None = None
        self._running = False
        self._empty(Quiet())

    def _empty(self, quiet: Quiet) -> None:
        """Begin with nothing."""
        journal = self._journal
        notes = journal.notes if journal is not None else None
        self._streams = Streams(notes, quiet)
        self._rights = Rights(notes)
        self._contents = ContentTokens(notes)
        self._added = AddedChannels(notes)
        self._saving: Saving | None = None
        if journal is not None:
            self._saving = Saving(self._streams, journal, self._announce, self._clock)
            self._streams.watcher = self._saving

    def start(self, events: IEngineEvents) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start(events))

    async def _start(self, events: IEngineEvents) -> None:
        self._running = True
        if self._journal is not None:
            loaded = await self._journal.open(self._clock, events.state)
            if not self._running:
                return
            self._empty(Quiet(loaded.life))
            self._restore(loaded)
            self._journal.begin([self._saving] if self._saving is not None else [])
        self._events = events
        self._sweeping.start(SWEEP_INTERVAL, now=False)

    def _restore(self, loaded: Loaded) -> None:
        """Take in what the journal has."""
        if self._saving is not None:
            self._saving.restore(loaded.streams)
        others = (self._contents.table, self._added.table, self._streams.answers)
        tables: dict[Kind, Table[Any, Any]] = {
            each.kind: each for each in (*self._rights.tables, *others)
        }
        for kind, key, value, until in loaded.facts:
            tables[kind].restore(key, value, until)
        self._rights.restored()
        self._contents.restored(self._clock.seconds())

    def stop(self) -> Deferred[None]:
        self._running = False
        self._events = None
        if self._sweeping.running:
            self._sweeping.stop()
        if self._slice is not None:
            self._slice.cancel()
            self._slice = None
        if self._journal is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._journal.close())

    # --- Channels ----------------------------------------------------------------------------

    def publish(self, publication: Publication, options: PublishOptions) -> Deferred[Published]:
        try:
            if self._saving is not None:
                return self._saving.publish(Placing(publication, options))
            if options.leaves_trace:
                return succeed(self._place(Placing(publication, options)))
            return succeed(Published(None, self._announce(publication)))
        except Exception:
            return fail()

    def _place(self, placing: Placing) -> Published:
        try:
            self._streams.plan(placing, self._clock.seconds())
            return self._streams.apply(placing, self._announce)
        finally:
            self._streams.settle()

    def _announce(self, publication: Publication) -> int:
        if self._events is None or publication.channel not in self._subscribed:
            return 0
        return self._events.publication_received(publication)

    def subscribe(self, channel: str) -> Deferred[None]:
        self._subscribed.add(channel)
        return succeed(None)

    def unsubscribe(self, channel: str) -> Deferred[None]:
        self._subscribed.discard(channel)
        return succeed(None)

    def since(
        self, channel: str, position: StreamPosition | None, limit: int
    ) -> Deferred[Recovered]:
        found = self._streams.since(channel, position, limit, self._clock.seconds())
        return self._stands(channel, found)

    def history(
        self, channel: str, since: StreamPosition | None, limit: int, reverse: bool
    ) -> Deferred[Recovered]:
        found = self._streams.history(channel, since, limit, reverse, self._clock.seconds())
        return self._stands(channel, found)

    def _stands(self, channel: str, found: Recovered) -> Deferred[Recovered]:
        """Give a position when it is one that a crash does not take back."""
        if self._saving is None or self._saving.knows(channel):
            return succeed(found)
        return self._noted_if_possible(found)

    def history_remove(self, channel: str) -> Deferred[None]:
        if self._saving is None:
            self._streams.clear(channel)
            return succeed(None)
        try:
            return self._saving.remove(channel)
        except EngineUnavailable as error:
            return fail(error)

    def presence_add(self, channel: str, info: ClientInfo) -> Deferred[None]:
        if self._presence.add(channel, info) and self._events is not None:
            self._events.joined(channel, info)
        return succeed(None)

    def presence_remove(self, channel: str, info: ClientInfo) -> Deferred[None]:
        gone = self._presence.remove(channel, info.client)
        if gone is not None and self._events is not None:
            self._events.left(channel, gone)
        return succeed(None)

    def presence(self, channel: str) -> Deferred[Mapping[str, ClientInfo]]:
        return succeed(self._presence.clients(channel))

    # --- Grants ------------------------------------------------------------------------------

    def grant_put(self, token: bytes | None, grant: Grant, until: float) -> Deferred[bool]:
        now = self._clock.seconds()
        known = self._rights.grant(token, now) if token is not None else None
        if not self._rights.keep(token, grant, until, now):
            return succeed(False)
        if token is None:
            return succeed(True)
        if known is not None and known.issued_at == grant.issued_at:
            return self._noted(True)  # The CMS changed it, and has to know that this holds.
        return self._noted_if_possible(True)  # Else it is asked again: nothing is lost.

    def grant_get(self, token: bytes) -> Deferred[Grant | None]:
        return succeed(self._rights.grant(token, self._clock.seconds()))

    def grant_valid(self, token: bytes | None, grant: Grant) -> Deferred[bool]:
        return succeed(self._rights.allows(token, grant, self._clock.seconds()))

    def grant_forget(self, user: str) -> Deferred[None]:
        self._rights.forget(user, self._clock.seconds())
        return self._noted(None)

    def revoke_token(self, token: bytes, until: float) -> Deferred[None]:
        self._rights.revoke_token(token, until)
        self._contents.forget(holder=token)
        return self._noted(None)

    def token_revoked(self, token: bytes) -> Deferred[bool]:
        return succeed(self._rights.revoked(token, self._clock.seconds()))

    def revoke_user(self, user: str, until: float) -> Deferred[None]:
        self._rights.revoke_user(user, until, self._clock.seconds())
        self._contents.forget(user=user)
        return self._noted(None)

    def overlay_set(self, user: str, channel: str, overlay: ChannelOverlay) -> Deferred[None]:
        self._rights.overlay(user, channel, overlay)
        return self._noted(None)

    def overlays(self, user: str) -> Deferred[Mapping[str, ChannelOverlay]]:
        return succeed(self._rights.overlays(user, self._clock.seconds()))

    def presence_list_set(self, user: str, listed: PresenceList) -> Deferred[None]:
        self._rights.list_presence(user, listed)
        return self._noted(None)

    def presence_list(self, user: str) -> Deferred[PresenceList | None]:
        return succeed(self._rights.presence_list(user, self._clock.seconds()))

    # --- Content tokens ----------------------------------------------------------------------

    def content_put(self, token: bytes, content: ContentToken, limit: int) -> Deferred[None]:
        try:
            self._contents.put(token, content, limit, self._clock.seconds())
        except Overloaded as error:
            return fail(error)
        return self._noted(None)

    def content_claim(
        self, token: bytes, channel: str, holder: bytes, user: str
    ) -> Deferred[ContentToken | None]:
        held = self._contents.claim(token, channel, holder, user, self._clock.seconds())
        return succeed(None) if held is None else self._noted_if_possible(held)

    def content_hand_over(self, token: bytes, holder: bytes, new: bytes) -> Deferred[None]:
        self._contents.hand_over(token, holder, new, self._clock.seconds())
        return self._noted_if_possible(None)

    def content_release(self, token: bytes, expires_at: float) -> Deferred[None]:
        self._contents.release(token, expires_at, self._clock.seconds())
        if self._journal is not None:
            self._journal.poke()  # After a restart it would have an end in any case.
        return succeed(None)

    def content_remove(self, token: bytes) -> Deferred[None]:
        self._contents.drop(token)
        return self._noted(None)

    def content_forget(
        self, channel: str, user: str | None, holder: bytes | None
    ) -> Deferred[None]:
        self._contents.forget(channel=channel, user=user, holder=holder)
        return self._noted(None)

    def content_known(self, channel: str) -> Deferred[bool]:
        return succeed(self._contents.known(channel, self._clock.seconds()))

    def content_channels(self) -> Deferred[int]:
        return succeed(self._contents.channels())

    # --- Channels that were added ------------------------------------------------------------

    def channel_add(self, channel: str, limit: int) -> Deferred[None]:
        self._added.add(channel, limit)
        return self._noted(None)

    def channel_added(self, channel: str) -> Deferred[bool]:
        return succeed(channel in self._added)

    def channel_remove(self, channel: str) -> Deferred[None]:
        self._added.remove(channel)
        return self._noted(None)

    # --- The journal, and time ---------------------------------------------------------------

    def _noted(self, answer: _T) -> Deferred[_T]:
        """Answer when what was changed is written; fail if it cannot be. It is in effect."""
        if self._journal is None:
            return succeed(answer)
        return self._journal.written().addCallback(lambda _: answer)

    def _noted_if_possible(self, answer: _T) -> Deferred[_T]:
        """Answer when what was changed is written, or cannot be written now."""
        if self._journal is None:
            return succeed(answer)
        written = self._journal.written()
        written.addErrback(_pass_over)
        return written.addCallback(lambda _: answer)

    def _sweep(self) -> None:
        if self._slice is not None:
            return  # It is still at it.
        now = self._clock.seconds()
        self._rights.expire(now)
        self._contents.expire(now)
        self._sweep_on(self._streams.expire(now, self._subscribed.__contains__))

    def _sweep_on(self, slices: Iterator[None]) -> None:
        self._slice = None
        for _ in slices:
            self._slice = self._clock.callLater(0, self._sweep_on, slices)
            return
        if self._journal is not None:
            self._journal.tidy()


def _pass_over(failure: Failure) -> None:
    """Let a journal that cannot be written be nobody's fault."""
    failure.trap(EngineUnavailable)
