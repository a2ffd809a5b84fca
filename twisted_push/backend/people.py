"""Methods of the HTTP API on who is here: content channels, who is online, and who may know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import token_urlsafe

from twisted_push.backend import requests
from twisted_push.config.names import callback_url
from twisted_push.errors import Disconnect, Refused
from twisted_push.node.node import Node

__all__ = [
    "MAX_USERS",
    "content_token",
    "content_token_remove",
    "content_users",
    "online",
    "presence_hook",
    "presence_list",
]

MAX_USERS = 10_000
"""Most users in one request."""

TOKEN_BYTES = 24
"""Random bytes of a content token that the server makes."""

Result = Mapping[str, object]

_url = callback_url()


async def content_token(node: Node, request: requests.ContentToken) -> Result:
    """Keep a content token; give it if it was made here."""
    token = request.token or token_urlsafe(TOKEN_BYTES)
    if node.context.gate.signs(token):
        raise Refused(107, "bad request: a token of this form is read as a signed one")
    data = bytes(request.data)
    await node.content.register(
        request.channel,
        token,
        ttl=None if request.ttl is None else float(request.ttl),
        notify_on_leave=request.notify_on_leave,
        data=None if data in (b"", b"null") else data,
    )
    return {} if request.token else {"token": token}


async def content_token_remove(node: Node, request: requests.ContentTokenRemove) -> Result:
    """Forget a content token."""
    await node.content.remove(request.token)
    return {}


async def content_users(node: Node, request: requests.ChannelRequest) -> Result:
    """Give who is in a channel by a content token: users once, and how many are anonymous."""
    node.context.policy.check_channel(request.channel)
    users = [user for user, _ in node.content.users(request.channel)]
    named = sorted(user for user in users if user)
    return {"users": named, "anonymous": len(users) - len(named)}


async def online(node: Node, request: requests.Online) -> Result:
    """Give which of these users are online."""
    _check_count(request.users)
    return {"online": [u for u in dict.fromkeys(request.users) if node.online.is_online(u)]}


async def presence_list(node: Node, request: requests.PresenceList) -> Result:
    """Say who may see that a user is online."""
    _check_count(request.users)
    for user in (request.user, *request.users):
        _check_user(node, user)
    await node.online.see(request.user, frozenset(request.users))
    return {}


async def presence_hook(node: Node, request: requests.PresenceHook) -> Result:
    """Say where the CMS is told who is online."""
    try:
        url = _url.read(request.url)
    except ValueError as error:
        raise Refused(107, f"bad request: url: {_url.complaint('', error)}") from None
    node.online.move_hook(url)
    return {}


def _check_count(users: Sequence[str]) -> None:
    if len(users) > MAX_USERS:
        raise Refused(106, f"limit exceeded: at most {MAX_USERS} users")


def _check_user(node: Node, user: str) -> None:
    """Raise Refused(107) for a name that no user has."""
    if not user:
        raise Refused(107, "bad request: a user is empty")
    try:
        node.context.policy.check_user(user)
    except Disconnect as error:
        raise Refused(107, f"bad request: {error.text}") from None
