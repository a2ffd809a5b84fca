from __future__ import annotations

import pytest

from tests.unit.demo.driving import DemoWorld


@pytest.fixture
def world() -> DemoWorld:
    return DemoWorld()
