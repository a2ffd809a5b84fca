"""The messages of Drupal's nodejs module: a JSON object that is passed on as it is.

Source: the specification of the module and its server, sections 1 to 3. The CMS posts::

    {"channel": "news", "broadcast": false, "data": {…}, "callback": "show", "clientSocketId": ""}

and each client in the channel gets it as the Socket.IO event ``message``. Here it is a
publication: ``data`` is its data, and the other fields are its ``extra``. So clients of every
dialect are given it; those that know no such fields get them as tags, and the tags of a
publication are fields here. The module's pages get the message as it was posted, each value byte
for byte.

The pages send the events ``authenticate``, ``join-token-channel`` and ``message``, each with one
object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import field, frozen
from msgspec import Struct
from zope.interface import implementer

from twisted_push.errors import Disconnect, ProtocolError
from twisted_push.interfaces import ICodec
from twisted_push.jsontext import JsonError, Raw, decoder, encode
from twisted_push.model import ClientInfo, ContentToken, Publication, StreamPosition
from twisted_push.protocols import socketio

__all__ = [
    "SUCCESS",
    "Authenticate",
    "ClientMessage",
    "JoinTokenChannel",
    "Message",
    "NodejsCodec",
    "authenticated",
    "error_answer",
    "joined_notice",
    "joined_token_channel",
    "message_text",
    "read_authenticate",
    "read_client_message",
    "read_join",
    "read_messages",
    "tags_of",
]

SUCCESS = b'{"result":"success"}'
"""The acknowledgement of what was done."""

_NULL = b"null"
_DATA_HERE = b""
"""Stands in ``extra`` in the place of the data: no JSON text is empty."""

_NOT_TAGS = frozenset({"channel", "clientSocketId", "data"})
"""Fields that say nothing to a client of another dialect."""

_read_object: Callable[[bytes], dict[str, Raw]] = decoder(dict[str, Raw])
_read_batch: Callable[[bytes], list[Raw]] = decoder(list[Raw])
_read_text: Callable[[bytes], str] = decoder(str)


# --- What the CMS posts ----------------------------------------------------------------------


@frozen
class Message:
    """A message that the CMS posted.

    ``channel`` is empty where there is none. ``data`` and ``extra`` are JSON texts, as those of a
    `Publication`: ``extra`` has all fields in their order, with an empty text for the data.
    ``client`` is the tab on whose behalf it was sent, which knows already.
    """

    channel: str
    broadcast: bool
    data: bytes
    extra: Mapping[str, bytes] = field(repr=False)
    client: str


def read_messages(body: bytes) -> list[Message]:
    """Read one message, or those of a batch ``{"messages": […]}``. Raises JsonError."""
    fields = _read_object(body)
    if "messages" in fields:
        return [
            _message(_read_object(bytes(each))) for each in _read_batch(bytes(fields["messages"]))
        ]
    return [_message(fields)]


def _message(fields: Mapping[str, Raw]) -> Message:
    extra = {name: bytes(text) for name, text in fields.items()}
    data = _NULL
    if "data" in extra:
        data, extra["data"] = extra["data"], _DATA_HERE
    broadcast = extra.get("broadcast", b"false").strip(b'"') not in (b"false", b"0", b"null", b"")
    return Message(
        _text_of(extra.get("channel", _NULL)),
        broadcast,
        data,
        extra,
        _text_of(extra.get("clientSocketId", _NULL)),
    )


def _text_of(text: bytes) -> str:
    """Read a string; a number is its digits, as PHP sends either. Raises JsonError."""
    if text[:1] == b'"':
        return _read_text(text)
    return text.decode("ascii") if text.isdigit() else ""


def message_text(publication: Publication) -> bytes:
    """Give the JSON object of a publication as the module's pages know it."""
    extra = publication.extra or {}
    fields: dict[str, Raw] = {}
    if "channel" not in extra:
        fields["channel"] = Raw(encode(publication.channel))
    if "data" not in extra and (publication.extra is None or publication.data != _NULL):
        fields["data"] = Raw(publication.data)
    for name, text in extra.items():
        fields[name] = Raw(publication.data if text == _DATA_HERE else text)
    for name, tag in (publication.tags or {}).items():
        fields.setdefault(name, Raw(encode(tag)))
    return encode(fields)


def tags_of(extra: Mapping[str, bytes] | None) -> Mapping[str, str]:
    """Give the other fields of a message as tags: strings as they are, all else as JSON text."""
    if not extra:
        return {}
    return {name: _tag(text) for name, text in extra.items() if name not in _NOT_TAGS}


def _tag(text: bytes) -> str:
    if text[:1] == b'"':
        try:
            return _read_text(text)
        except JsonError:
            return ""
    return text.decode("utf-8")


# --- What the pages send ---------------------------------------------------------------------


@frozen
class Authenticate:
    """A page presents its token, and content tokens by channel; ``text`` is all that it sent."""

    token: str = field(repr=False)
    content_tokens: Mapping[str, str] = field(repr=False)
    text: bytes = field(repr=False)


@frozen
class JoinTokenChannel:
    """A page wants to be let into a channel by a content token."""

    channel: str
    token: str = field(repr=False)


@frozen
class ClientMessage:
    """A message of a page to the CMS, with the JSON text of each field."""

    type: str
    fields: Mapping[str, Raw] = field(repr=False)


class _Authenticate(Struct, frozen=True):
    """The module's spelling; PHP's empty array is a list."""

    authToken: str  # noqa: N815
    contentTokens: dict[str, Raw] | list[Raw] | None = None  # noqa: N815


class _Join(Struct, frozen=True):
    channel: str
    contentToken: str  # noqa: N815


_decode_authenticate: Callable[[bytes], _Authenticate] = decoder(_Authenticate)
_decode_join: Callable[[bytes], _Join] = decoder(_Join)


def read_authenticate(args: Sequence[bytes]) -> Authenticate:
    """Read the arguments of ``authenticate``. Raises ProtocolError."""
    text = _argument(args)
    try:
        said = _decode_authenticate(text)
        tokens = said.contentTokens if isinstance(said.contentTokens, dict) else {}
        named = {channel: _text_of(bytes(token)) for channel, token in tokens.items()}
    except JsonError as error:
        raise ProtocolError(str(error)) from None
    return Authenticate(said.authToken, named, text)


def read_join(args: Sequence[bytes]) -> JoinTokenChannel:
    """Read the arguments of ``join-token-channel``. Raises ProtocolError."""
    try:
        said = _decode_join(_argument(args))
    except JsonError as error:
        raise ProtocolError(str(error)) from None
    return JoinTokenChannel(said.channel, said.contentToken)


def read_client_message(args: Sequence[bytes]) -> ClientMessage:
    """Read the arguments of ``message``: an object with a ``type``. Raises ProtocolError."""
    try:
        fields = _read_object(_argument(args))
        kind = _read_text(bytes(fields.get("type", _NULL)))
    except JsonError as error:
        raise ProtocolError(str(error)) from None
    return ClientMessage(kind, fields)


def _argument(args: Sequence[bytes]) -> bytes:
    if not args:
        raise ProtocolError("an event without its argument")
    return args[0]


# --- What they are told ----------------------------------------------------------------------


def error_answer(text: str) -> bytes:
    """Give the acknowledgement of what was refused."""
    return encode({"result": "error", "error": text})


def authenticated(
    *,
    user: str,
    token: str,
    client: str,
    channels: Sequence[str],
    presence_to: Sequence[str],
    content_tokens: Mapping[str, str],
) -> bytes:
    """Give the message that tells a page that it was let in.

    The original server passes the whole answer of the CMS on, the service key and the hash of the
    user's password included; here these fields are all.
    """
    told = {
        "uid": user or 0,
        "authToken": token,
        "nodejsValidAuthToken": True,
        "clientId": client,
        "channels": channels,
        "presenceUids": presence_to,
        "contentTokens": content_tokens or (),
    }
    return encode({"callback": "clientAuthenticated", "data": told})


def joined_token_channel(content: ContentToken, token: str) -> bytes:
    """Give the message that tells a page that it was let into a channel by its token."""
    told = {"token": token, **_joined(content)}
    return encode({"callback": "clientJoinedTokenChannel", "data": told})


def joined_notice(content: ContentToken) -> tuple[bytes, Mapping[str, bytes]]:
    """Give data and extra of the publication that tells it to the others in the channel."""
    return encode(_joined(content)), {"callback": b'"clientJoinedTokenChannel"'}


def _joined(content: ContentToken) -> dict[str, object]:
    told: dict[str, object] = {
        "channel": content.channel,
        "notifyOnDisconnect": content.notify_on_leave,
    }
    return told if content.data is None else {**told, "userData": Raw(content.data)}


@implementer(ICodec)
class NodejsCodec:
    """Encodes pushes as events of Socket.IO: ``frame`` turns a packet of it into a ready frame.

    ``ping`` is the frame of a heartbeat where it is the server that sends them (Engine.IO 4).
    """

    def __init__(self, frame: Callable[[bytes], bytes], ping: bytes | None) -> None:
        self.frame = frame
        self._ping = ping

    def publication(self, publication: Publication) -> bytes:
        return self.message(message_text(publication))

    def joined(self, channel: str, info: ClientInfo) -> None:
        return None

    def left(self, channel: str, info: ClientInfo) -> None:
        return None

    def subscribed(
        self,
        channel: str,
        position: StreamPosition | None,
        data: bytes | None,
        recoverable: bool = False,
    ) -> None:
        return None

    def unsubscribed(self, channel: str, code: int, reason: str) -> None:
        return None

    def refreshed(self, ttl: int | None) -> None:
        return None

    def message(self, data: bytes) -> bytes:
        return self.frame(socketio.event("message", data))

    def ping(self) -> bytes | None:
        return self._ping

    def closing(self, disconnect: Disconnect) -> Sequence[bytes]:
        """Say why, and to those who are to stay away: that they are.

        A Socket.IO client comes back by itself after a loss of its connection, and stays away
        after a DISCONNECT packet.
        """
        told = {
            "callback": "clientDisconnected",
            "data": {
                "code": disconnect.code,
                "reason": disconnect.text,
                "reconnect": disconnect.reconnect,
            },
        }
        why = self.message(encode(told))
        return (why,) if disconnect.reconnect else (why, self.frame(socketio.disconnect()))
