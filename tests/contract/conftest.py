"""The engines, each test on each; and what they leave behind is cleaned up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from tests.contract.bench import ENGINES, Bench, Factory, Restarting, clean_up, run, start

FACTORIES: dict[str, Factory] = {**ENGINES, "restarted": cast("Factory", Restarting)}

ONE_LIFE = {
    # What is there is not there as the same object after a restart.
    "test_a_publication_over_its_time_is_let_go",
    "test_a_publication_without_history_is_let_go_at_once",
    "test_a_publication_that_is_pushed_out_is_let_go",
    "test_a_grant_that_ended_is_let_go",
    # In which order channels were added is not known after a restart.
    "test_a_channel_that_is_added_again_is_the_latest",
    # Nobody uses a content token any more after a restart.
    "test_a_content_token_in_use_has_no_end_until_it_is_released",
    "test_a_channel_is_known_while_its_content_token_is_held",
    "test_a_user_may_hold_a_content_token_by_something_new_when_nobody_uses_it",
    # It looks at the objects of one life.
    "test_when_all_is_over_an_engine_is_as_small_as_it_was",
    "test_it_is_in_the_stream_when_it_is_announced",
    # What was not written when the engine stops is told to nobody any more.
    "test_many_at_once_with_one_key_are_one",
    "test_what_is_published_at_once_keeps_its_order_with_and_without_history",
}
"""Tests that make no sense for an engine that is restarted before each call."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "factory" in metafunc.fixturenames:
        names = ENGINES if metafunc.function.__name__ in ONE_LIFE else FACTORIES
        metafunc.parametrize("factory", list(names), indirect=True)


@pytest.fixture
def factory(request: pytest.FixtureRequest) -> Factory:
    return FACTORIES[request.param]


@pytest.fixture
def bench(factory: Factory) -> Iterator[Bench]:
    bench = start(factory)
    yield bench
    run(bench.engine.stop())
    assert bench.clock.getDelayedCalls() == []


@pytest.fixture(autouse=True)
def _directories() -> Iterator[None]:
    yield
    clean_up()
