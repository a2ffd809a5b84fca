"""``Retry-After``: what it says, and what it may not say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.support import NOW, Outcome, World, world
from twisted_push.cms.breaker import Circuit
from twisted_push.cms.entrance import LEAST_SPREAD
from twisted_push.cms.retryafter import LONGEST, retry_after
from twisted_push.errors import CmsUnavailable


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        (" 17 ", 17),
        ("300", 300),
        ("301", LONGEST),
        ("9" * 5000, LONGEST),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30),
        ("Fri, 15 Jan 2027 08:00:30 -0000", 30),
        ("Fri, 15 Jan 2027 07:59:00 GMT", 0),
        ("Fri, 15 Jan 2038 08:00:00 GMT", LONGEST),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Fri, 99 Jan 2027 08:00:30 GMT", None),
    ],
)
def test_what_it_says(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text())
def test_whatever_it_says(header: str) -> None:
    found = retry_after(header, NOW)
    assert found is None or 0 <= found <= LONGEST


def ask(w: World) -> tuple[str, float | None]:
    error = Outcome(Deferred.fromCoroutine(w.exchange.post(b"{}", {}))).error
    assert isinstance(error, CmsUnavailable)
    return error.why, error.retry_after


@pytest.mark.parametrize("code", [429, 503])
def test_a_question_that_is_not_answered_tells_it(code: int) -> None:
    w = world({})
    w.cms.code = code
    assert ask(w) == (f"status: {code}", None)
    w.cms.headers["Retry-After"] = "12"
    assert ask(w) == (f"status: {code}", 12.0)


@pytest.mark.parametrize("code", [301, 401, 403, 404, 500, 502, 504])
def test_other_statuses_do_not_tell_it(code: int) -> None:
    w = world({})
    w.cms.code, w.cms.headers["Retry-After"] = code, "12"
    assert ask(w)[1] is None
    assert w.exchange.shield.circuit("connect") is Circuit.CLOSED


def test_no_time_at_all_is_nothing_to_pass_on() -> None:
    w = world({})
    w.cms.code, w.cms.headers["Retry-After"] = 503, "0"
    assert ask(w) == ("status: 503", None)
    assert CmsUnavailable("", 0.0).advice == "try again in 1 s"


def test_those_who_were_told_themselves_do_not_come_back_together() -> None:
    w = world(None)
    asking = [
        Outcome(Deferred.fromCoroutine(w.exchange.ask(b"{}", {}, lambda *_: None, asker=name)))
        for name in "abcd"
    ]
    w.cms.code, w.cms.headers["Retry-After"] = 503, "12"
    for _ in asking:
        w.cms.reply({})
    times = [each.error.retry_after for each in asking if isinstance(each.error, CmsUnavailable)]
    assert len(set(times)) == 4
    assert all(12.0 <= (time or 0.0) <= 12.0 + LEAST_SPREAD for time in times)
