"""What the CMS may ask of its site.

Whoever calls has checked the key and its scope. Everything here raises Refused for what makes no
sense and EngineUnavailable for what could not be done.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any, cast

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, succeed
from twisted.python.failure import Failure

from twisted_push.cms.grants import token_digest
from twisted_push.errors import Disconnect, Refused
from twisted_push.model import (
    ChannelGrant,
    ChannelOverlay,
    ClientInfo,
    Publication,
    Published,
    PublishOptions,
    Recovered,
    StreamPosition,
)
from twisted_push.node.channels import Channels
from twisted_push.node.content import forget_tokens
from twisted_push.node.context import TOMBSTONE, Context
from twisted_push.node.mirrors import Mirrors
from twisted_push.node.targets import Target, clients_of
from twisted_push.session import Session, State, Subscription

__all__ = ["Backend", "NodeInfo"]


@frozen
class NodeInfo:
    """This node at a moment; ``uptime`` in seconds."""

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_channels: int
    uptime: int


class Backend:
    """The verbs of the CMS on one site. ``mirrors`` is where else its publications are shown."""

    def __init__(
        self,
        context: Context,
        channels: Channels,
        finish: Callable[[Session, Disconnect | None], None],
    ) -> None:
        self._context = context
        self._channels = channels
        self._finish = finish
        self.mirrors = Mirrors(context.name, context.stats)

    # --- Publications ------------------------------------------------------------------------

    def publish(
        self,
        channel: str,
        data: bytes,
        *,
        info: ClientInfo | None = None,
        tags: Mapping[str, str] | None = None,
        extra: Mapping[str, bytes] | None = None,
        exclude: str = "",
        skip_history: bool = False,
        idempotency_key: str = "",
        version: int = 0,
        version_epoch: str = "",
        shown: bool = False,
    ) -> Deferred[Published]:
        """Publish JSON text into a channel; ``info`` names the client that did.

        The Deferred fails with Refused for a name that is none, and as `IEngine.publish` does.

        ``tags``, ``extra``, ``exclude``: see `Publication`; what makes it one that was published
        before: see `PublishOptions`. ``shown``: it was published on another site, and is shown
        here (`Mirrors`).
        """
        policy = self._context.policy
        try:
            policy.check_channel(channel)
        except Refused:
            return fail()
        time = int(self._context.clock.seconds() * 1000)
        publication = Publication(
            channel, data, info=info, tags=tags, extra=extra, time=time, exclude=exclude
        )
        namespace = policy.namespace(channel)
        options = _plain_options(
            0 if skip_history else namespace.history_size, namespace.history_ttl
        )
        if idempotency_key or version:
            options = evolve(
                options,
                idempotency_key=idempotency_key,
                version=version,
                version_epoch=version_epoch,
            )
        publish, fan_out = self._context.engine.publish, self._channels.fan_out
        if fan_out.full:
            publishing = fan_out.room().addCallback(lambda _: publish(publication, options))
        else:
            publishing = publish(publication, options)
        if shown:
            return publishing
        return self.mirrors.follow(publishing, publication, skip_history=skip_history)

    def together(self) -> AbstractContextManager[None]:
        """Have what is published within go out to each client in one write, at the end."""
        return self._channels.fan_out.together()

    # --- History -----------------------------------------------------------------------------

    async def history(
        self, channel: str, *, since: StreamPosition | None, limit: int, reverse: bool
    ) -> Recovered:
        """Give what a channel keeps: see `IEngine.history`.

        Refused(108) where the namespace keeps none, Refused(112) if ``since`` leads nowhere.
        """
        self._check_history(channel)
        found = await self._context.engine.history(channel, since, limit, reverse)
        if not found.complete:
            raise Refused(112)
        return found

    async def history_remove(self, channel: str) -> None:
        """Let go of what a channel keeps. Refused(108) where the namespace keeps none."""
        self._check_history(channel)
        await self._context.engine.history_remove(channel)

    async def positions(self, channels: Iterable[str]) -> Mapping[str, StreamPosition]:
        """Give where channels stand, but for those that keep no history."""
        policy = self._context.policy
        names = list(dict.fromkeys(channels))
        for name in names:
            policy.check_channel(name)
        names = [name for name in names if policy.namespace(name).history_size]
        asking = [self._context.engine.since(name, None, 0) for name in names]
        found: list[Recovered] = await _all_of(asking)
        return {name: each.position for name, each in zip(names, found, strict=True)}

    def _check_history(self, channel: str) -> None:
        self._context.policy.check_channel(channel)
        self._context.policy.check_history(channel)

    # --- Channels of users -------------------------------------------------------------------

    async def subscribe(
        self,
        target: Target,
        channel: str,
        granted: ChannelGrant,
        since: StreamPosition | None = None,
    ) -> None:
        """Give a user, or one of its clients, a channel; a user keeps it across page changes."""
        self._context.policy.check_channel(channel)
        self._check_named(target)
        give = partial(self._give, target, channel, granted, since)
        await _noted(self._note(target, channel, granted), give)

    async def _give(
        self, target: Target, channel: str, granted: ChannelGrant, since: StreamPosition | None
    ) -> None:
        failed: Refused | None = None
        with ExitStack() as stack:
            wishing = self._channels.arrivals.wishing
            found = [
                (each, stack.enter_context(wishing(each, channel)))
                for each in clients_of(target, self._context.hub)
            ]
            for session, wish in found:
                given = Subscription.granted(channel, granted)
                try:
                    joined = await self._channels.join(session, given, since, wish)
                except Refused as error:
                    if error.code != 105 and not (session.closed or wish.taken):
                        failed = error  # Of this client; the others still get the channel.
                    continue
                self._channels.tell_subscribed(session, joined)
        if failed is not None:
            raise failed

    async def unsubscribe(self, target: Target, channel: str) -> None:
        """Take a channel from a user or one of its clients; nothing of it is delivered any more."""
        self._context.policy.check_channel(channel)
        self._check_named(target)
        take = partial(self._take, target, channel, self._context.clock.seconds())
        forgetting = forget_tokens(self._context, target, channel)
        await _noted(_all_of([self._note(target, channel, None), forgetting]), take)

    async def remove_channel(self, channel: str) -> None:
        """Take a channel from everybody who has it now; nothing of it is delivered any more."""
        take = partial(self._take, Target(), channel, self._context.clock.seconds())
        await _noted(forget_tokens(self._context, Target(), channel), take)

    async def _take(self, target: Target, channel: str, at: float) -> None:
        self._channels.arrivals.note(target, channel, math.inf if target.one else at)
        pace = self._context.share.pace()
        for session in clients_of(target, self._context.hub):
            self._channels.take(session, channel)
            await pace.keep()
        self._channels.presence.forget(target.means, channel)

    def _note(self, target: Target, channel: str, added: ChannelGrant | None) -> Deferred[None]:
        """Have the clients to come of a user or a token find a channel added, or taken (None)."""
        context = self._context
        if target.whole_user:
            until = context.until_forgotten()
            if added is not None and added.expires_at is not None:
                until = min(until, added.expires_at)
            overlay = ChannelOverlay(context.clock.seconds(), added, until)
            return context.engine.overlay_set(target.user, channel, overlay)
        if target.token:
            changing = context.gate.change_channel(target.token, channel, added)
            return Deferred.fromCoroutine(changing)
        return succeed(None)

    # --- Connections -------------------------------------------------------------------------

    async def disconnect(
        self, target: Target, disconnect: Disconnect, whitelist: Iterable[str] = ()
    ) -> None:
        """Close a user's connections, but for the clients in ``whitelist``: kick.

        What is kept of the CMS's answers for the user goes as well: the CMS is asked again.
        """
        self._check_named(target)
        target = evolve(target, spared=frozenset(whitelist))
        at = math.inf if target.one else self._context.clock.seconds()
        forgetting: Deferred[None] = succeed(None)
        if target.whole_user or target.anonymous:
            forgetting = self._context.engine.grant_forget(target.user)
        await _noted(forgetting, partial(self._send_away, target, disconnect, at))

    async def logout(self, *, token: str = "", user: str = "") -> None:
        """End a token, or all tokens of a user: close the connections, refuse from now on."""
        if bool(token) == bool(user):
            raise Refused(107, "bad request: give either token or user")
        now = self._context.clock.seconds()
        revoking = self._revoke_token(token, now) if token else self._revoke_user(user)
        target, at = Target(user=user, token=token), math.inf if token else now
        await _noted(revoking, partial(self._send_away, target, Disconnect(3500), at))

    def _revoke_token(self, token: str, now: float) -> Deferred[None]:
        end = self._context.gate.end_of(token) or now + TOMBSTONE
        return self._context.engine.revoke_token(token_digest(token), end)

    def _revoke_user(self, user: str) -> Deferred[None]:
        engine, until = self._context.engine, self._context.until_forgotten()
        here = self._context.hub.of_user(user)
        known = {each.token_digest for each in here if each.token_digest is not None}
        revoking = [engine.revoke_token(token, until) for token in known]
        revoking.append(engine.revoke_user(user, until))
        return _all_of(revoking)

    async def _send_away(self, target: Target, disconnect: Disconnect, at: float) -> None:
        """Close who is meant: who is here, and who is on the way by what was said up to ``at``."""
        self._channels.arrivals.note(target, disconnect, at)
        strangers = self._channels.arrivals.strangers_of(target)
        pace = self._context.share.pace()
        for session in (*clients_of(target, self._context.hub), *strangers):
            self._finish(session, disconnect)
            await pace.keep()
        if not disconnect.reconnect:
            self._channels.presence.forget(target.means)

    async def refresh(
        self, target: Target, *, expired: bool, expire_at: float | None, info: bytes | None
    ) -> None:
        """Change when a user's connections end, or what others learn of them."""
        self._check_named(target)
        for session in clients_of(target, self._context.hub):
            if expired:
                self._finish(session, Disconnect(3005))
                continue
            if info is not None:
                session.update_info(info)
                self._channels.presence.update(session)
            if expire_at is not None and session.grant is not None:
                session.grant = evolve(session.grant, expires_at=expire_at or None)
                session.owner.look_at(session)
                self._tell_expiry(session, expire_at)

    def _tell_expiry(self, session: Session, expire_at: float) -> None:
        if session.grant is not None and session.grant.client_refresh:
            ttl = max(1, int(expire_at - self._context.clock.seconds())) if expire_at else None
            session.deliver(session.codec.refreshed(ttl))

    # --- What there is -----------------------------------------------------------------------

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        """Give who is in a channel, by client. Refused(108) where the namespace keeps none."""
        self._context.policy.check_channel(channel)
        if not self._context.policy.namespace(channel).presence:
            raise Refused(108)
        return await self._context.engine.presence(channel)

    def channels(self, pattern: str = "") -> Mapping[str, int]:
        """Give the channels that somebody receives, with the number of clients.

        ``pattern`` is a glob; empty fits every channel.
        """
        counts = self._context.hub.counts()
        if not pattern:
            return counts
        return {name: count for name, count in counts.items() if fnmatchcase(name, pattern)}

    def connections(self, *, user: str | None, channel: str | None) -> list[Session]:
        """Give the connected clients: all, those of a user, those of a channel, or of both."""
        hub = self._context.hub
        if user is not None:
            found: Iterable[Session] = hub.of_user(user)
        elif channel is not None:
            found = hub.of_channel(channel)
        else:
            found = hub.clients.values()
        return [
            session
            for session in found
            if session.state is State.CONNECTED
            and (channel is None or channel in session.subscriptions)
        ]

    async def knows_token(self, token: str) -> bool:
        """Tell whether a client is here by a token, or the CMS's answer for it is kept."""
        digest = token_digest(token)
        if self._context.hub.of_token(digest):
            return True
        return await self._context.engine.grant_get(digest) is not None

    def users(self) -> Mapping[str, int]:
        """Give the users who are here, with the number of their clients; "" for anonymous."""
        return {user: len(sessions) for user, sessions in self._context.hub.users.items()}

    def info(self) -> NodeInfo:
        """Give this node's figures."""
        context = self._context
        return NodeInfo(
            uid=context.uid,
            name=f"{socket.gethostname()}/{context.name}",
            version=context.version,
            num_clients=len(context.hub.clients),
            num_users=len(context.hub.users),
            num_channels=len(context.hub.channels),
            uptime=int(context.clock.seconds() - context.started_at),
        )

    def _check_named(self, target: Target) -> None:
        if not target.named:
            raise Refused(107, "bad request: give user, client or session")


@lru_cache
def _plain_options(history_size: int, history_ttl: float) -> PublishOptions:
    """Give the options of what is not published twice, which are nearly always the same."""
    return PublishOptions(history_size, history_ttl)


async def _noted(
    noting: Deferred[Any], do: Callable[[], Coroutine[Deferred[Any], Any, None]]
) -> None:
    """Do here what the engine takes note of: at once, and for those who come meanwhile.

    Raises what the engine fails with: that it cannot keep it changes nothing for those who are
    here, but the caller has to know.
    """
    waits = not noting.called
    await do()
    try:
        await noting
    finally:
        if waits:
            await do()


def _all_of(doing: Sequence[Deferred[Any]]) -> Deferred[Any]:
    """Give a Deferred with the results of all, or with the fault of the first that failed."""

    def first_cause(failure: Failure) -> Failure:
        failure.trap(FirstError)
        return cast("FirstError", failure.value).subFailure

    return gatherResults(doing, consumeErrors=True).addErrback(first_cause)
