"""Routes of the nodejs module that take no body but their address: users, channels, figures.

Source: the specification of the module and its server, section 1, for addresses, answers and
texts of errors. The uid 0 stands for everybody who is not logged in.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted_push.backend.calls import DONE, Call, Result, Site, failed, missing
from twisted_push.errors import Disconnect
from twisted_push.jsontext import Raw, decoder
from twisted_push.model import ChannelGrant
from twisted_push.node.targets import Target

__all__ = [
    "VERSION",
    "add_channel",
    "add_to_token",
    "add_to_user",
    "check_channel",
    "health",
    "kick",
    "logout",
    "remove_channel",
    "remove_from_token",
    "remove_from_user",
    "see",
    "stats_channels",
    "stats_server",
    "stats_users",
    "toggle_debug",
]

VERSION = "1.0.13"
"""The server that this one stands in for: modules refuse to work with one that is too old."""

_BAD_UID = "Invalid uid."
_BAD_CHANNEL = "Invalid channel name."
_NO_CHANNEL = "Non-existent channel name."

_CHANNEL = re.compile(r"[a-z0-9_]{1,255}", re.IGNORECASE | re.ASCII)
_DIGITS = re.compile(r"[0-9]+")
_BOOLEANS = {b"true": True, b"false": False}

_read_object: Callable[[bytes], dict[str, Raw]] = decoder(dict[str, Raw])


def _is_channel(name: str) -> bool:
    return _CHANNEL.fullmatch(name) is not None


# --- Users -----------------------------------------------------------------------------------


def _user(site: Site, uid: str) -> str | None:
    """Give the user of a uid; None if nobody can have it."""
    if uid == "0":
        return ""
    try:
        site.node.context.policy.check_user(uid)
    except Disconnect:
        return None
    return uid


def _number_or_here(site: Site, uid: str) -> str | None:
    """Give the user of a uid; None if it is neither a number nor somebody's who is here."""
    user = _user(site, uid)
    if user and not _DIGITS.fullmatch(user) and not _is_here(site, user):
        return None
    return user


def _is_here(site: Site, user: str) -> bool:
    return user in site.node.context.hub.users or (bool(user) and site.node.online.is_online(user))


def _target(user: str) -> Target:
    return Target(user=user) if user else Target(anonymous=True)


async def kick(call: Call) -> Result:
    """Close the connections of a user."""
    [uid] = call.params
    user = _user(call.site, uid)
    if user is None:
        return failed(_BAD_UID)
    await call.site.node.backend.disconnect(_target(user), Disconnect(3503))
    return DONE


async def logout(call: Call) -> Result:
    """End a token for good."""
    [token] = call.params
    await call.site.node.backend.logout(token=token)
    return DONE


async def add_to_user(call: Call) -> Result:
    """Give a user a channel, which is there from now on."""
    channel, uid = call.params
    user = _number_or_here(call.site, uid)
    if user is None:
        return failed(_BAD_UID)
    if not _is_channel(channel):
        return failed(_BAD_CHANNEL)
    await call.site.add_channel(channel)
    if not _is_here(call.site, user):
        return failed("No active sessions for uid.")
    await call.site.node.backend.subscribe(_target(user), channel, ChannelGrant())
    return DONE


async def remove_from_user(call: Call) -> Result:
    """Take a channel from a user."""
    channel, uid = call.params
    user = _number_or_here(call.site, uid)
    if user is None:
        return failed(_BAD_UID)
    if not _is_channel(channel):
        return failed(_BAD_CHANNEL)
    existed = await call.site.has_channel(channel)
    # In any case: it may be in an answer of the CMS that is kept for a page to come.
    await call.site.node.backend.unsubscribe(_target(user), channel)
    return DONE if existed else failed(_NO_CHANNEL)


async def see(call: Call) -> Result:
    """Set who is told when a user comes and goes; nobody sees those who are not logged in."""
    uid, uids = (*call.params, "")[:2]
    user = _user(call.site, uid)
    if user is None:
        return failed(_BAD_UID)
    if user:
        seen_by = {each.strip() for each in uids.split(",")} - {"", "0"}
        await call.site.node.online.see(user, frozenset(seen_by))
    return DONE


# --- Tokens ----------------------------------------------------------------------------------


async def add_to_token(call: Call) -> Result:
    """Give every client of a token a channel, those to come included."""
    channel, token = call.params
    fault = await _token_fault(call.site, channel, token)
    if fault:
        return failed(fault)
    await call.site.add_channel(channel)
    await call.site.node.backend.subscribe(Target(token=token), channel, ChannelGrant())
    return DONE


async def remove_from_token(call: Call) -> Result:
    """Take a channel from every client of a token."""
    channel, token = call.params
    fault = await _token_fault(call.site, channel, token)
    if fault:
        return failed(fault)
    await call.site.node.backend.unsubscribe(Target(token=token), channel)
    return DONE


async def _token_fault(site: Site, channel: str, token: str) -> str:
    """Say why nothing can be done for a token; empty if something can."""
    if not _is_channel(channel):
        return "Invalid parameters."
    if not await site.node.backend.knows_token(token):
        return "No active sessions for authToken."
    return ""


# --- Channels --------------------------------------------------------------------------------


async def add_channel(call: Call) -> Result:
    """Note a channel."""
    [channel] = call.params
    if not _is_channel(channel):
        return failed(_BAD_CHANNEL)
    if await call.site.has_channel(channel):
        return failed(f"Channel name '{channel}' already exists.")
    await call.site.add_channel(channel)
    return DONE


async def check_channel(call: Call) -> Result:
    """Tell whether there is a channel."""
    [channel] = call.params
    if not _is_channel(channel):
        return failed(_BAD_CHANNEL)
    return {**DONE, "result": await call.site.has_channel(channel)}


async def remove_channel(call: Call) -> Result:
    """Take a channel from everybody who has it now, and forget it."""
    [channel] = call.params
    of_content = await call.site.node.content.exists(channel)
    if not of_content and not await call.site.has_channel(channel):
        return failed(_NO_CHANNEL)
    if channel != call.site.node.context.policy.site.broadcast_channel:
        await call.site.node.backend.remove_channel(channel)
    await call.site.node.context.engine.channel_remove(channel)
    return DONE


# --- Figures ---------------------------------------------------------------------------------


async def health(call: Call) -> Result:
    """Give a few figures; modules read the version before they do anything else.

    ``contentTokens`` once held the tokens themselves, which are for their pages alone.
    """
    node = call.site.node
    return {
        "authenticatedClients": len(node.context.hub.clients),
        "sockets": len(node.sessions),
        "onlineUsers": node.online.count(),
        "tokenChannels": await node.content.count(),
        "contentTokens": {},
        "status": "success",
        "version": VERSION,
    }


async def stats_server(call: Call) -> Result:
    """Give the number of clients: of each channel, connected, and let in."""
    node = call.site.node
    return {
        **DONE,
        "channels": node.backend.channels(),
        "totalClientCount": len(node.sessions),
        "authenticatedClients": len(node.context.hub.clients),
        "users": sum(1 for user in node.backend.users() if user),
    }


async def stats_channels(call: Call) -> Result:
    """Give the channels that somebody receives."""
    counts = call.site.node.backend.channels()
    return {**DONE, "channels": {name: {"clients": count} for name, count in counts.items()}}


async def stats_users(call: Call) -> Result:
    """Give who is here, with their channels."""
    clients: dict[str, int] = {}
    channels: dict[str, set[str]] = {}
    pace = call.site.node.context.share.pace()
    for session in call.site.node.backend.connections(user=None, channel=None):
        uid = session.user or "0"
        clients[uid] = clients.get(uid, 0) + 1
        channels.setdefault(uid, set()).update(session.subscriptions)
        await pace.keep()
    users = {
        uid: {"clients": count, "channels": sorted(channels[uid])} for uid, count in clients.items()
    }
    return {**DONE, "users": users}


async def toggle_debug(call: Call) -> Result:
    """Log each request of this site's CMS from now on, or no longer."""
    debug = _BOOLEANS.get(bytes(_read_object(call.body).get("debug", b"")))
    if debug is None:
        raise missing()
    call.site.debug = debug
    return {**DONE, "debug": debug}
