"""The native dialect: commands of the client protocol become verbs of the node.

Sources: the client protocol's specification, sections 1 to 4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from msgspec import Struct
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from twisted_push.dialects.work import Work
from twisted_push.errors import (
    ERROR_MESSAGES,
    CmsUnavailable,
    Disconnect,
    EngineUnavailable,
    ProtocolError,
    Refused,
)
from twisted_push.model import ClientInfo, ConnectRequest, StreamPosition
from twisted_push.node.channels import Joined
from twisted_push.node.node import Connected, Node
from twisted_push.protocols.centrifugal import (
    CentrifugalCodec,
    Command,
    error_reply,
    read_commands,
    reply,
)
from twisted_push.protocols.centrifugal_shapes import (
    REJECT_UNRECOVERED,
    ChannelParams,
    ConnectParams,
    ConnectResult,
    HistoryParams,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublishParams,
    RefreshParams,
    RefreshResult,
    RpcParams,
    RpcResult,
    SubscribeParams,
    SubscribeResult,
    expiry,
    info_shape,
    publication_shape,
    raw,
    subscribe_result,
    text_of,
)
from twisted_push.session import Kind, Session, State, Subscription
from twisted_push.stats import OTHER_CODE

__all__ = ["CentrifugalDialect"]

_log = Logger()


class CentrifugalDialect:
    """Speaks for all clients of this dialect on one node. It keeps nothing itself."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._work = Work(node, self._command)
        self._handlers: dict[str, Callable[[Session, Command], Awaitable[None]]] = {
            "connect": self._connect,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "publish": self._publish,
            "presence": self._presence,
            "presence_stats": self._presence_stats,
            "history": self._history,
            "rpc": self._rpc,
            "send": self._send,
            "refresh": self._refresh,
            "sub_refresh": self._sub_refresh,
            "ping": self._ping,
        }

    # --- Reading -----------------------------------------------------------------------------

    def received(self, session: Session, payload: bytes) -> None:
        """Take one message of a client: its commands begin, or wait for those before them."""
        try:
            commands = read_commands(payload)
        except ProtocolError as error:
            self._node.finish(session, Disconnect(3501), f"bad request: {error}")
            return
        for command in commands:
            if session.closed or not self._node.allow(session):
                return
            if command.params is None:
                session.pong_due = None
            else:
                self._work.take(session, command, len(payload) // len(commands))
                self._show_a_sign(session, command)

    def _show_a_sign(self, session: Session, command: Command) -> None:
        """Have a client that waits for the CMS see that the transport lets something through."""
        waits = session.state is State.CONNECTING
        if waits and isinstance(command.params, ConnectParams) and command.params.early:
            session.deliver(session.codec.ping())

    def received_binary(self, session: Session) -> None:
        """Refuse what can only be the protobuf form of the protocol."""
        self._node.finish(session, Disconnect(3506), "a binary message")

    async def _command(self, session: Session, command: Command) -> None:
        """Carry out one command; every refusal becomes an answer here."""
        stats = self._node.context.stats
        stats.commands[command.method or "unknown"] += 1
        try:
            if session.state is State.NEW and command.method != "connect":
                raise Disconnect(3501, "connect first")
            if isinstance(command.params, Refused):
                raise command.params
            await self._handlers[command.method](session, command)
        except Refused as error:
            stats.command_errors[error.code if error.code in ERROR_MESSAGES else OTHER_CODE] += 1
            self._refuse(session, command, error)
        except Disconnect as disconnect:
            self._node.finish(session, disconnect, disconnect.text)
        except CmsUnavailable as error:  # Logged where the CMS was asked.
            self._come_back_later(session, command, error)
        except EngineUnavailable as error:
            stats.command_errors[100] += 1
            self._answer(session, error_reply(command, Refused(100)))
            self._node.context.engine_failed(error)
        except CancelledError:
            raise
        except Exception:
            _log.failure(
                "{site}: {method} failed", site=self._node.context.name, method=command.method
            )
            self._node.finish(session, Disconnect(3004))

    def _refuse(self, session: Session, command: Command, error: Refused) -> None:
        if command.method == "connect":
            self._node.log_refusal(session.transport.request, error.code, error.text)
        if command.id:
            self._answer(session, error_reply(command, error))

    def _come_back_later(self, session: Session, command: Command, error: CmsUnavailable) -> None:
        """Refuse a command for now; a client that cannot be let in is closed as well.

        Closed without the answer, client libraries blame the transport and try the next at once.
        """
        self._node.context.stats.command_errors[error.refusal.code] += 1
        self._answer(session, error_reply(command, error.refusal))
        if command.method == "connect":
            self._node.finish(session, error.ending)

    def _answer(self, session: Session, message: bytes) -> None:
        session.deliver(cast("CentrifugalCodec", session.codec).frame(message))

    def _answer_of(self, session: Session, channel: str, command: Command, result: Struct) -> None:
        """Answer with publications of a channel; with a refusal if it is taken away before."""
        frame = cast("CentrifugalCodec", session.codec).frame
        refusal = frame(error_reply(command, Refused(103)))
        session.deliver(frame(reply(command, result)), channel, refusal)

    # --- The connection ----------------------------------------------------------------------

    async def _connect(self, session: Session, command: Command) -> None:
        params = cast("ConnectParams", command.params)
        request = ConnectRequest(
            client=session.client,
            token=params.token,
            request=session.transport.request,
            name=params.name[:128],
            version=params.version[:128],
            data=text_of(params.data),
            channels=tuple(params.subs)[: self._node.context.policy.limits.max_channels_per_client],
        )
        since = {
            channel: StreamPosition(place.offset, place.epoch)
            for channel, place in params.subs.items()
            if place.recover
        }
        connected = await self._node.connect(session, request, since)
        result = self._connect_result(session, connected)
        of = frozenset(channel for channel, sub in result.subs.items() if sub.publications)
        frame = cast("CentrifugalCodec", session.codec).frame(reply(command, result))
        session.deliver(frame, of or None)
        self._node.online.tell_first(session)
        for joined in connected.joined:
            self._node.channels.go_live(session, joined.subscription)

    def _connect_result(self, session: Session, connected: Connected) -> ConnectResult:
        context = self._node.context
        now = context.clock.seconds()
        expires, ttl = expiry(connected.grant.expires_at, now)
        return ConnectResult(
            client=session.client,
            version=f"twisted_push {context.version}",
            subs={j.subscription.channel: _join_result(self._node, j) for j in connected.joined},
            data=raw(connected.grant.data),
            expires=expires and connected.grant.client_refresh,
            ttl=ttl if connected.grant.client_refresh else 0,
            ping=max(1, round(context.policy.limits.ping_interval)),
            pong=True,
            session=session.secret,
            node=context.uid,
            time=int(now * 1000),
        )

    async def _refresh(self, session: Session, command: Command) -> None:
        params = cast("RefreshParams", command.params)
        if not params.token:
            raise Refused(107, "bad request: refresh needs a token")
        request = ConnectRequest(
            client=session.client, token=params.token, request=session.transport.request
        )
        grant = await self._node.refresh(session, request)
        expires, ttl = expiry(grant.expires_at, self._node.context.clock.seconds())
        result = RefreshResult(
            client=session.client,
            version=f"twisted_push {self._node.context.version}",
            expires=expires,
            ttl=ttl,
        )
        self._answer(session, reply(command, result))

    async def _ping(self, session: Session, command: Command) -> None:
        self._answer(session, reply(command))

    # --- Calls -------------------------------------------------------------------------------

    async def _rpc(self, session: Session, command: Command) -> None:
        params = cast("RpcParams", command.params)
        answer = await self._node.arbiter.rpc(session, params.method, text_of(params.data))
        self._answer(session, reply(command, RpcResult(raw(answer))))

    async def _send(self, session: Session, command: Command) -> None:
        await self._node.arbiter.send(session, text_of(cast("RpcParams", command.params).data))

    # --- Channels ----------------------------------------------------------------------------

    async def _subscribe(self, session: Session, command: Command) -> None:
        params = cast("SubscribeParams", command.params)
        policy = self._node.context.policy
        policy.check_channel(params.channel)
        if params.channel in session.subscriptions:
            raise Refused(105)
        since = StreamPosition(params.offset, params.epoch) if params.recover else None
        joined = await self._join_by_content(session, params, since)
        if joined is None:
            joined = await self._join_by_rule(session, params, since)
        subscription = joined.subscription
        if params.flag & REJECT_UNRECOVERED and self._has_gap(joined):
            self._node.channels.leave(session, params.channel)
            raise Refused(112)
        result = _join_result(self._node, joined)
        if subscription.kind is Kind.CLIENT:  # The others are not the client's to renew.
            result.expires, result.ttl = expiry(
                subscription.expires_at, self._node.context.clock.seconds()
            )
        self._answer_of(session, params.channel, command, result)
        self._node.channels.go_live(session, subscription)
        if subscription.expires_at is not None:
            self._node.look_at(session)

    def _has_gap(self, joined: Joined) -> bool:
        """Tell whether something was lost that the channel's stream is there to recover."""
        namespace = self._node.context.policy.namespace(joined.subscription.channel)
        if joined.recovered is None or not (namespace.recover and joined.was_recovering):
            return False
        return namespace.recovery_mode == "stream" and not joined.recovered.complete

    async def _join_by_content(
        self, session: Session, params: SubscribeParams, since: StreamPosition | None
    ) -> Joined | None:
        """Join by a content token, whatever the namespace says; None if it is not a good one."""
        if not params.token or self._node.context.gate.signs(params.token):
            return None
        admitted = await self._node.content.admit(
            session, params.channel, params.token, since=since
        )
        if admitted is None:
            return None
        _, joined = admitted
        if joined is None:
            raise Refused(105)  # The CMS gave it meanwhile.
        return joined

    async def _join_by_rule(
        self, session: Session, params: SubscribeParams, since: StreamPosition | None
    ) -> Joined:
        """Join as the namespace of the channel has it."""
        how = self._node.context.policy.subscribes_by(params.channel)
        if how == "cms":
            return await self._node.arbiter.subscribe(
                session, params.channel, params.token, text_of(params.data), since
            )
        subscription = Subscription(params.channel, Kind.CLIENT)
        if how == "token":
            self._apply_token(session, subscription, params.token)
        return await self._node.channels.join(session, subscription, since)

    def _apply_token(self, session: Session, subscription: Subscription, token: str) -> None:
        """Take from a subscription token what it says. Raises Refused (103, 109)."""
        claims = self._node.context.gate.verify_subscription(token)
        if claims.channel != subscription.channel or claims.user != session.user:
            raise Refused(103)
        subscription.info = claims.info
        subscription.expires_at = claims.expires_at

    async def _sub_refresh(self, session: Session, command: Command) -> None:
        params = cast("RefreshParams", command.params)
        subscription = session.subscriptions.get(params.channel)
        if subscription is None or subscription.kind is not Kind.CLIENT:
            raise Refused(103)
        self._apply_token(session, subscription, params.token)
        self._node.look_at(session)
        expires, ttl = expiry(subscription.expires_at, self._node.context.clock.seconds())
        self._answer(session, reply(command, RefreshResult(expires=expires, ttl=ttl)))

    async def _unsubscribe(self, session: Session, command: Command) -> None:
        channel = cast("ChannelParams", command.params).channel
        self._node.context.policy.check_channel(channel)
        subscription = session.subscriptions.get(channel)
        if subscription is not None and subscription.kind is Kind.GRANTED:
            raise Refused(103)  # The CMS gave it, and the CMS takes it.
        self._node.channels.leave(session, channel)
        self._answer(session, reply(command))

    async def _publish(self, session: Session, command: Command) -> None:
        params = cast("PublishParams", command.params)
        policy = self._node.context.policy
        policy.check_channel(params.channel)
        subscribed = params.channel in session.subscriptions
        if policy.publishes_by(params.channel, subscribed=subscribed) == "cms":
            await self._node.arbiter.publish(session, params.channel, bytes(params.data))
        else:
            info = session.info(params.channel)
            await self._node.backend.publish(params.channel, bytes(params.data), info=info)
        self._answer(session, reply(command))

    async def _history(self, session: Session, command: Command) -> None:
        params = cast("HistoryParams", command.params)
        policy = self._node.context.policy
        policy.check_channel(params.channel)
        subscribed = params.channel in session.subscriptions
        policy.check_client_history(params.channel, subscribed=subscribed)
        most = policy.limits.recovery_max_publication_limit
        since = params.since
        found = await self._node.backend.history(
            params.channel,
            since=StreamPosition(since.offset, since.epoch) if since else None,
            limit=most if params.limit < 0 else min(params.limit, most),
            reverse=params.reverse,
        )
        if params.channel not in session.subscriptions:
            raise Refused(103)  # It was taken away meanwhile.
        shapes = [publication_shape(publication) for publication in found.publications]
        place = found.position
        result = HistoryResult(shapes, place.epoch, place.offset)
        self._answer_of(session, params.channel, command, result)

    async def _presence(self, session: Session, command: Command) -> None:
        channel, clients = await self._clients_of(session, command)
        shapes = {client: info_shape(info) for client, info in clients.items()}
        self._answer_of(session, channel, command, PresenceResult(shapes))

    async def _presence_stats(self, session: Session, command: Command) -> None:
        channel, clients = await self._clients_of(session, command)
        users = {info.user for info in clients.values()}
        result = PresenceStatsResult(len(clients), len(users))
        self._answer_of(session, channel, command, result)

    async def _clients_of(
        self, session: Session, command: Command
    ) -> tuple[str, Mapping[str, ClientInfo]]:
        channel = cast("ChannelParams", command.params).channel
        policy = self._node.context.policy
        policy.check_channel(channel)
        policy.check_client_presence(channel, subscribed=channel in session.subscriptions)
        clients = await self._node.backend.presence(channel)
        if channel not in session.subscriptions:
            raise Refused(103)  # It was taken away meanwhile.
        return channel, clients


def _join_result(node: Node, joined: Joined) -> SubscribeResult:
    subscription = joined.subscription
    recoverable = node.context.policy.namespace(subscription.channel).recover
    result = subscribe_result(subscription.position, subscription.data, recoverable)
    result.was_recovering = joined.was_recovering
    if joined.was_recovering and joined.recovered is not None:
        result.recovered = joined.recovered.complete
        result.publications = [publication_shape(p) for p in joined.recovered.publications]
    return result
