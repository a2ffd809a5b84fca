"""A small client of the server's API, for the command line: one request, no reactor.

``POST <url>/api/<method>`` with the key in ``X-API-Key`` and a JSON body; the answer holds
``result`` or ``error``.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

import msgspec
from attrs import field, frozen

from twisted_push.errors import PushError
from twisted_push.jsontext import JsonError, Raw, decoder

__all__ = ["ApiClient", "ApiFailure", "JsonText"]

DEFAULT_TIMEOUT = 10.0
_MAX_ANSWER = 64 * 2**20


@frozen
class ApiFailure(PushError):
    """The request came to nothing. ``message`` is one line for the one who asked."""

    message: str

    def __str__(self) -> str:
        """Give the message."""
        return self.message


@frozen
class JsonText:
    """A parameter that is JSON text already and is sent byte for byte.

    Raises ApiFailure if it is no JSON.
    """

    text: bytes = field()

    @text.validator
    def _is_json(self, _attribute: object, text: bytes) -> None:
        try:
            _decode_any(text)
        except JsonError as error:
            raise ApiFailure(f"this is no JSON: {error}") from None


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Answer(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _Error | None = None


_decode_any: Callable[[bytes], msgspec.Raw] = decoder(Raw)
_decode_answer: Callable[[bytes], _Answer] = decoder(_Answer)


@frozen
class ApiClient:
    """Calls the API of the server at ``url`` (the part before ``/api/``) with a site's key.

    ``timeout`` is in seconds, for the connection and for each wait for data.
    """

    url: str
    key: str = field(repr=False)
    timeout: float = DEFAULT_TIMEOUT

    def call(self, method: str, params: Mapping[str, str | JsonText] | None = None) -> bytes:
        """Call a method and give its result as JSON text; raise ApiFailure."""
        place = self._place()
        body = _body(params or {})
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"}
        kind = (
            http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(place.hostname or "", place.port, timeout=self.timeout)
        try:
            connection.request("POST", f"{place.path.rstrip('/')}/api/{method}", body, headers)
            response = connection.getresponse()
            answer = response.read(_MAX_ANSWER)
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise ApiFailure(f"cannot reach {self.url}: {why}") from None
        except (ValueError, http.client.InvalidURL):  # Line breaks, letters beyond Latin-1.
            raise ApiFailure("the key or the URL cannot be sent in an HTTP request") from None
        except http.client.HTTPException:
            raise ApiFailure(f"no HTTP answer from {self.url}") from None
        finally:
            connection.close()
        return self._result(response, answer)

    def _place(self) -> SplitResult:
        """Give the parts of the URL; raise ApiFailure if it is none that can be used."""
        try:
            place = urlsplit(self.url)
            usable = place.scheme in {"http", "https"} and place.hostname and place.port != 0
        except ValueError:
            raise ApiFailure("the URL cannot be read") from None
        if "@" in place.netloc:
            raise ApiFailure("credentials do not belong into the URL")
        if not usable or place.query or place.fragment:
            raise ApiFailure(
                f"{self.url!r} is not the URL of a server, such as http://localhost:8080"
            )
        return place

    def _result(self, response: http.client.HTTPResponse, answer: bytes) -> bytes:
        """Give the result in an answer; raise ApiFailure if it holds an error, or is none."""
        status = response.status
        if status == http.client.UNAUTHORIZED:
            raise ApiFailure(f"{self.url} refuses the key (401): no site there has it")
        try:
            parsed = _decode_answer(answer)
        except JsonError:
            parsed = _Answer()
        if parsed.error is not None:
            raise ApiFailure(f"error {parsed.error.code}: {_one_line(parsed.error.message)}")
        if status == http.client.SERVICE_UNAVAILABLE:
            raise ApiFailure(f"{self.url} cannot do it now (503); try again later")
        if status != http.client.OK or not bytes(parsed.result):
            text = f"{status} {_one_line(response.reason)}".strip()
            raise ApiFailure(f"{self.url} is no push server, or not its backend port ({text})")
        return bytes(parsed.result)


def _body(params: Mapping[str, str | JsonText]) -> bytes:
    """Give the JSON object of the parameters, the ready-made texts in it untouched."""
    try:
        members = [
            _quoted(name) + b":" + (value.text if isinstance(value, JsonText) else _quoted(value))
            for name, value in params.items()
        ]
    except UnicodeEncodeError:
        raise ApiFailure("only UTF-8 text can be sent") from None
    return b"{" + b",".join(members) + b"}"


def _quoted(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def _one_line(text: str) -> str:
    """Give a text from elsewhere without what could break a line or move a cursor."""
    return "".join(each if each.isprintable() else " " for each in text)
