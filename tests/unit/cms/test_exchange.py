"""The exchange with a CMS in memory: what goes out, what stays, what is counted."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from tests.unit.cms.support import URL, Log, Outcome, World, clock_at, config, world
from twisted_push.cms.exchange import Exchange
from twisted_push.errors import CmsUnavailable, Disconnect, Refused
from twisted_push.stats import SiteStats


def post(w: World, body: bytes = b"{}", **headers: str) -> Outcome:
    return Outcome(Deferred.fromCoroutine(w.exchange.post(body, headers)))


def test_what_goes_out() -> None:
    w = world(b"answer")
    assert post(w, b"question", Cookie="a=1; b=2").value == b"answer"
    [asked] = w.cms.asked
    assert asked.body == b"question"
    assert asked.request.uri == b"/push/who?secret=of-the-query"
    sent = {k: v for k, v in asked.request.requestHeaders.getAllRawHeaders() if k != b"Connection"}
    assert sent == {
        b"Accept": [b"application/json"],
        b"Accept-Encoding": [b"identity"],
        b"Content-Length": [b"8"],
        b"Cookie": [b"a=1; b=2"],
        b"Host": [b"cms.test"],
        b"User-Agent": [b"twisted_push"],
    }


def test_header_values_go_out_as_the_browser_sent_them() -> None:
    w = world(b"")
    text = "Zoë Ångström".encode().decode("iso-8859-1")
    post(w, Cookie=text, Name="Καλημέρα")
    [asked] = w.cms.asked
    assert asked.header("Cookie") == "Zoë Ångström".encode()
    assert asked.header("Name") == "Καλημέρα".encode()


def test_a_line_break_in_a_value_makes_no_header() -> None:
    w = world(b"")
    post(w, Cookie="a=1\r\nX-User: admin")
    [asked] = w.cms.asked
    assert asked.header("X-User") is None


def test_basic_auth() -> None:
    w = world(b"", basic_auth=("push", "pass:word"))
    post(w, Authorization="Bearer of-the-browser")
    [asked] = w.cms.asked
    assert asked.header("Authorization") == b"Basic cHVzaDpwYXNzOndvcmQ="


def test_a_cookie_of_an_answer_is_not_sent_with_the_next_question() -> None:
    """Drupal starts a session with each answer: the next question is of somebody else."""
    w = world(b"")
    w.cms.headers["Set-Cookie"] = "SESSabc=of-alice; path=/; HttpOnly"
    post(w)
    post(w)
    assert [asked.header("Cookie") for asked in w.cms.asked] == [None, None]


def test_a_set_cookie_that_makes_no_sense_does_no_harm() -> None:
    w = world(b"")
    w.cms.headers["Set-Cookie"] = "a=1; expires=" + "9" * 5000 + "; " * 500 + "="
    assert post(w).value == b""


def test_the_timeout_counts_from_the_turn_not_from_the_queue(log: Log) -> None:
    w = world(None, max_concurrent=1, timeout=5.0)
    first, second = post(w), post(w)
    assert (w.cms.open, w.stats.callbacks_in_flight) == (1, 1)
    w.clock.advance(4)
    assert w.cms.open == 1
    w.cms.reply(b"one")
    assert first.value == b"one"
    w.clock.advance(4.9)
    assert not second.done
    w.clock.advance(0.2)
    assert second.says == "CmsUnavailable timeout: after 5 s"
    assert w.cms.open == 0
    assert w.cms.hung_up == 1
    assert w.stats.callbacks == {"ok": 1, "timeout": 1}
    assert w.stats.callbacks_in_flight == 0
    assert w.stats.callback_duration.total == pytest.approx(9.1)
    assert w.clock.getDelayedCalls() == []
    assert log.lines == [
        "no usable answer from the CMS at http://cms.test/push/who: timeout: after 5 s"
    ]


def test_over_the_queue_nobody_is_asked(log: Log) -> None:
    w = world(None, max_concurrent=1, max_waiting=1)
    outcomes = [post(w) for _ in range(4)]
    assert [outcome.says for outcome in outcomes] == [
        "",
        "",
        "CmsUnavailable overloaded",
        "CmsUnavailable overloaded",
    ]
    assert w.stats.callbacks == {"overloaded": 2}
    assert sum(w.stats.callback_duration.counts) == 0
    assert len(log.lines) == 1
    w.cms.reply(b"")
    w.cms.reply(b"")
    assert w.stats.callbacks == {"overloaded": 2, "ok": 2}
    assert log.lines == [
        "1 questions wait for the CMS at http://cms.test/push/who (connect): further clients are"
        " told to come back later",
        "there is room again for questions to the CMS at http://cms.test/push/who (connect)",
    ]


def test_who_cancels_in_the_queue_is_never_asked_about(log: Log) -> None:
    w = world(None, max_concurrent=1)
    first, second, third = post(w, b"1"), post(w, b"2"), post(w, b"3")
    second.deferred.cancel()
    assert second.says.startswith("CancelledError")
    w.cms.reply(b"")
    w.cms.reply(b"")
    assert first.done
    assert third.done
    assert [asked.body for asked in w.cms.asked] == [b"1", b"3"]
    assert log.lines == []


@pytest.mark.parametrize("how", ["answer", "timeout"])
def test_who_cancels_keeps_its_turn_until_the_cms_is_done(how: str) -> None:
    """The CMS works on it all the same: another question would be one too many for it."""
    w = world(None, max_concurrent=1, timeout=5.0)
    first, second = post(w, b"1"), post(w, b"2")
    first.deferred.cancel()
    assert first.says.startswith("CancelledError")
    w.clock.advance(4)
    assert [asked.body for asked in w.cms.asked] == [b"1"]
    if how == "answer":
        w.cms.reply(b"one")
    else:
        w.clock.advance(1)
    assert [asked.body for asked in w.cms.asked] == [b"1", b"2"]
    assert w.cms.open == 1
    w.cms.reply(b"two")
    assert second.value == b"two"
    assert w.stats.callbacks == ({"ok": 2} if how == "answer" else {"timeout": 1, "ok": 1})
    assert w.clock.getDelayedCalls() == []


def test_who_wants_the_answer_in_any_case_gets_it_though_cancelled() -> None:
    w = world(None)
    asking = w.exchange.ask(b"", {}, lambda answer, _: answer, finish=True)
    outcome = Outcome(Deferred.fromCoroutine(asking))
    outcome.deferred.cancel()
    assert not outcome.done
    w.cms.reply(b"answer")
    assert outcome.value == b"answer"


async def test_a_bug_in_a_reader_whose_asker_is_gone_is_logged(flush_logged_errors: Any) -> None:
    w = world(None)

    def read(answer: bytes, asked_at: float) -> None:
        raise KeyError("bug")

    outcome = Outcome(Deferred.fromCoroutine(w.exchange.ask(b"", {}, read)))
    outcome.deferred.cancel()
    w.cms.reply(b"answer")
    assert len(flush_logged_errors(KeyError)) == 1
    assert w.stats.callbacks_in_flight == 0


@pytest.mark.parametrize(
    ("error", "outcome", "lines"),
    [
        (Refused(109), "refused", 0),
        (Disconnect(4501, "no"), "refused", 0),
        (CmsUnavailable("malformed: nonsense"), "malformed", 1),
    ],
    ids=str,
)
def test_what_the_reader_of_an_answer_raises(
    error: Exception, outcome: str, lines: int, log: Log
) -> None:
    w = world(b"")

    def read(answer: bytes, asked_at: float) -> None:
        raise error

    result = Outcome(Deferred.fromCoroutine(w.exchange.ask(b"", {}, read)))
    assert result.says == f"{type(error).__name__} {error}"
    assert w.stats.callbacks == {outcome: 1}
    assert len(log.lines) == lines


def test_the_reader_learns_when_the_question_went_out() -> None:
    w = world(None, max_concurrent=1)
    times: list[float] = []
    began = w.clock.seconds()
    for _ in range(2):
        Outcome(Deferred.fromCoroutine(w.exchange.ask(b"", {}, lambda _, at: times.append(at))))
    w.clock.advance(3)
    w.cms.reply(b"")
    w.clock.advance(1)
    w.cms.reply(b"")
    assert times == [began, began + 3]


def test_a_long_queue_of_failures_does_not_exhaust_the_stack() -> None:
    @implementer(IAgent)
    class Broken:
        answers: list[Deferred[IResponse]]

        def request(self, *_: Any) -> Deferred[IResponse]:
            if not asked:
                asked.append(Deferred())
                return asked[0]
            return fail(ConnectionRefusedError())

    asked: list[Deferred[IResponse]] = []
    stats = SiteStats()
    clock = clock_at()
    exchange = Exchange(config(max_concurrent=1), clock, stats, Broken())
    outcomes = [Outcome(Deferred.fromCoroutine(exchange.post(b"", {}))) for _ in range(3000)]
    asked[0].errback(ConnectionRefusedError())
    # After the first few the CMS is left alone, and those who wait are told so after a while.
    while not all(outcome.done for outcome in outcomes):
        clock.advance(0.1)
    assert {outcome.says for outcome in outcomes} == {
        "CmsUnavailable connection: ConnectionRefusedError",
        "CmsUnavailable paused",
    }
    assert stats.callbacks["connection"] + stats.callbacks["paused"] == 3000


def test_a_password_in_the_address_is_not_logged(log: Log) -> None:
    w = world(b"", url=URL.replace("http://", "http://user:pass-word@"))
    w.cms.code = 500
    post(w)
    assert len(log.lines) == 1
    assert "pass-word" not in log.everything


def test_no_module_imports_the_reactor() -> None:
    code = "import sys, twisted_push.cms.gate; print('twisted.internet.reactor' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
