"""Pieces that the answers of a CMS and the claims of its signed tokens have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from twisted_push.errors import CmsUnavailable
from twisted_push.jsontext import JsonError, Raw, one_line
from twisted_push.model import ChannelGrant

__all__ = ["ChannelOptions", "channel_grants", "json_text", "malformed"]


class ChannelOptions(Struct, frozen=True):
    """What an answer says of one channel under ``subs``; other options are left unread."""

    info: Raw = Raw()
    data: Raw = Raw()


def json_text(raw: Raw) -> bytes | None:
    """Give a JSON text as the CMS wrote it, in one line; None for none and for ``null``."""
    text = bytes(raw)
    return None if text in (b"", b"null") else one_line(text)


def channel_grants(
    channels: Sequence[str] | None, options: Mapping[str, ChannelOptions] | None
) -> dict[str, ChannelGrant]:
    """Bring ``channels`` and ``subs`` together."""
    granted = {channel: ChannelGrant() for channel in channels or ()}
    for channel, option in (options or {}).items():
        granted[channel] = ChannelGrant(json_text(option.info), json_text(option.data))
    return granted


def malformed(error: JsonError) -> CmsUnavailable:
    """Say what is wrong with an answer; a `JsonError` names places and types, never content."""
    what = "no JSON" if error.syntax else "not the answer that was asked for"
    return CmsUnavailable(f"malformed: {what}: {error.message}")
