"""Does a grant still hold? The question that is asked before its end, in the dialect ``connect``.

It has an address of its own; a CMS that has none is asked the question of the beginning again
(spec: client protocol, section 7, the hook ``refresh``). What its answer does not name stays.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen
from msgspec import Struct

from twisted_push.cms.answers import ChannelOptions, UnixTime, channel_grants, json_text, reader
from twisted_push.cms.connect import question_headers
from twisted_push.cms.decisions import Asker, question_about
from twisted_push.cms.exchange import Exchange
from twisted_push.errors import Refused
from twisted_push.jsontext import Raw, encode
from twisted_push.model import ChannelGrant, ConnectRequest, Grant

__all__ = ["ConnectRenewal", "Renewed"]


@frozen
class Renewed:
    """What the CMS says of a grant, asked at ``asked_at``; None for what it says nothing of.

    ``expires_at`` is the new end, None for none.
    """

    asked_at: float
    expires_at: float | None
    user: str | None
    channels: Mapping[str, ChannelGrant] | None
    presence_to: frozenset[str] | None
    info: bytes | None
    raw: bytes | None


class _Result(Struct, frozen=True):
    expired: bool = False
    expire_at: UnixTime | None = None
    user: str | None = None
    channels: list[str] | None = None
    subs: dict[str, ChannelOptions] | None = None
    presence_to: list[str] | None = None
    info: Raw = Raw()
    meta: Raw = Raw()


_read_result = reader(_Result)


def read_answer(answer: bytes, asked_at: float) -> Renewed:
    """Make sense of an answer. Raises as `reader` has it, and Refused(110) if the grant is over."""
    said = _read_result(answer)
    if said.expired:
        raise Refused(110)
    silent = said.channels is None and said.subs is None
    return Renewed(
        asked_at=asked_at,
        expires_at=said.expire_at or None,
        user=said.user,
        channels=None if silent else channel_grants(said.channels, said.subs),
        presence_to=None if said.presence_to is None else frozenset(said.presence_to),
        info=json_text(said.info),
        raw=json_text(said.meta),
    )


@frozen
class ConnectRenewal:
    """Asks a CMS at the address ``url``."""

    exchange: Exchange
    url: str
    forward_headers: tuple[str, ...]

    async def ask(self, request: ConnectRequest, grant: Grant) -> Renewed:
        """Ask about a client that came with ``request`` and was given ``grant``.

        Raises as `Dialect.ask`, and goes on like that when it is cancelled.
        """
        headers = question_headers(request.request, self.forward_headers)
        asker = Asker(request.client, grant.user, request.request, grant.raw)
        question = question_about(asker, token=request.token)
        return await self.exchange.ask(
            encode(question),
            headers,
            read_answer,
            url=self.url,
            finish=True,
            kind="refresh",
            asker=asker.name,
        )
