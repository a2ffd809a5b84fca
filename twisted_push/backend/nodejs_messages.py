"""Routes of the nodejs module that take a body: messages and content tokens.

Source: the specification of the module and its server, sections 1 and 2. A body is read whatever
Content-Type it has. What PHP sends as a number may be meant as text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Raw, Struct

from twisted_push.backend.calls import DONE, Call, Result, failed, missing
from twisted_push.backend.methods import MAX_ITEMS
from twisted_push.errors import EngineUnavailable, Refused
from twisted_push.jsontext import JsonError, decoder, encode
from twisted_push.node.node import Node
from twisted_push.protocols.nodejs import Message, read_messages
from twisted_push.session import Session

__all__ = ["content_message", "content_token", "content_users", "publish"]

_Scalar = int | str | None


class _Token(Struct):
    """A content token, in the module's spelling."""

    channel: _Scalar = None
    token: _Scalar = None
    notifyOnDisconnect: bool | int | str | None = None  # noqa: N815
    userData: Raw = Raw(b"")  # noqa: N815


class _Channel(Struct):
    channel: _Scalar = None


_read_object: Callable[[bytes], dict[str, Raw]] = decoder(dict[str, Raw])
_read_list: Callable[[bytes], list[Raw]] = decoder(list[Raw])
_read_any: Callable[[bytes], dict[str, Raw] | list[Raw]] = decoder(dict[str, Raw] | list[Raw])
_read_token: Callable[[bytes], _Token] = decoder(_Token)
_read_channel: Callable[[bytes], _Channel] = decoder(_Channel)


# --- Messages --------------------------------------------------------------------------------


async def publish(call: Call) -> Result:
    """Publish a message, or each of ``{"messages": […]}``."""
    messages = _batch(call.body)
    if messages is None:
        return {**DONE, "sent": await _publish(call.site.node, call.body)}
    return await _each(call, messages, _publish, counted=True)


async def content_message(call: Call) -> Result:
    """Publish a message, or several, into a content channel."""
    messages = _batch(call.body)
    if messages is not None:
        return await _each(call, messages, _publish_content, counted=False)
    await _publish_content(call.site.node, call.body)
    return DONE if call.typed else {**DONE, "sent": "sent"}


def _batch(body: bytes) -> Sequence[Raw] | None:
    """Give the messages of a batch, None for one message. Raises JsonError."""
    messages = _read_object(body).get("messages")
    return None if messages is None else _read_list(bytes(messages))


async def _publish(node: Node, text: bytes) -> int:
    message = _message(text)
    if message.broadcast:
        channel = node.context.policy.site.broadcast_channel
        return await _send(node, message, channel)
    if not message.channel:
        raise missing()
    return await _send(node, message, message.channel)


async def _publish_content(node: Node, text: bytes) -> int:
    message = _message(text)
    if not await node.content.exists(message.channel):
        raise Refused(107, "Invalid message")
    return await _send(node, message, message.channel)


def _message(text: bytes) -> Message:
    messages = read_messages(text)
    if len(messages) != 1:
        raise Refused(107, "bad request: a batch in a batch")
    return messages[0]


async def _send(node: Node, message: Message, channel: str) -> int:
    """Publish a message, but not to the tab that it came from; give how many clients got it.

    Some tabs are known by what names their requests while they poll: nobody else may learn that.
    """
    sender = node.of_socket(message.client) if message.client else None
    extra = dict(message.extra)
    if message.broadcast:
        extra["channel"] = encode(message.channel)
    if sender is not None and sender.secret == message.client and _polls(sender):
        extra["clientSocketId"] = b'""'
    exclude = sender.client if sender is not None else message.client
    result = await node.backend.publish(channel, message.data, extra=extra, exclude=exclude)
    return result.recipients


def _polls(session: Session) -> bool:
    return "polling" in session.transport.request.transport


async def _each(
    call: Call,
    items: Sequence[Raw],
    run: Callable[[Node, bytes], Awaitable[int]],
    *,
    counted: bool,
) -> Result:
    """Carry out the items of a batch in their order; one that fails fails alone.

    Raises EngineUnavailable if nothing was done because of the engine.
    """
    if len(items) > MAX_ITEMS:
        raise Refused(106, f"limit exceeded: a batch has at most {MAX_ITEMS} items")
    call.charge(len(items))
    node = call.site.node
    sent = 0
    errors: list[dict[str, object]] = []
    unavailable: EngineUnavailable | None = None
    pace = node.context.share.pace()
    for index, item in enumerate(items):
        try:
            sent += await run(node, bytes(item))
        except JsonError as error:
            errors.append({"index": index, "error": f"bad request: {error}"})
        except Refused as error:
            errors.append({"index": index, "error": error.text})
        except EngineUnavailable as error:
            unavailable = error
            errors.append({"index": index, "error": "the engine is not available"})
        await pace.keep()
    if errors and len(errors) == len(items):
        if unavailable is not None:
            raise unavailable
        return {**failed(str(errors[0]["error"])), "errors": errors}
    done = {**DONE, "sent": sent} if counted else DONE
    return {**done, "errors": errors} if errors else done


# --- Content tokens --------------------------------------------------------------------------


async def content_token(call: Call) -> Result:
    """Keep a content token, or each of a list."""
    if isinstance(tokens := _read_any(call.body), list):
        return await _each(call, tokens, _register, counted=False)
    await _register(call.site.node, call.body)
    return DONE if call.typed else {"status": "ok"}


async def _register(node: Node, text: bytes) -> int:
    given = _read_token(text)
    channel, token = _text(given.channel), _text(given.token)
    if not channel or not token:
        raise missing()
    data = bytes(given.userData)
    await node.content.register(
        channel,
        token,
        notify_on_leave=given.notifyOnDisconnect not in (None, False, 0, "", "0", "false"),
        data=None if data in (b"", b"null") else data,
    )
    return 0


async def content_users(call: Call) -> Result:
    """Give who is in a content channel: users by uid, anonymous clients by their token."""
    channel = _text(_read_channel(call.body).channel)
    if not channel:
        raise missing()
    seats = call.site.node.content.users(channel)
    uids = dict.fromkeys(user for user, _ in seats if user)
    tokens = dict.fromkeys(label for user, label in seats if label and not user)
    return {"users": {"uids": list(uids), "authTokens": list(tokens)}}


def _text(given: _Scalar) -> str:
    return "" if given is None else str(given)
