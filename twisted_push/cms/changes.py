"""Grants as the CMS changed them since it gave them."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from twisted_push.cms.renewal import Renewed
from twisted_push.model import ChannelGrant, ChannelOverlay, Grant, PresenceList

__all__ = ["overlaid", "relisted", "renewed", "shared", "with_channels"]


def overlaid(
    channels: Mapping[str, ChannelGrant], overlays: Mapping[str, ChannelOverlay], grant: Grant
) -> Mapping[str, ChannelGrant]:
    """Give channels of a grant as the CMS changed them since it was issued."""
    changed = dict(channels)
    for channel, overlay in overlays.items():
        if overlay.at < grant.channels_said_at:
            continue
        if overlay.added is not None:
            changed[channel] = overlay.added
        else:
            changed.pop(channel, None)
    return changed


def relisted(grant: Grant, listed: PresenceList | None) -> Grant:
    """Give a grant with the users who may see its user, as the CMS listed them since."""
    if listed is None or listed.at < grant.issued_at:
        return grant
    return evolve(grant, presence_to=listed.users)


def shared(grant: Grant) -> Grant:
    """Give what of a grant is the token's, and not only the asking connection's."""
    return evolve(grant, content_tokens={}) if grant.content_tokens else grant


def with_channels(grant: Grant, changes: Mapping[str, ChannelGrant | None]) -> Grant:
    """Give a grant with channels added, or taken out (None)."""
    if not changes:
        return grant
    channels = {name: given for name, given in grant.channels.items() if name not in changes}
    added = {name: given for name, given in changes.items() if given is not None}
    return evolve(grant, channels=channels | added)


def renewed(base: Grant, said: Renewed) -> Grant:
    """Give the grant that follows another one: what the CMS does not name stays."""
    silent = said.channels is None
    return evolve(
        base,
        issued_at=said.asked_at,
        expires_at=said.expires_at,
        channels=base.channels if said.channels is None else said.channels,
        channels_at=base.channels_said_at if silent else said.asked_at,
        presence_to=base.presence_to if said.presence_to is None else said.presence_to,
        info=base.info if said.info is None else said.info,
        raw=base.raw if said.raw is None else said.raw,
        content_tokens={},
    )
