"""What the server says to a CMS in the dialect ``nodejs`` (spec: drupal-nodejs, section 4).

A form post: ``messageJson``, a JSON object whose ``messageType`` says what it is about, and
``serviceKey``. ``authenticate`` is one of these messages (see ``nodejs``); ``userOnline`` and
``userOffline`` are others (see ``reports``); any other type is for an extension of the CMS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from attrs import field, frozen

from twisted_push.cms.answers import malformed
from twisted_push.cms.exchange import Exchange
from twisted_push.errors import CmsUnavailable
from twisted_push.jsontext import JsonError, Raw, decoder, encode, one_line

__all__ = ["FORM", "Messages", "form"]

FORM: Mapping[str, str] = {"Content-Type": "application/x-www-form-urlencoded"}
"""The headers of a form post."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_check: Callable[[bytes], Raw] = decoder(Raw)
_read_object: Callable[[bytes], dict[str, Raw]] = decoder(dict[str, Raw])
_read_string: Callable[[bytes], str] = decoder(str)


def form(message: Mapping[str, object], service_key: str) -> bytes:
    """Give the body of the post that carries a message."""
    fields = {"messageJson": encode(message), "serviceKey": service_key}
    return urlencode(fields).encode("ascii")


@frozen
class Messages:
    """Says messages to one CMS."""

    exchange: Exchange
    _service_key: str = field(repr=False)

    async def ask(self, message_type: str, fields: Mapping[str, object], asker: str = "") -> bytes:
        """Say one message and give the answer: JSON text in one line, an ``error`` included.

        ``fields`` are values that can be JSON, or JSON text as `Raw`; ``asker`` tells those apart
        who have something said. The service key is not in the answer. Raises `CmsUnavailable`,
        after one line in the log.
        """
        body = self._form(message_type, fields)
        return await self.exchange.ask(
            body, FORM, lambda answer, _: self._read(answer), kind="message", asker=asker
        )

    async def tell(self, message_type: str, fields: Mapping[str, object]) -> None:
        """Say one message, whatever the answer is. Raises `CmsUnavailable`, without a log line."""
        body = self._form(message_type, fields)
        await self.exchange.ask(body, FORM, lambda answer, _: None, quiet=True, kind="online")

    def _form(self, message_type: str, fields: Mapping[str, object]) -> bytes:
        return form({**fields, "messageType": message_type}, self._service_key)

    def _read(self, answer: bytes) -> bytes:
        """Check an answer, and take the service key out of it.

        Drupal 7 adds it as a field of that name. If its text is still somewhere, the answer is
        refused: it goes to a browser.
        """
        try:
            _check(answer)
            text = _without_key(answer.strip())
            shown = _STRING.sub(_plainly, text)
        except JsonError as error:
            raise malformed(error) from None
        if self._service_key and encode(self._service_key)[1:-1] in shown:
            raise CmsUnavailable("malformed: it has the service key in it")
        return one_line(text)


def _without_key(text: bytes) -> bytes:
    if not text.startswith(b"{"):
        return text
    fields = _read_object(text)
    if fields.pop("serviceKey", None) is None:
        return text
    return encode(fields)


def _plainly(string: re.Match[bytes]) -> bytes:
    """Write a JSON string without needless escapes: PHP has many ways to write a key."""
    return encode(_read_string(string.group()))
