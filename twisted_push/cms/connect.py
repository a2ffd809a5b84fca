"""The dialect ``connect``: JSON both ways (spec: client protocol, section 7).

The question has what the client presented and chosen headers of its request; the answer has one
of ``result``, ``error`` and ``disconnect``. A user is text: a number is an error and not
converted, since a CMS that mixes the two would have two users for one person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated

from attrs import frozen
from msgspec import UNSET, Meta, Struct, UnsetType

from twisted_push.cms.answers import ChannelOptions, channel_grants, json_text, malformed
from twisted_push.cms.exchange import Exchange
from twisted_push.errors import CmsUnavailable, Disconnect, Refused
from twisted_push.jsontext import JsonError, Raw, decoder, encode
from twisted_push.model import ClientRequest, ConnectRequest, Grant

__all__ = ["ConnectDialect", "forwarded_headers"]

_NOT_FORWARDED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers about the message and the connection: the browser's would be wrong for our request."""

_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85]")


class _Question(Struct, frozen=True, omit_defaults=True):
    client: str
    transport: str
    protocol: str
    encoding: str
    name: str = ""
    version: str = ""
    data: Raw | UnsetType = UNSET
    channels: tuple[str, ...] = ()
    token: str = ""


class _Result(Struct, frozen=True):
    user: str
    expire_at: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    info: Raw = Raw()
    data: Raw = Raw()
    channels: list[str] | None = None
    subs: dict[str, ChannelOptions] | None = None
    meta: Raw = Raw()
    presence_to: list[str] | None = None


class _Error(Struct, frozen=True):
    code: Annotated[int, Meta(ge=1, le=2**32 - 1)]
    message: str = ""


class _Disconnect(Struct, frozen=True):
    code: int
    reason: str = ""


class _Answer(Struct, frozen=True):
    result: _Result | None = None
    error: _Error | None = None
    disconnect: _Disconnect | None = None


_decode: Callable[[bytes], _Answer] = decoder(_Answer)


def forwarded_headers(request: ClientRequest, names: tuple[str, ...]) -> dict[str, str]:
    """Give those headers of the browser's request that the CMS is to see, unchanged.

    A value with a control character is left out: some server down the line may take it for a
    line break. So are headers that belong to our own request.
    """
    forwarded = {}
    for name in names:
        value = request.headers.get(name.lower())
        if value and name.lower() not in _NOT_FORWARDED and not _CONTROLS.search(value):
            forwarded[name] = value
    return forwarded


def _grant(result: _Result, asked_at: float) -> Grant:
    return Grant(
        user=result.user,
        issued_at=asked_at,
        channels=channel_grants(result.channels, result.subs),
        presence_to=frozenset(result.presence_to or ()),
        info=json_text(result.info),
        data=json_text(result.data),
        # 0 is "no expiry" for the other servers that CMSes know this callback from.
        expires_at=result.expire_at or None,
        raw=json_text(result.meta),
    )


def read_answer(answer: bytes, asked_at: float) -> Grant:
    """Make a grant of an answer.

    Raises `Refused` or `Disconnect` if that is the answer, `CmsUnavailable` if it is none. Where
    there are several, the one that refuses more counts.
    """
    try:
        said = _decode(answer)
    except JsonError as error:
        raise malformed(error) from None
    if said.disconnect is not None:
        code = said.disconnect.code
        # Other codes than these would not tell a client whether to come back.
        raise Disconnect(code if 3000 <= code <= 4999 else 3500, said.disconnect.reason)
    if said.error is not None:
        raise Refused(said.error.code, said.error.message)
    if said.result is None:
        raise CmsUnavailable("malformed: neither result nor error nor disconnect")
    return _grant(said.result, asked_at)


@frozen
class ConnectDialect:
    """Asks a CMS in this dialect."""

    exchange: Exchange
    forward_headers: tuple[str, ...]

    async def ask(self, request: ConnectRequest) -> Grant:
        """Give the CMS's answer. Errors: see `Exchange.ask`."""
        headers: Mapping[str, str] = {
            **forwarded_headers(request.request, self.forward_headers),
            "Content-Type": "application/json",
        }
        return await self.exchange.ask(self._question(request), headers, read_answer)

    def _question(self, request: ConnectRequest) -> bytes:
        return encode(
            _Question(
                client=request.client,
                transport=request.request.transport,
                protocol="json",
                encoding="json",
                name=request.name,
                version=request.version,
                data=Raw(request.data) if request.data else UNSET,
                channels=request.channels,
                token=request.token,
            )
        )
