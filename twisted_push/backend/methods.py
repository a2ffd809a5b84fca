"""The methods of the HTTP API: each takes its request and gives its result."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
from attrs import asdict, field, frozen
from msgspec import Raw
from twisted.internet.defer import Deferred, ensureDeferred, succeed

from twisted_push.backend import people, requests
from twisted_push.backend.groups import TOGETHER, Begun, Result, as_it_is, in_groups
from twisted_push.errors import Disconnect, Refused
from twisted_push.jsontext import JsonError, decoder
from twisted_push.model import (
    ChannelGrant,
    ClientInfo,
    Published,
    ServiceKey,
    StreamPosition,
)
from twisted_push.node.node import Node
from twisted_push.node.targets import Target
from twisted_push.protocols.centrifugal_shapes import publication_shape
from twisted_push.session import Session

__all__ = ["MAX_ITEMS", "Method", "Methods"]

MAX_ITEMS = 10_000
"""Most channels of a broadcast, and most commands of a batch."""

MAX_POSITIONS = 1_000
"""Most channels whose positions are asked for at once."""


@frozen
class Method:
    """One method: the scope that a key needs, its request, what it does, and how that is told.

    ``read_part`` reads a part of a text that was checked as a whole.
    """

    scope: str
    request: type
    run: Callable[[Node, Any], Deferred[Any] | Coroutine[Deferred[Any], Any, Any]]
    tell: Callable[[Any], Result] = as_it_is
    read: Callable[[bytes], Any] = field(init=False)
    read_part: Callable[[bytes], Any] = field(init=False)

    @read.default
    def _reader(self) -> Callable[[bytes], Any]:
        return decoder(self.request)

    @read_part.default
    def _reader_of_parts(self) -> Callable[[bytes], Any]:
        return decoder(self.request, part=True)


_Group = tuple[Callable[[Any], Begun], Iterable[Any], int]
"""How each of some commands is begun, these, and how many at a time."""


class Methods:
    """All methods, by name, on all of these sites."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = {node.context.name: node for node in nodes}
        self._methods: Mapping[str, Method] = {
            "publish": Method("publish", requests.Publish, _publish, _published),
            "broadcast": Method("publish", requests.Broadcast, _broadcast),
            "subscribe": Method("manage", requests.Subscribe, _subscribe),
            "unsubscribe": Method("manage", requests.Unsubscribe, _unsubscribe),
            "disconnect": Method("manage", requests.Disconnect, _disconnect),
            "refresh": Method("manage", requests.Refresh, _refresh),
            "logout": Method("manage", requests.Logout, _logout),
            "history": Method("read", requests.History, _history),
            "history_remove": Method("manage", requests.ChannelRequest, _history_remove),
            "position": Method("read", requests.Positions, _position),
            "presence": Method("read", requests.ChannelRequest, _presence),
            "presence_stats": Method("read", requests.ChannelRequest, _presence_stats),
            "channels": Method("read", requests.Channels, _channels),
            "connections": Method("read", requests.Connections, _connections),
            "content_token": Method("manage", requests.ContentToken, people.content_token),
            "content_token_remove": Method(
                "manage", requests.ContentTokenRemove, people.content_token_remove
            ),
            "content_users": Method("read", requests.ChannelRequest, people.content_users),
            "online": Method("read", requests.Online, people.online),
            "presence_list": Method("manage", requests.PresenceList, people.presence_list),
            "presence_hook": Method("manage", requests.PresenceHook, people.presence_hook),
            "users": Method("read", requests.Nothing, _users),
            "info": Method("read", requests.Nothing, _info),
        }
        self._read_nothing: Callable[[bytes], requests.Nothing] = decoder(requests.Nothing)
        self._read_batch: Callable[[bytes], requests.Batch] = decoder(requests.Batch)
        self._read_publishes: Callable[[bytes], requests.Publishes] = decoder(requests.Publishes)

    @property
    def names(self) -> tuple[str, ...]:
        """Every method's name."""
        return (*self._methods, "sites", "batch")

    async def run(
        self, home: Node, key: ServiceKey, name: str, body: bytes, *, site: str = ""
    ) -> Result:
        """Carry out one method, for a key of the site ``home``.

        It is done on the site that the request names, else on ``site``, else at home. Raises
        JsonError (the request), Refused and EngineUnavailable.
        """
        if name == "batch":
            return await self._batch(home, key, body)
        doing, tell = self._begin(home, key, name, body, site)
        return tell(await doing)

    def _begin(
        self, home: Node, key: ServiceKey, name: str, body: bytes, site: str, *, part: bool = False
    ) -> Begun:
        if name == "sites":
            self._read_nothing(body)
            return succeed(self._sites(home, key)), as_it_is
        method = self._methods.get(name)
        if method is None:
            raise Refused(104)
        home.context.policy.check_scope(key, method.scope)
        request = method.read_part(body) if part else method.read(body)
        node = self._node(home, key, request.site or site)
        return ensureDeferred(method.run(node, request)), method.tell

    def _node(self, home: Node, key: ServiceKey, site: str) -> Node:
        """Give a site on which a key has rights. Raises Refused (103, 107)."""
        if site in ("", home.context.name):
            return home
        home.context.policy.check_site(key, site)
        node = self._nodes.get(site)
        if node is None:  # Only a key with rights everywhere gets here.
            raise Refused(107, "bad request: there is no such site")
        return node

    def _sites(self, home: Node, key: ServiceKey) -> Result:
        """Give the figures of all sites on which a key has rights."""
        home.context.policy.check_scope(key, "read")
        names = [home.context.name, *self._nodes]
        if "*" not in key.sites:
            names = [home.context.name, *(name for name in self._nodes if name in key.sites)]
        nodes = [self._node(home, key, name) for name in dict.fromkeys(names)]
        return {"sites": {node.context.name: asdict(node.backend.info()) for node in nodes}}

    async def _batch(self, node: Node, key: ServiceKey, body: bytes) -> Result:
        """Carry out commands in their order; one that fails fails alone.

        Publishes that follow one another are begun together, and the engine keeps their order.
        """
        replies: list[Result] = []
        pace = node.context.share.pace()
        for begin, commands, most in self._groups(node, key, body):
            replies += await in_groups(begin, commands, most, pace, node.backend.together)
        return {"replies": replies}

    def _groups(self, node: Node, key: ServiceKey, body: bytes) -> Iterator[_Group]:
        """Give the commands of a batch, in groups of which so many are begun together."""
        try:
            publishes = self._read_publishes(body)
        except JsonError:  # There are others, or there is a fault, which is that of one alone.
            batch = self._read_batch(body)
            _check_count(batch.commands)
            begin = partial(self._begin_one, node, key, batch.site)
            for publish, items in groupby(batch.commands, lambda item: item.keys() == {"publish"}):
                yield begin, items, TOGETHER if publish else 1
        else:
            _check_count(publishes.commands)
            yield (
                partial(self._begin_publish, node, key, publishes.site),
                publishes.commands,
                TOGETHER,
            )

    def _begin_publish(
        self, home: Node, key: ServiceKey, site: str, command: requests.PublishCommand
    ) -> Begun:
        home.context.policy.check_scope(key, "publish")
        request = command.publish
        node = self._node(home, key, request.site or site)
        return _publish(node, request), _publish_replied

    def _begin_one(self, node: Node, key: ServiceKey, site: str, item: Mapping[str, Raw]) -> Begun:
        if len(item) != 1:
            raise Refused(107, "bad request: a command has exactly one method")
        [(name, body)] = item.items()
        if name == "batch":
            raise Refused(107, "bad request: a batch in a batch")
        doing, tell = self._begin(node, key, name, bytes(body), site, part=True)
        return doing, lambda result: {name: tell(result)}


def _check_count(commands: Sequence[object]) -> None:
    if len(commands) > MAX_ITEMS:
        raise Refused(106, f"limit exceeded: a batch has at most {MAX_ITEMS} commands")


def _text(given: Raw) -> bytes | None:
    """Give the JSON text of a field; None where it is missing or null."""
    text = bytes(given)
    return None if text in (b"", b"null") else text


def _target(request: Any) -> Target:
    return Target(request.user, request.client, request.session)


def _check(request: requests.PublishOptions) -> None:
    """Refuse what would be promised but not kept."""
    if request.delta:
        raise Refused(108, "not available: delta is not supported")
    if request.version_epoch and not request.version:
        raise Refused(107, "bad request: version_epoch needs a version")


def _publish_into(
    node: Node, channel: str, request: requests.Publish | requests.Broadcast
) -> Deferred[Published]:
    return node.backend.publish(
        channel,
        bytes(request.data),
        tags=request.tags,
        skip_history=request.skip_history,
        idempotency_key=request.idempotency_key or "",
        version=request.version or 0,
        version_epoch=request.version_epoch or "",
    )


def _published(published: Published) -> Result:
    place = _place(published.position) if published.position else {}
    again = {"duplicate": True} if published.duplicate else {}
    return {**place, "recipients": published.recipients, **again}


def _publish_replied(published: Published) -> Result:
    return {"publish": _published(published)}


def _place(position: StreamPosition) -> Result:
    return {"offset": position.offset, "epoch": position.epoch}


def _position_of(since: requests.Since | None) -> StreamPosition | None:
    return StreamPosition(since.offset, since.epoch) if since else None


def _publish(node: Node, request: requests.Publish) -> Deferred[Published]:
    _check(request)
    return _publish_into(node, request.channel, request)


async def _broadcast(node: Node, request: requests.Broadcast) -> Result:
    _check(request)
    if len(request.channels) > MAX_ITEMS:
        raise Refused(106, f"limit exceeded: a broadcast has at most {MAX_ITEMS} channels")

    def begin(channel: str) -> Begun:
        publishing = _publish_into(node, channel, request)
        return publishing, lambda published: {"result": _published(published)}

    pace, together = node.context.share.pace(), node.backend.together
    return {"responses": await in_groups(begin, request.channels, TOGETHER, pace, together)}


async def _history(node: Node, request: requests.History) -> Result:
    found = await node.backend.history(
        request.channel,
        since=_position_of(request.since),
        limit=request.limit,
        reverse=request.reverse,
    )
    shapes = [publication_shape(publication) for publication in found.publications]
    return {"publications": shapes, **_place(found.position)}


async def _history_remove(node: Node, request: requests.ChannelRequest) -> Result:
    await node.backend.history_remove(request.channel)
    return {}


async def _position(node: Node, request: requests.Positions) -> Result:
    if len(request.channels) > MAX_POSITIONS:
        raise Refused(106, f"limit exceeded: at most {MAX_POSITIONS} channels")
    found = await node.backend.positions(request.channels)
    return {"positions": {channel: _place(position) for channel, position in found.items()}}


async def _subscribe(node: Node, request: requests.Subscribe) -> Result:
    await node.backend.subscribe(
        _target(request),
        request.channel,
        ChannelGrant(
            _text(request.info),
            _text(request.data),
            float(request.expire_at) if request.expire_at else None,
        ),
        _position_of(request.recover_since),
    )
    return {}


async def _unsubscribe(node: Node, request: requests.Unsubscribe) -> Result:
    await node.backend.unsubscribe(_target(request), request.channel)
    return {}


async def _disconnect(node: Node, request: requests.Disconnect) -> Result:
    wanted = request.disconnect
    disconnect = Disconnect(3503) if wanted is None else Disconnect(wanted.code, wanted.reason)
    if not 3000 <= disconnect.code <= 4999:
        raise Refused(107, "bad request: a close code is between 3000 and 4999")
    await node.backend.disconnect(_target(request), disconnect, request.whitelist or ())
    return {}


async def _refresh(node: Node, request: requests.Refresh) -> Result:
    await node.backend.refresh(
        _target(request),
        expired=request.expired,
        expire_at=None if request.expire_at is None else float(request.expire_at),
        info=_text(request.info),
    )
    return {}


async def _logout(node: Node, request: requests.Logout) -> Result:
    await node.backend.logout(token=request.token, user=request.user)
    return {}


def _client(info: ClientInfo) -> Result:
    extra = {"conn_info": info.conn_info, "chan_info": info.chan_info}
    texts = {name: msgspec.Raw(text) for name, text in extra.items() if text is not None}
    return {"user": info.user, "client": info.client, **texts}


async def _presence(node: Node, request: requests.ChannelRequest) -> Result:
    clients = await node.backend.presence(request.channel)
    return {"presence": {client: _client(info) for client, info in clients.items()}}


async def _presence_stats(node: Node, request: requests.ChannelRequest) -> Result:
    clients = await node.backend.presence(request.channel)
    users = {info.user for info in clients.values()}
    return {"num_clients": len(clients), "num_users": len(users)}


async def _channels(node: Node, request: requests.Channels) -> Result:
    counts = node.backend.channels(request.pattern)
    return {"channels": {name: {"num_clients": count} for name, count in counts.items()}}


def _connection(session: Session) -> Result:
    return {
        "client": session.client,
        "user": session.user,
        "channels": sorted(session.subscriptions),
        "transport": session.transport.request.transport,
        "connected_since": int(session.connected_at),
    }


async def _connections(node: Node, request: requests.Connections) -> Result:
    pace = node.context.share.pace()
    shown: list[Result] = []
    for session in node.backend.connections(user=request.user, channel=request.channel):
        shown.append(_connection(session))
        await pace.keep()
    return {"connections": shown}


async def _users(node: Node, request: requests.Nothing) -> Result:
    return {"users": {u: {"num_clients": count} for u, count in node.backend.users().items()}}


async def _info(node: Node, request: requests.Nothing) -> Result:
    return {"nodes": [asdict(node.backend.info())]}
