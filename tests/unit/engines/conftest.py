"""Directories of journals are removed after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.bench import clean_up


@pytest.fixture(autouse=True)
def _directories() -> Iterator[None]:
    yield
    clean_up()
