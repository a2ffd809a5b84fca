"""The dialect ``nodejs``: what Drupal's nodejs module answers (spec: drupal-nodejs, section 4).

One message, ``authenticate`` (for the others see ``messages``): the client's own, with our word on
who asks. Its answer has PHP's loose types. Drupal 7 answers with the whole account (password hash,
mail, roles) and the service key: only the fields named here are read, and nothing else of the
answer is kept or passed on. What the answer repeats of the question (``authToken``, ``clientId``)
is not believed: the answer goes to the client that was asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import field, frozen
from msgspec import UNSET, Struct, UnsetType

from twisted_push.cms.answers import channel_grants, malformed
from twisted_push.cms.exchange import Exchange
from twisted_push.cms.messages import FORM, form
from twisted_push.cms.shield import PATIENCE
from twisted_push.errors import CmsUnavailable, Disconnect
from twisted_push.jsontext import JsonError, Raw, check_keys, decoder
from twisted_push.model import ConnectRequest, Grant

__all__ = ["NodejsDialect"]

_YES = (True, "1", "true")
_NO = (False, None, "0", "", "false")
_KNOWN_ERRORS = ("Invalid service key.", "Not implemented")

_Scalar = int | str
_Many = list[_Scalar] | dict[str, _Scalar] | None
"""A PHP array: ``array_unique()`` leaves gaps in the keys, which makes it an object in JSON."""


class _Answer(Struct, frozen=True):
    """The fields that are read.

    ``nodejsValidAuthToken``, ``presenceUids`` and ``contentTokens`` have the module's spelling.
    """

    nodejsValidAuthToken: bool | _Scalar | UnsetType | None = UNSET  # noqa: N815
    uid: _Scalar | None = None
    channels: _Many = None
    presenceUids: _Many = None  # noqa: N815
    contentTokens: list[Any] | dict[str, _Scalar] | None = None  # noqa: N815
    error: Any = None


_decode: Callable[[bytes], _Answer] = decoder(_Answer)
_decode_message: Callable[[bytes], dict[str, Raw]] = decoder(dict[str, Raw])


def _texts(many: _Many) -> list[str]:
    values = many.values() if isinstance(many, dict) else many or ()
    return [str(value) for value in values]


def _user(uid: _Scalar | None) -> str:
    """Give the text of a uid: a string for users, int 0 for anonymous, which is "" here."""
    text = "" if uid is None else str(uid)
    return "" if text == "0" else text


def _content_tokens(tokens: list[Any] | dict[str, _Scalar] | None) -> dict[str, str]:
    """Give the tokens by channel; PHP's empty array is ``[]``."""
    if not tokens:
        return {}
    if isinstance(tokens, list):
        raise CmsUnavailable("malformed: contentTokens is a list")
    return {channel: str(token) for channel, token in tokens.items()}


def read_answer(answer: bytes, asked_at: float) -> Grant:
    """Make a grant of an answer.

    Raises `Disconnect` for a token that the CMS does not know, `CmsUnavailable` for no answer.
    """
    try:
        said = _decode(answer)
        check_keys(answer)
    except JsonError as error:
        raise malformed(error) from None
    valid = said.nodejsValidAuthToken
    if said.error:
        text = said.error if said.error in _KNOWN_ERRORS else "an error"
        raise CmsUnavailable(f"malformed: the CMS answers: {text}")
    if valid is not UNSET and valid in _NO:
        raise Disconnect(3500)
    if valid not in _YES:
        raise CmsUnavailable("malformed: nodejsValidAuthToken is neither true nor false")
    if said.uid is None:
        raise CmsUnavailable("malformed: there is no uid")
    return Grant(
        user=_user(said.uid),
        issued_at=asked_at,
        channels=channel_grants(_texts(said.channels), None),
        presence_to=frozenset(filter(None, map(_user, _texts(said.presenceUids)))),
        content_tokens=_content_tokens(said.contentTokens),
    )


@frozen
class NodejsDialect:
    """Asks a CMS in this dialect."""

    exchange: Exchange
    service_key: str = field(repr=False)

    async def ask(self, request: ConnectRequest, patience: float = PATIENCE) -> Grant:
        """Give the CMS's answer: see `Dialect`; `Refused` is none of the errors."""
        return await self.exchange.ask(
            self._question(request),
            FORM,
            read_answer,
            patience=patience,
            finish=True,
            asker=request.token,
        )

    def _question(self, request: ConnectRequest) -> bytes:
        """Give the form: the client's message, with our word on who asks for what."""
        message: dict[str, object] = {"authToken": request.token}
        if request.data is not None:
            with suppress(JsonError):  # No object: no message of this dialect.
                message.update(_decode_message(request.data))
        message["authToken"] = request.token
        message["messageType"] = "authenticate"
        message["clientId"] = request.client
        return form(message, self.service_key)
