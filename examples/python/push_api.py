"""The push server's HTTP API for a CMS in Python. Standard library alone: copy this file.

    push = PushApi("http://127.0.0.1:8080", key)
    push.publish("article:1", {"title": "Hello"})

A request that got no answer, or a 503, is sent once more. Nothing is published twice by that:
each publication has a name of its own, its ``idempotency_key``.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Publication", "PushApi", "PushError"]

TRIES = 2

_log = logging.getLogger("push")


class PushError(Exception):
    """The push server refused, or could not be asked. ``code`` is its error code, or 0."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Publication:
    """One message. What JSON cannot say is a TypeError or a ValueError here, where it was made."""

    channel: str
    data: Any
    version: int = 0
    """Where ``data`` is a state: one that is not newer than the last is dropped. 0: no version."""

    idempotency_key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        json.dumps(self.data, allow_nan=False)

    def command(self) -> dict[str, Any]:
        """Give the fields of a ``publish``."""
        return {
            "channel": self.channel,
            "data": self.data,
            "version": self.version,
            "idempotency_key": self.idempotency_key,
        }


@dataclass(frozen=True)
class PushApi:
    """The API of one site. Safe to share between threads: every call has its own connection."""

    url: str
    """Where the backend port is, like ``http://127.0.0.1:8080``."""

    key: str = field(repr=False)
    timeout: float = 3.0
    """Seconds for each try: a page of the CMS may be waiting."""

    def publish(self, channel: str, data: Any) -> dict[str, Any]:
        """Send ``data`` to everybody in ``channel``; raise PushError if that did not work."""
        return self.call("publish", Publication(channel, data).command())

    def send(self, publications: Iterable[Publication]) -> int:
        """Send several in one request; give how many the server took. Never raises PushError.

        For the moment after the work is done, when nobody is there to be told of an error: what
        went wrong is in the log.
        """
        waiting = list(publications)
        if not waiting:
            return 0
        commands = [{"publish": publication.command()} for publication in waiting]
        try:
            replies = self.call("batch", {"commands": commands})["replies"]
        except PushError as error:
            _log.error("%d publications were not sent: %s", len(waiting), error)
            return 0
        refused = [
            (publication.channel, reply["error"])
            for publication, reply in zip(waiting, replies, strict=True)
            if "error" in reply
        ]
        for channel, reason in refused:
            _log.error("a publication to %s was refused: %s", channel, reason)
        return len(waiting) - len(refused)

    def positions(self, *channels: str) -> dict[str, Any]:
        """Tell where the channels stand: ``{channel: {"offset", "epoch"}}``, for the page.

        Ask before the content is read, so that nothing comes between. Without an answer it is
        empty: a page must not fail because the push server is away.
        """
        try:
            found: dict[str, Any] = self.call("position", {"channels": channels})["positions"]
        except PushError as error:
            _log.warning("no positions: %s", error)
            return {}
        return found

    def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Call a method of the API; give its result. Raises PushError."""
        body = json.dumps(params, allow_nan=False).encode()
        for left in reversed(range(TRIES)):
            try:
                status, text = self._post(f"/api/{method}", body)
            except (OSError, HTTPException) as error:
                if left:
                    continue
                raise PushError(f"no answer to {method}: {type(error).__name__}") from error
            if status == 503 and left:
                continue
            return _result(method, status, text)
        raise AssertionError("not reached")

    def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        # No redirects and no proxies: the key goes to this address alone.
        address = urlsplit(self.url)
        kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=self.timeout)
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"}
        try:
            connection.request("POST", address.path.rstrip("/") + path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _result(method: str, status: int, text: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        error = answer.get("error")
        if isinstance(error, dict):
            raise PushError(f"{method}: {error.get('message')}", int(error.get("code", 0)))
        result = answer.get("result")
        if status == 200 and isinstance(result, dict):
            return result
    raise PushError(f"{method}: no API answers here (status {status})")
