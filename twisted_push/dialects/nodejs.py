"""The dialect of Drupal's nodejs module: events of Socket.IO become verbs of the node.

A page connects, presents the token that the CMS gave it (``authenticate``), may join channels by
content tokens (``join-token-channel``) and, where the site lets it, send messages to the CMS
(``message``). All that it gets is events named ``message``, and acknowledgements if it asked for
them. Source: the specification of the module and its server, sections 2 to 5 and 11.

A client that is to stay away is told with a DISCONNECT packet (`NodejsCodec.closing`). One whose
transport is closed without it comes back by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import cast

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from twisted_push.cms.grants import token_digest
from twisted_push.dialects.work import Work
from twisted_push.errors import (
    ERROR_MESSAGES,
    CmsUnavailable,
    Disconnect,
    EngineUnavailable,
    ProtocolError,
    Refused,
)
from twisted_push.model import ConnectRequest, Grant
from twisted_push.node.node import Connected, Node
from twisted_push.protocols import socketio
from twisted_push.protocols.nodejs import (
    SUCCESS,
    Authenticate,
    ClientMessage,
    NodejsCodec,
    authenticated,
    error_answer,
    joined_notice,
    joined_token_channel,
    read_authenticate,
    read_client_message,
    read_join,
)
from twisted_push.protocols.socketio import Packet, PacketType
from twisted_push.session import Kind, Session, State
from twisted_push.stats import OTHER_CODE

__all__ = ["NodejsDialect"]

_OURS = frozenset({"authenticate", "useronline", "useroffline"})
"""Types of messages, in small letters, that the CMS takes for the server's own word."""

_NOT_THEIRS = frozenset({"authToken", "clientId", "messageType", "serviceKey", "uid"})
"""Fields of a message in which the CMS reads the server's word."""

_log = Logger()


@frozen
class _Asked:
    """One event of a client; ``id`` is that of the acknowledgement, if it wants one."""

    name: str
    args: tuple[bytes, ...] = field(repr=False)
    id: int | None


@define
class _Notes:
    """What is remembered of one client.

    ``connected`` is whether it is in the main namespace. ``label`` names a client without a user
    in the content channels. ``told`` are the content channels in which the others know of it.
    ``allowance`` is how many messages it may send to the CMS, as of ``allowed_at``.
    """

    connected: bool
    allowed_at: float
    allowance: float
    label: str = field(default="", repr=False)
    told: set[str] = field(factory=set)

    def allow(self, now: float, per_minute: int) -> bool:
        """Take one from the allowance; False when it is used up."""
        gained = max(0.0, now - self.allowed_at) * per_minute / 60.0
        self.allowance = min(float(per_minute), self.allowance + gained)
        self.allowed_at = now
        if self.allowance < 1.0:
            return False
        self.allowance -= 1.0
        return True


class NodejsDialect:
    """Speaks for all clients of one Socket.IO revision (4 or 5) on one node. It keeps nothing."""

    def __init__(self, node: Node, revision: int) -> None:
        self._node = node
        self._revision = revision
        self._work = Work(node, self._carry_out)
        self._handlers: dict[str, Callable[[Session, _Asked], Awaitable[None]]] = {
            "authenticate": self._authenticate,
            "join-token-channel": self._join_token_channel,
            "message": self._message,
        }

    def opened(self, session: Session) -> None:
        """Greet a client whose transport is open: in revision 4 it is connected unasked."""
        session.notes = _Notes(
            connected=self._revision == 4,
            allowed_at=self._node.context.clock.seconds(),
            allowance=float(self._messages_per_minute),
        )
        if self._revision == 4:
            self._node.sockets[session.secret] = session
            self._send(session, socketio.connect(4, self._socket_id(session)))

    # --- Reading -----------------------------------------------------------------------------

    def received(self, session: Session, payload: bytes) -> None:
        """Take one packet of a client."""
        if not self._node.allow(session):
            return
        try:
            self._packet(session, socketio.decode(payload))
        except ProtocolError as error:
            self._node.finish(session, Disconnect(3501), f"bad request: {error}")

    def received_binary(self, session: Session) -> None:
        """Drop an attachment: no event here has any."""
        if self._node.allow(session):
            self._node.context.stats.commands["binary"] += 1

    def _packet(self, session: Session, packet: Packet) -> None:
        """Do what a packet says. Raises ProtocolError."""
        kind = packet.type
        if packet.namespace != "/":
            if kind is PacketType.CONNECT:
                refusal = socketio.connect_error(
                    packet.namespace, "Invalid namespace", self._revision
                )
                self._send(session, refusal)
        elif kind is PacketType.CONNECT:
            self._connect(session)
        elif kind is PacketType.DISCONNECT:
            self._node.finish(session, None)
            session.transport.close(Disconnect(3000))
        elif not _notes(session).connected:
            raise ProtocolError("a packet before the connect")
        elif kind is PacketType.EVENT:
            self._event(session, packet)
        else:  # Nothing here asks a client for an acknowledgement, or takes attachments.
            binary = kind in (PacketType.BINARY_EVENT, PacketType.BINARY_ACK)
            self._node.context.stats.commands["binary" if binary else "unknown"] += 1

    def _connect(self, session: Session) -> None:
        notes = _notes(session)
        if notes.connected and self._revision != 4:
            raise ProtocolError("a second connect")
        notes.connected = True
        self._send(session, socketio.connect(self._revision, self._socket_id(session)))

    def _event(self, session: Session, packet: Packet) -> None:
        event = socketio.read_event(packet)
        known = event.name in self._handlers
        self._node.context.stats.commands[event.name if known else "unknown"] += 1
        if not known:
            return
        asked = _Asked(event.name, event.args, packet.id)
        if event.name == "authenticate" and session.state is State.CONNECTING:
            self._refuse(session, asked, Refused(105, "authentication is under way"))
        else:
            self._work.take(session, asked, len(packet.data or b""))

    # --- Answering ---------------------------------------------------------------------------

    async def _carry_out(self, session: Session, asked: _Asked) -> None:
        """Carry out one event; every refusal becomes an answer here."""
        try:
            await self._handlers[asked.name](session, asked)
        except Refused as error:
            self._refuse(session, asked, error)
        except ProtocolError as error:
            self._refuse(session, asked, Refused(107, f"bad request: {error}"))
        except EngineUnavailable as error:
            self._node.context.engine_failed(error)
            self._refuse(session, asked, Refused(100))
        except CancelledError:
            raise
        except Exception:
            _log.failure("{site}: {event} failed", site=self._name, event=asked.name)
            self._node.finish(session, Disconnect(3004))

    def _refuse(self, session: Session, asked: _Asked, error: Refused) -> None:
        self._count(error)
        self._acknowledge(session, asked, error_answer(error.text))

    def _count(self, error: Refused) -> None:
        code = error.code if error.code in ERROR_MESSAGES else OTHER_CODE
        self._node.context.stats.command_errors[code] += 1

    def _acknowledge(self, session: Session, asked: _Asked, answer: bytes) -> None:
        if asked.id is not None:
            self._send(session, socketio.ack(asked.id, answer))

    def _send(self, session: Session, packet: bytes, channel: str | None = None) -> None:
        session.deliver(cast("NodejsCodec", session.codec).frame(packet), channel)

    @property
    def _name(self) -> str:
        return self._node.context.name

    # --- The connection ----------------------------------------------------------------------

    async def _authenticate(self, session: Session, asked: _Asked) -> None:
        try:
            said = read_authenticate(asked.args)
        except ProtocolError as error:
            self._turn_away(session, asked, Disconnect(3501), f"bad request: {error}")
            return
        if session.state is State.CONNECTED:
            if session.token_digest != (token_digest(said.token) if said.token else None):
                raise Refused(103, "authenticated with another token")
            self._acknowledge(session, asked, SUCCESS)
            return
        try:
            await self._let_in(session, said)
        except (CmsUnavailable, Disconnect, EngineUnavailable, Refused) as error:
            if isinstance(error, EngineUnavailable):
                self._node.context.engine_failed(error)
            self._turn_away(session, asked, *_ending(error))
        else:
            self._acknowledge(session, asked, SUCCESS)

    def _turn_away(
        self, session: Session, asked: _Asked, disconnect: Disconnect, why: str = ""
    ) -> None:
        """Close a client that was not let in; one that is to stay away is told ``why``."""
        if asked.id is not None and not disconnect.reconnect:
            # Past the outbox, of which nothing is sent any more once the session is finished.
            answer = socketio.ack(asked.id, error_answer(why))
            session.transport.send(cast("NodejsCodec", session.codec).frame(answer))
        self._node.finish(session, disconnect, why)

    async def _let_in(self, session: Session, said: Authenticate) -> None:
        """Ask who this is, and tell the client what it got.

        What is published into its channels meanwhile is collected, and follows that message.
        Raises as `Node.connect`.
        """
        request = ConnectRequest(
            client=session.client,
            token=said.token,
            request=session.transport.request,
            name="socket.io",
            version=str(self._revision),
            data=said.text,
            # Such a client sets itself no time limit; closed, it is back within seconds.
            patient=True,
        )
        connected = await self._node.connect(session, request, {})
        _notes(session).label = "" if session.user else said.token
        contents = await self._join_contents(session, said, connected)
        told = authenticated(
            user=session.user,
            token=said.token,
            client=self._socket_id(session),
            channels=self._channels_of(session, connected.grant),
            presence_to=sorted(connected.grant.presence_to or (), key=lambda uid: (len(uid), uid)),
            content_tokens=contents,
        )
        self._send(session, socketio.event("message", told))
        for joined in connected.joined:
            self._node.channels.go_live(session, joined.subscription)

    def _socket_id(self, session: Session) -> str:
        """Give the id that a client knows itself by: in revision 4 that of its transport."""
        return session.secret if self._revision == 4 else session.client

    def _channels_of(self, session: Session, grant: Grant) -> list[str]:
        """Give what the client has, but for what it knows nothing of: where broadcasts go."""
        broadcast = self._node.context.policy.site.broadcast_channel
        return [
            channel
            for channel, subscription in session.subscriptions.items()
            if subscription.kind is not Kind.CONTENT
            and (channel != broadcast or channel in grant.channels)
        ]

    # --- Content channels --------------------------------------------------------------------

    async def _join_contents(
        self, session: Session, said: Authenticate, connected: Connected
    ) -> Mapping[str, str]:
        """Let a client into its content channels; give those tokens that were good, by channel."""
        tokens = {**said.content_tokens, **connected.grant.content_tokens}
        for channel in connected.taken & tokens.keys():
            del tokens[channel]
        most = self._node.context.policy.limits.max_channels_per_client
        good: dict[str, str] = {}
        for channel, token in islice(tokens.items(), most):
            try:
                await self._node.content.join(session, channel, token, label=_notes(session).label)
            except Refused as error:
                self._count(error)
            else:
                good[channel] = token
        return good

    async def _join_token_channel(self, session: Session, asked: _Asked) -> None:
        _check_let_in(session)
        said = read_join(asked.args)
        notes = _notes(session)
        notes.told.intersection_update(session.subscriptions)
        content = await self._node.content.join(
            session, said.channel, said.token, label=notes.label
        )
        told = joined_token_channel(content, said.token)
        self._send(session, socketio.event("message", told), content.channel)
        if content.channel not in notes.told:  # Else one client could go on telling all others.
            data, extra = joined_notice(content)
            await self._node.backend.publish(
                content.channel, data, extra=extra, exclude=session.client, skip_history=True
            )
            notes.told.add(content.channel)
        self._acknowledge(session, asked, SUCCESS)

    # --- Messages to the CMS -----------------------------------------------------------------

    async def _message(self, session: Session, asked: _Asked) -> None:
        """Pass a message on to the CMS, and its answer to this client alone."""
        _check_let_in(session)
        callback = self._node.context.policy.site.callback
        messages = self._node.context.gate.messages
        if callback is None or not callback.client_messages or messages is None:
            raise Refused(103, "not allowed")
        said = read_client_message(asked.args)
        if said.type.casefold() in _OURS:
            raise Refused(103, "not allowed")
        if not _notes(session).allow(
            self._node.context.clock.seconds(), callback.client_messages_per_minute
        ):
            raise Refused(111)
        try:
            fields = _for_the_cms(session, said)
            asker = session.user or session.transport.request.address
            answer = await messages.ask(said.type, fields, asker)
        except CmsUnavailable:
            raise Refused(100, "try again") from None
        if asked.id is not None:
            self._acknowledge(session, asked, answer)
        elif answer.startswith(b"{"):
            self._send(session, socketio.event("message", answer))

    @property
    def _messages_per_minute(self) -> int:
        callback = self._node.context.policy.site.callback
        return callback.client_messages_per_minute if callback is not None else 0


def _notes(session: Session) -> _Notes:
    return cast("_Notes", session.notes)


def _check_let_in(session: Session) -> None:
    """Raise Refused(101) unless a client has authenticated."""
    if session.state is not State.CONNECTED:
        raise Refused(101)


def _for_the_cms(session: Session, said: ClientMessage) -> dict[str, object]:
    """Give the client's fields, and our word on who it is; the uid is int 0 for anonymous."""
    fields: dict[str, object] = {
        name: text for name, text in said.fields.items() if name not in _NOT_THEIRS
    }
    return {**fields, "clientId": session.client, "uid": session.user or 0}


def _ending(error: Exception) -> tuple[Disconnect, str]:
    """Give how a client is closed that was not let in, and why.

    That nobody could say who it is has no why: it was logged where it was found.
    """
    if isinstance(error, CmsUnavailable):
        return error.ending, ""
    if isinstance(error, Disconnect):
        return error, "" if error.reconnect else error.text
    if isinstance(error, Refused) and not error.temporary:
        return Disconnect(3500), error.text
    return Disconnect(3004), ""
