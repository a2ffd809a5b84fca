from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import globalLogPublisher

from tests.unit.cms.support import Log


@pytest.fixture
def log() -> Iterator[Log]:
    """What the package logs during the test."""
    observer = Log()
    globalLogPublisher.addObserver(observer)
    yield observer
    globalLogPublisher.removeObserver(observer)


@pytest.fixture(params=[False, True], ids=["plain", "fast"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Whether a server has the fast path: what both serve is to be the same."""
    return bool(request.param)
