"""The dialect ``connect``: JSON both ways (spec: client protocol, section 7).

The question has what the client presented and chosen headers of its request; the answer has one
of ``result``, ``error`` and ``disconnect``. A user is text: a number is an error and not
converted, since a CMS that mixes the two would have two users for one person.
"""

from __future__ import annotations

import re

from attrs import frozen
from msgspec import UNSET, Struct, UnsetType

from twisted_push.cms.answers import (
    ChannelOptions,
    UnixTime,
    channel_grants,
    json_text,
    reader,
)
from twisted_push.cms.exchange import Exchange
from twisted_push.cms.shield import PATIENCE
from twisted_push.jsontext import Raw, encode
from twisted_push.model import ClientRequest, ConnectRequest, Grant

__all__ = ["ConnectDialect", "forwarded_headers", "question_headers"]

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
    expire_at: UnixTime | None = None
    info: Raw = Raw()
    data: Raw = Raw()
    channels: list[str] | None = None
    subs: dict[str, ChannelOptions] | None = None
    meta: Raw = Raw()
    presence_to: list[str] | None = None


_read_result = reader(_Result)


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


def question_headers(request: ClientRequest, names: tuple[str, ...]) -> dict[str, str]:
    """Give the headers of a question in JSON about the client of this request."""
    return {**forwarded_headers(request, names), "Content-Type": "application/json"}


def _grant(result: _Result, asked_at: float) -> Grant:
    return Grant(
        user=result.user,
        issued_at=asked_at,
        channels=channel_grants(result.channels, result.subs),
        presence_to=None if result.presence_to is None else frozenset(result.presence_to),
        info=json_text(result.info),
        data=json_text(result.data),
        expires_at=result.expire_at or None,
        raw=json_text(result.meta),
    )


def read_answer(answer: bytes, asked_at: float) -> Grant:
    """Make a grant of an answer.

    Raises what `reader` has it: `Refused` or `Disconnect` if that is the answer, `CmsUnavailable`
    if it is none.
    """
    return _grant(_read_result(answer), asked_at)


@frozen
class ConnectDialect:
    """Asks a CMS in this dialect."""

    exchange: Exchange
    forward_headers: tuple[str, ...]

    async def ask(self, request: ConnectRequest, patience: float = PATIENCE) -> Grant:
        """Give the CMS's answer: see `Dialect`."""
        headers = question_headers(request.request, self.forward_headers)
        return await self.exchange.ask(
            self._question(request),
            headers,
            read_answer,
            patience=patience,
            finish=True,
            asker=request.token or request.request.address,
        )

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
