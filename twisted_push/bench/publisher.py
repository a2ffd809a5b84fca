"""A backend that publishes over one connection, which it keeps."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from twisted_push.bench.process import PATIENCE, BenchError

__all__ = ["Publisher", "message"]


def message(size: int, at: int) -> dict[str, object]:
    """Make data that have so many bytes as JSON text, and tell when they were published."""
    data: dict[str, object] = {"at": at, "text": ""}
    data["text"] = "x" * max(0, size - len(json.dumps(data, separators=(",", ":"))))
    return data


class Publisher:
    """Calls the API of the server at ``url`` (the part before ``/api/``)."""

    def __init__(self, url: str, key: str) -> None:
        place = urlsplit(url)
        kind = (
            http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(place.hostname or "", place.port, timeout=PATIENCE)
        self._path = place.path.rstrip("/")
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}

    def publish(self, channel: str, size: int, burst: int = 1, at: int | None = None) -> int:
        """Publish so many messages in one request; give when, in ns of the monotonic clock.

        ``at`` is what they say of that, if it was to be earlier. Raises BenchError if the server
        does not take them all.
        """
        begun = time.monotonic_ns()
        data = message(size, begun if at is None else at)
        each = [{"channel": channel, "data": data}] * burst
        if burst == 1:
            self.call("publish", each[0])
        else:
            self.call("batch", {"commands": [{"publish": one} for one in each]})
        return begun

    def call(self, method: str, params: Mapping[str, object]) -> None:
        """Call a method; raise BenchError if the answer is an error."""
        body = json.dumps(params, separators=(",", ":")).encode()
        try:
            self._connection.request("POST", f"{self._path}/api/{method}", body, self._headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{method}: {str(error) or type(error).__name__}") from None
        if response.status != http.client.OK or b'"error":' in answer:
            text = answer[:300].decode(errors="replace")
            raise BenchError(f"{method}: {response.status} {text}")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
