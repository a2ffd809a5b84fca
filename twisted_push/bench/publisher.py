"""A backend that publishes: over one connection, which it keeps, or at a rate over several."""

from __future__ import annotations

import http.client
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

from twisted_push.bench.process import PATIENCE, BenchError

__all__ = ["MOST_UNDER_WAY", "Publisher", "Steady", "message"]

MOST_UNDER_WAY = 64
"""Requests that wait for their answers at a time, at a steady rate."""


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
        self.another: Callable[[], Publisher] = lambda: Publisher(url, key)
        """Makes one like it, with a connection of its own."""

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


class Steady:
    """Publishes at a steady rate, whether or not what was published before is answered.

    ``connect`` makes a publisher; there are as many as it takes, up to ``most``: the number is
    ``under_way``. ``late`` is by how many seconds a request was sent too late, at worst.
    """

    def __init__(self, connect: Callable[[], Publisher], most: int = MOST_UNDER_WAY) -> None:
        self._connect = connect
        self._most = most
        self._made: list[Publisher] = []
        self._idle: list[Publisher] = []
        self.late = 0.0

    @property
    def under_way(self) -> int:
        return len(self._made)

    def publish(self, rate: float, times: int, act: Callable[[Publisher, float], object]) -> float:
        """Have ``act`` publish so often, told when it was due; give when that began.

        Times are seconds of the monotonic clock. Raises what ``act`` raises.
        """
        begun = time.monotonic()
        waiting: deque[Future[float]] = deque()
        threads = ThreadPoolExecutor(self._most)
        try:
            for number in range(times):
                due = begun + number / rate
                time.sleep(max(0.0, due - time.monotonic()))
                waiting.append(threads.submit(self._act, act, due))
                while waiting and waiting[0].done():
                    self.late = max(self.late, waiting.popleft().result())
            for each in waiting:
                self.late = max(self.late, each.result())
        finally:
            threads.shutdown(cancel_futures=True)
            for publisher in self._made:
                publisher.close()
        return begun

    def _act(self, act: Callable[[Publisher, float], object], due: float) -> float:
        """Publish, and give how late that began. Called in threads."""
        late = time.monotonic() - due
        try:
            publisher = self._idle.pop()
        except IndexError:
            publisher = self._connect()
            self._made.append(publisher)
        act(publisher, due)
        self._idle.append(publisher)
        return late
