from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.unit.cms.support import RawCms, RawConnection, the_reactor


@pytest_twisted.async_yield_fixture
async def raw_cms() -> Any:
    """Start servers that send what a script tells them; no connection to one may be left."""
    started: list[tuple[RawCms, Any]] = []

    def start(script: Callable[[RawConnection], None]) -> RawCms:
        cms = RawCms(script)
        port = the_reactor().listenTCP(0, cms, interface="127.0.0.1")
        cms.url = f"http://127.0.0.1:{port.getHost().port}/push?secret=of-the-query"
        started.append((cms, port))
        return cms

    yield start
    for cms, port in started:
        await port.stopListening()
        lost: Deferred[Any] = gatherResults([connection.lost for connection in cms.connections])
        await lost.addTimeout(5, the_reactor())
