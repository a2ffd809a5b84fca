"""Pieces that the answers of a CMS and the claims of its signed tokens have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

from msgspec import Meta, Struct, ValidationError, convert

from twisted_push.errors import CmsUnavailable, Disconnect, Refused
from twisted_push.jsontext import JsonError, Raw, check_keys, decoder, one_line
from twisted_push.model import ChannelGrant

__all__ = ["ChannelOptions", "UnixTime", "channel_grants", "json_text", "malformed", "reader"]

_T = TypeVar("_T", bound=Struct)

UnixTime = Annotated[int, Meta(ge=0, le=2**53)]
"""A time in seconds; 0 is none for the other servers that CMSes know these answers from."""


class _Error(Struct, frozen=True):
    code: Annotated[int, Meta(ge=1, le=2**32 - 1)]
    message: str = ""


class _Disconnect(Struct, frozen=True):
    code: int
    reason: str = ""


class _Answer(Struct, Generic[_T], frozen=True):
    result: _T | tuple[()] | None = None
    error: _Error | None = None
    disconnect: _Disconnect | None = None


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


def reader(shape: type[_T]) -> Callable[[bytes], _T]:
    """Make a function that reads answers of ``result``, ``error`` or ``disconnect``.

    It gives the result, of a shape whose fields are those of the dialect ``connect``. It raises
    `Refused` or `Disconnect` if that is the answer, `CmsUnavailable` if it is none. Where there are
    several, the one that refuses more counts. A result without fields may be written as an empty
    list: PHP has no other empty array.
    """
    decode: Callable[[bytes], Any] = decoder(_Answer[shape])  # type: ignore[valid-type]

    def read(answer: bytes) -> _T:
        try:
            said = decode(answer)
            check_keys(answer)
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
        return _empty(shape) if said.result == () else said.result

    return read


def _empty(shape: type[_T]) -> _T:
    try:
        return convert({}, shape)
    except ValidationError as error:
        raise malformed(JsonError(str(error), syntax=False)) from None
