"""What a client may do, where the CMS decides (spec: client protocol, section 7, other hooks).

Four questions in the style of the dialect ``connect``, each with an address of its own: may this
client have a channel (``subscribe``), may it still (``sub_refresh``), may it publish
(``publish``), and what is the answer to its call (``rpc``, which is told ``send`` as well). No
answer is kept, and no two questions become one: each is about one act of one client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from attrs import frozen
from msgspec import UNSET, Struct, UnsetType
from twisted.internet.interfaces import IReactorTime

from twisted_push.cms.answers import UnixTime, json_text, reader
from twisted_push.cms.connect import question_headers
from twisted_push.cms.exchange import Exchange
from twisted_push.config import CallbackConfig
from twisted_push.errors import Refused
from twisted_push.jsontext import Raw, encode
from twisted_push.model import ClientRequest

__all__ = ["Admission", "Asker", "Decisions", "Passage", "question_about"]

_T = TypeVar("_T")


@frozen
class Asker:
    """The client that a question is about. ``meta`` is JSON text that the CMS gave for itself."""

    client: str
    user: str
    request: ClientRequest
    meta: bytes | None = None

    @property
    def name(self) -> str:
        """What tells it from others: the user, or the address of one who is nobody."""
        return self.user or self.request.address


@frozen
class Admission:
    """A client may have a channel: until ``expires_at`` (unix seconds), or for good.

    ``info`` is for the others in the channel, ``data`` for the client.
    """

    info: bytes | None
    data: bytes | None
    expires_at: float | None


@frozen
class Passage:
    """A client may publish: ``data``, or what it sent if that is None; or nothing (``skip``)."""

    data: bytes | None
    skip: bool
    skip_history: bool


class _Question(Struct, frozen=True, omit_defaults=True, kw_only=True):
    client: str
    transport: str
    protocol: str
    encoding: str
    user: str
    channel: str = ""
    method: str | UnsetType = UNSET
    token: str = ""
    data: Raw | UnsetType = UNSET
    meta: Raw | UnsetType = UNSET


class _Subscribe(Struct, frozen=True):
    info: Raw = Raw()
    data: Raw = Raw()
    expire_at: UnixTime | None = None


class _SubRefresh(Struct, frozen=True):
    expire_at: UnixTime | None = None
    expired: bool = False


class _Publish(Struct, frozen=True):
    data: Raw = Raw()
    skip_history: bool = False
    skip_publish: bool = False


class _Rpc(Struct, frozen=True):
    data: Raw = Raw()


_read_subscribe = reader(_Subscribe)
_read_sub_refresh = reader(_SubRefresh)
_read_publish = reader(_Publish)
_read_rpc = reader(_Rpc)


@frozen
class Decisions:
    """Asks one CMS what its clients may do, through the same exchange as who they are.

    Every method raises `Refused` or `Disconnect` if that is the answer, and `CmsUnavailable`.
    """

    exchange: Exchange
    config: CallbackConfig
    clock: IReactorTime

    @property
    def tells_sends(self) -> bool:
        """Whether the CMS is told what clients ``send``."""
        return bool(self.config.rpc_url)

    @property
    def serve_stale(self) -> float:
        """Seconds for which an answer that is over serves while the CMS cannot be asked."""
        return self.config.serve_stale

    async def subscribe(
        self, asker: Asker, channel: str, token: str = "", data: bytes | None = None
    ) -> Admission:
        """Ask whether a client may have a channel; ``token`` and ``data`` are what it brought.

        Refused(103) where nobody is to be asked, Refused(110) for an answer that is over.
        """
        if not self.config.subscribe_url:
            raise Refused(103)
        question = question_about(asker, channel=channel, token=token, data=_raw(data))
        url = self.config.subscribe_url
        said = await self._ask("subscribe", url, asker, question, _read_subscribe)
        expires_at = self._future(said.expire_at)
        return Admission(json_text(said.info), json_text(said.data), expires_at)

    async def sub_refresh(self, asker: Asker, channel: str) -> float | None:
        """Ask whether a client may keep a channel; give until when (None: for good).

        Where there is no address for that, it is the question of the beginning once more.
        Refused(110) if the time is over.
        """
        if not self.config.sub_refresh_url:
            return (await self.subscribe(asker, channel)).expires_at
        question = question_about(asker, channel=channel)
        url = self.config.sub_refresh_url
        said = await self._ask("sub_refresh", url, asker, question, _read_sub_refresh)
        if said.expired:
            raise Refused(110)
        return self._future(said.expire_at)

    async def publish(self, asker: Asker, channel: str, data: bytes) -> Passage:
        """Ask whether a client may publish. Refused(103) where nobody is to be asked."""
        if not self.config.publish_url:
            raise Refused(103)
        question = question_about(asker, channel=channel, data=Raw(data))
        url = self.config.publish_url
        said = await self._ask("publish", url, asker, question, _read_publish, once=True)
        return Passage(json_text(said.data), said.skip_publish, said.skip_history)

    async def rpc(self, asker: Asker, method: str | None, data: bytes | None) -> bytes | None:
        """Have the CMS answer a call; None for ``method`` if it is a ``send``.

        Refused(108) where nobody is to be asked.
        """
        if not self.config.rpc_url:
            raise Refused(108)
        question = question_about(
            asker, method=UNSET if method is None else method, data=_raw(data)
        )
        url = self.config.rpc_url
        said = await self._ask("rpc", url, asker, question, _read_rpc, once=True)
        return json_text(said.data)

    def _future(self, expire_at: int | None) -> float | None:
        """Give the end that the CMS set. Raises Refused(110) if it is over."""
        if not expire_at:
            return None
        if expire_at <= self.clock.seconds():
            raise Refused(110)
        return float(expire_at)

    async def _ask(
        self,
        kind: str,
        url: str,
        asker: Asker,
        question: Struct,
        read: Callable[[bytes], _T],
        *,
        once: bool = False,
    ) -> _T:
        """Put a question; with ``once`` it must not be put twice, for the CMS may have acted."""
        return await self.exchange.ask(
            encode(question),
            question_headers(asker.request, self.config.forward_headers),
            lambda answer, _: read(answer),
            url=url,
            once=once,
            kind=kind,
            asker=asker.name,
        )


def question_about(
    asker: Asker,
    *,
    channel: str = "",
    method: str | UnsetType = UNSET,
    token: str = "",
    data: Raw | UnsetType = UNSET,
) -> Struct:
    """Give what is asked about a client that the CMS has let in, to be encoded."""
    return _Question(
        client=asker.client,
        transport=asker.request.transport,
        protocol="json",
        encoding="json",
        user=asker.user,
        channel=channel,
        method=method,
        token=token,
        data=data,
        meta=_raw(asker.meta),
    )


def _raw(text: bytes | None) -> Raw | UnsetType:
    return UNSET if text is None else Raw(text)
