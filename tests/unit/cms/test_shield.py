"""The shield: who may ask, who waits, who is told to come back, and what the log says of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, cycle, islice
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tests.unit.cms.support import Log, Outcome, clock_at, world
from twisted_push.cms.breaker import FAILURES, FIRST_REST, SHORT_REST, Circuit
from twisted_push.cms.entrance import (
    GROUP,
    GROUP_EVERY,
    LEAST_SPREAD,
    LONGEST_SPREAD,
    Entrance,
    Turn,
)
from twisted_push.cms.lines import Lines
from twisted_push.cms.requests import Question
from twisted_push.cms.shield import PATIENCE, Shield
from twisted_push.errors import CmsUnavailable
from twisted_push.logbook import LINE_EVERY, Logbook

CLOSING = CmsUnavailable("closing")


AT = "http://cms.test/connect (connect)"


class Bench:
    """A shield on a clock; ``jitter`` is for the spread and for the rests."""

    def __init__(self, most: int = 4, max_waiting: int = 10_000, jitter: float = 0.5) -> None:
        self.clock = clock_at(0.0)
        lines = Lines(Logger("twisted_push.test"), Logbook(self.clock))
        self.jitter = jitter
        self.shield = Shield(most, max_waiting, self.clock, lines, lambda: self.jitter)
        self.shield.abandoned(self.turn())

    @property
    def entrance(self) -> Entrance:
        """The way of those who want to be let in: there is one from the first question on."""
        return dict(self.shield)["connect"]

    def enter(self, patience: float = PATIENCE, kind: str = "connect", asker: str = "") -> Outcome:
        question = Question(f"http://cms.test/{kind}?secret=1", b"", {}, kind=kind, asker=asker)
        return Outcome(self.shield.enter(question, patience))

    def turn(self, kind: str = "connect", asker: str = "") -> Turn:
        outcome = self.enter(kind=kind, asker=asker)
        assert isinstance(outcome.value, Turn)
        return outcome.value

    def open(self, pause: float = 0.0) -> None:
        """Have the CMS fail until it is left alone."""
        for _ in range(1 if pause else FAILURES):
            self.shield.failed(self.turn(), pause=pause)
        assert self.entrance.circuit is Circuit.OPEN

    def fails(self, outcome: Outcome) -> CmsUnavailable:
        assert isinstance(outcome.error, CmsUnavailable)
        return outcome.error


def test_over_the_queue_they_are_told_when_to_come_back(log: Log) -> None:
    b = Bench(most=2, max_waiting=3)
    entered = [b.enter() for _ in range(5)]
    assert [each.done for each in entered] == [True, True, False, False, False]
    errors = [b.fails(b.enter()) for _ in range(100)]
    assert {(error.why, error.busy) for error in errors} == {("overloaded", True)}
    assert {error.retry_after for error in errors} == {0.5 * LEAST_SPREAD}
    assert str(errors[0].refusal) == "111 try again in 1 s"
    assert errors[0].refusal.temporary
    assert str(errors[0].ending) == "3013 try again in 1 s"
    assert errors[0].ending.reconnect
    assert len(log.lines) == 1
    for outcome in entered:
        b.shield.answered(outcome.value)
    assert log.lines == [
        f"3 questions wait for the CMS at {AT}: further clients are told to come back later",
        f"there is room again for questions to the CMS at {AT}",
    ]


@pytest.mark.parametrize(("waiting", "spread"), [(40, 20.0), (1000, LONGEST_SPREAD)])
def test_they_are_spread_over_the_time_that_those_need_who_wait(
    waiting: int, spread: float
) -> None:
    b = Bench(most=1, max_waiting=waiting, jitter=1.0)
    for _ in range(16):  # An answer takes half a second.
        turn = b.turn()
        b.clock.advance(0.5)
        b.shield.answered(turn)
    for _ in range(1 + waiting):
        b.enter()
    assert b.fails(b.enter()).retry_after == spread


def test_they_come_back_at_different_times() -> None:
    b = Bench(most=1, max_waiting=0)
    b.enter()
    found: set[float] = set()
    for step in range(11):
        b.jitter = step / 10
        found.add(b.fails(b.enter()).retry_after or 0.0)
    assert len(found) == 11
    assert (min(found), max(found)) == (0.0, LEAST_SPREAD)


def test_many_who_are_told_are_spread_over_more_time_and_that_is_forgotten() -> None:
    b = Bench(most=1, max_waiting=0, jitter=1.0)
    b.enter()
    for _ in range(4999):
        b.enter()
    assert b.fails(b.enter()).retry_after == 10.0
    b.clock.advance(LONGEST_SPREAD)
    assert b.fails(b.enter()).retry_after == LEAST_SPREAD


def test_a_cms_that_fails_is_left_alone_and_tried_with_one(log: Log) -> None:
    b = Bench()
    b.open()
    waiting = [b.enter() for _ in range(3)]
    assert not any(each.done for each in waiting)
    b.clock.advance(FIRST_REST)
    assert [each.done for each in waiting] == [True, False, False]
    assert b.entrance.circuit.value == "probing"
    b.shield.answered(waiting[0].value)
    assert b.entrance.circuit.value == "closed"
    assert [each.done for each in waiting] == [True, True, False]  # It begins with one again.
    assert log.lines == [
        f"the CMS at {AT} is left alone for 1 s, then tried with one question",
        f"the CMS at {AT} is asked as usual again",
    ]


def test_the_probe_waits_for_what_is_still_out() -> None:
    b = Bench()
    slow = b.turn()
    for _ in range(FAILURES):
        b.shield.failed(b.turn())
    probe = b.enter()
    b.clock.advance(FIRST_REST)
    assert not probe.done
    b.shield.failed(slow)
    assert probe.done


def test_a_probe_that_fails_leaves_it_alone_for_longer(log: Log) -> None:
    b = Bench()
    b.open()
    for rest in (1, 2, 4):
        probe = b.enter(inf)
        b.clock.advance(rest - 0.01)
        assert not probe.done
        b.clock.advance(0.01)
        b.shield.failed(probe.value)
    assert b.entrance.left_alone_for == 8
    assert len(log.lines) == 1  # Nothing has changed.


def test_one_who_comes_when_the_rest_is_over_is_the_probe() -> None:
    b = Bench()
    b.open()
    b.clock.advance(60)
    assert b.enter().done
    assert not b.enter().done


@pytest.mark.parametrize(("patience", "waits"), [(0.0, False), (PATIENCE, False), (inf, True)])
def test_who_will_not_wait_so_long_is_told_at_once(patience: float, waits: bool) -> None:
    b = Bench()
    b.open(pause=30.0)
    outcome = b.enter(patience)
    assert outcome.done is not waits
    if not waits:
        error = b.fails(outcome)
        assert (error.why, error.busy) == ("paused", False)
        assert error.retry_after == 30 + 0.5 * LEAST_SPREAD
        assert str(error.refusal) == "100 try again in 31 s"
        assert str(error.ending) == "3004 try again in 31 s"
    b.clock.advance(30)
    assert b.enter().done is not waits  # The first that waits is the probe, else the next to come.


def test_who_has_a_stale_grant_does_not_wait_for_a_probe_either() -> None:
    b = Bench()
    b.open()
    b.clock.advance(FIRST_REST)
    b.enter()
    assert b.fails(b.enter(0.0)).why == "paused"
    assert not b.enter().done


def test_those_who_wait_already_are_told_a_group_at_a_time() -> None:
    b = Bench(most=1)
    turn = b.turn()
    waiting = [b.enter() for _ in range(250)]
    patient = b.enter(inf)
    b.shield.failed(turn, pause=30.0)
    assert not any(each.done for each in waiting)  # Not in the turn of the failure.
    told = []
    for _ in range(4):
        b.clock.advance(GROUP_EVERY)
        told.append(sum(each.done for each in waiting))
    assert told == [GROUP, 2 * GROUP, 250, 250]
    assert all(b.fails(each).retry_after for each in waiting)
    assert not patient.done
    b.clock.advance(30)
    assert patient.done


def test_a_rest_that_is_short_enough_is_waited_for() -> None:
    b = Bench(most=1)
    waiting = [b.enter() for _ in range(FAILURES + 50)]
    for each in waiting[:FAILURES]:
        b.shield.failed(each.value)
    b.clock.advance(FIRST_REST - 0.01)
    assert sum(each.done for each in waiting) == FAILURES
    b.clock.advance(0.01)
    for each in waiting[FAILURES:]:
        b.shield.answered(each.value)
    assert b.shield.waiting == 0


def test_a_pause_that_is_over_before_the_log_says_so_again(log: Log) -> None:
    """A CMS that wavers makes no flood of lines."""
    b = Bench()
    for _ in range(100):
        b.shield.failed(b.turn(), pause=0.1)
        b.clock.advance(1.0 + b.entrance.left_alone_for)
        b.shield.answered(b.turn())
    assert 2 <= len(log.lines) <= 2 * (1 + b.clock.seconds() / LINE_EVERY)


def test_what_the_log_says_last_is_so(log: Log) -> None:
    """Also if it changed back within the time in which the same is not said twice."""
    b = Bench()
    b.open()
    b.clock.advance(FIRST_REST)
    b.shield.answered(b.turn())
    b.shield.failed(b.turn(), pause=120.0)
    assert [line.removeprefix(f"the CMS at {AT} ") for line in log.lines] == [
        "is left alone for 1 s, then tried with one question",
        "is asked as usual again",
    ]
    b.clock.advance(LINE_EVERY - FIRST_REST)
    assert log.lines[2:] == [
        f"the CMS at {AT} is left alone for 111 s, then tried with one question"
    ]
    b.clock.advance(200)
    b.shield.answered(b.turn())
    assert log.lines[3:] == [f"the CMS at {AT} is asked as usual again"]


def test_a_cms_that_becomes_slow_is_asked_less_and_the_log_says_so(log: Log) -> None:
    b = Bench(most=20)

    def answers(seconds: float, times: int) -> None:
        for _ in range(times):
            turns = [b.turn() for _ in range(b.entrance.limit)]
            b.clock.advance(seconds)
            for turn in turns:
                b.shield.answered(turn)

    answers(0.05, 200)
    assert (b.entrance.limit, log.lines) == (20, [])
    answers(0.5, 30)
    slow = b.entrance.limit
    assert slow < 10
    answers(0.05, 200)
    assert b.entrance.limit == 20
    assert len(log.lines) == 2
    assert log.lines[0].startswith(f"the CMS at {AT} became slow: it is asked ")
    assert log.lines[1] == f"the CMS at {AT} is no longer slow"


def test_a_cms_with_too_much_to_do_is_asked_half_as_much() -> None:
    b = Bench(most=4)
    b.shield.failed(b.turn(), slow=True)
    assert b.entrance.limit == 2
    b.shield.failed(b.turn())
    assert b.entrance.limit == 2


# --- Several kinds of questions, and askers --------------------------------------------------


@pytest.mark.parametrize("pause", [0.0, 60.0])
def test_calls_that_fail_do_not_close_the_door(pause: float, log: Log) -> None:
    b = Bench()
    for _ in range(1 if pause else FAILURES):
        b.shield.failed(b.turn("rpc"), slow=True, pause=pause)
    assert b.shield.circuit("rpc") is Circuit.OPEN
    assert b.shield.circuit("connect") is Circuit.CLOSED
    assert not b.enter(kind="rpc").value
    assert all(b.enter().value for _ in range(4))
    assert [line.partition(" is left alone")[0] for line in log.lines] == [
        "the CMS at http://cms.test/rpc (rpc)"
    ]


def test_calls_that_are_slow_do_not_narrow_the_door() -> None:
    b = Bench(most=6)
    for _ in range(20):
        b.shield.failed(b.turn("rpc", "alice"), slow=True)
        b.clock.advance(2)
    assert b.entrance.limit == 4
    assert dict(b.shield)["rpc"].limit == 1


def test_of_all_kinds_together_the_cms_is_asked_no_more_than_that() -> None:
    b = Bench(most=5)
    calls = [b.enter(kind="rpc") for _ in range(10)]
    comers = [b.enter() for _ in range(10)]
    assert [sum(each.done for each in group) for group in (calls, comers)] == [4, 1]
    for call in calls[:4]:  # Each kind gets a place in its turn.
        b.shield.answered(call.value)
    assert [sum(each.done for each in group) for group in (calls, comers)] == [6, 3]


def test_calls_that_wait_leave_room_for_those_who_come() -> None:
    b = Bench(most=1, max_waiting=2)
    calls = [b.enter(kind="rpc") for _ in range(4)]
    comer = b.enter()
    assert [each.done for each in calls] == [True, False, False, True]
    assert not comer.done
    b.shield.answered(calls[0].value)
    assert comer.done


def test_one_asker_alone_opens_nothing() -> None:
    b = Bench()
    for _ in range(100):
        b.shield.failed(b.turn(asker="alice"), slow=True)
        b.clock.advance(1)
    assert b.shield.circuit("connect").value == "closed"
    for number in range(FAILURES - 1):
        b.shield.failed(b.turn(asker=str(number)))
    assert b.shield.circuit("connect").value == "open"


def waits_among(bad: int, names: Iterator[str], **how: bool) -> list[float]:
    """Have so many put questions that fail, again and again; give how long good ones wait."""
    b = Bench()
    asking = {name: b.enter(inf, asker=name) for name in islice(names, bad)}
    waits: list[float] = []
    for number in range(100):
        good, came = b.enter(asker=f"good {number}"), b.clock.seconds()
        while not good.done:
            b.clock.advance(0.05)
            for name, outcome in tuple(asking.items()):
                if outcome.value:
                    b.shield.failed(outcome.value, **how)
                    del asking[name]
                    name = next(names)
                    asking[name] = b.enter(inf, asker=name)
        assert good.error is None
        b.shield.answered(good.value)
        waits.append(b.clock.seconds() - came)
    return waits


@pytest.mark.parametrize(("bad", "how"), [(30, {"alive": True}), (6, {"slow": True})])
def test_whoever_has_the_cms_stumble_keeps_nobody_out(bad: int, how: dict[str, bool]) -> None:
    """They open the circuit once: then what they ask is known."""
    waits = waits_among(bad, cycle(map(str, range(bad))), **how)
    assert max(waits) <= 2 * PATIENCE
    assert max(waits[5:]) < FIRST_REST


def test_ever_new_ones_that_have_it_stumble_keep_nobody_out_for_long() -> None:
    assert max(waits_among(30, map(str, count()), alive=True)) < 30 * 2 * SHORT_REST


def test_whoever_had_no_answer_lets_the_others_go_first() -> None:
    b = Bench(most=1)
    b.shield.failed(b.turn(asker="alice"))
    turn = b.turn()
    alice, bob = b.enter(asker="alice"), b.enter(asker="bob")
    b.shield.answered(turn)
    assert (alice.done, bob.done) == (False, True)
    b.shield.answered(bob.value)
    b.shield.answered(alice.value)
    turn = b.turn()
    alice, bob = b.enter(asker="alice"), b.enter(asker="bob")
    b.shield.answered(turn)
    assert (alice.done, bob.done) == (True, False)


@pytest.mark.parametrize("state", ["waiting", "open", "probing"])
def test_closing_leaves_nothing(state: str) -> None:
    b = Bench(most=1)
    turn = b.turn()
    waiting = [b.enter(inf) for _ in range(3)]
    if state != "waiting":
        b.shield.failed(turn, pause=5.0)
    if state == "probing":
        b.clock.advance(5)
    b.shield.close(CLOSING)
    if state != "open":
        b.shield.failed(turn if state == "waiting" else waiting[0].value)
    assert [each.says for each in waiting if not each.value] == ["CmsUnavailable closing"] * (
        2 if state == "probing" else 3
    )
    assert b.clock.getDelayedCalls() == []


def test_one_who_leaves_is_not_waited_for() -> None:
    b = Bench(most=1)
    turn = b.turn()
    first, second = b.enter(), b.enter()
    first.deferred.cancel()
    b.shield.answered(turn)
    assert second.done


EVENT = st.sampled_from(
    [*4 * ["enter"], "patient", "stale", "leave", *3 * ["answer"], "fail", "dead", "pause", "wait"]
)


@settings(deadline=None, max_examples=200)
@given(st.lists(EVENT, max_size=80), st.integers(1, 6), st.integers(0, 4))
def test_whatever_happens(events: list[str], most: int, max_waiting: int) -> None:
    b = Bench(most, max_waiting)
    came: list[Outcome] = []
    over: set[int] = set()
    wanted = -inf  # Until when the CMS wants to be left alone.
    for number, event in enumerate(events):
        inside = [each for each in came if each.value and id(each) not in over]
        before = len(inside)
        if event in ("enter", "patient", "stale"):
            patience = {"enter": PATIENCE, "patient": inf, "stale": 0.0}[event]
            came.append(b.enter(patience, asker=" abcdefgh"[number % 9].strip()))
        elif event == "leave" and (waiting := [each for each in came if not each.done]):
            waiting[number % len(waiting)].deferred.cancel()
        elif event == "wait":
            b.clock.advance(0.7 * (1 + number % 5))
        elif inside:
            turn = inside[number % before]
            over.add(id(turn))
            give_back(b.shield, event, turn.value)
            if event == "pause":
                wanted = max(wanted, b.clock.seconds() + 5.0)
        inside = [each for each in came if each.value and id(each) not in over]
        assert len(inside) <= most
        assert not any(wanted - 5.0 < each.value.began < wanted for each in inside)
        assert b.shield.waiting == sum(not each.done for each in came) <= max_waiting
        if b.entrance.circuit is not Circuit.CLOSED:
            assert len(inside) <= max(1, before)
    settle(b, came, over)
    assert all(each.done for each in came)
    assert b.shield.waiting == 0
    b.shield.close(CLOSING)
    assert b.clock.getDelayedCalls() == []


def give_back(shield: Shield, event: str, turn: Turn) -> None:
    if event == "answer":
        shield.answered(turn)
    elif event == "pause":
        shield.failed(turn, slow=True, pause=5.0)
    else:
        shield.failed(turn, slow=event == "dead", alive=event == "fail")


def settle(b: Bench, came: list[Outcome], over: set[int]) -> None:
    """Let the CMS answer whatever it is asked until nobody has to wait."""
    for _ in range(200):
        for each in came:
            if each.value and id(each) not in over:
                over.add(id(each))
                b.shield.answered(each.value)
        b.clock.advance(1.0)


# --- Through the exchange --------------------------------------------------------------------


def ask(w: Any, patience: float = PATIENCE) -> Outcome:
    asking = w.exchange.ask(b"{}", {}, lambda answer, _: answer, patience=patience)
    return Outcome(Deferred.fromCoroutine(asking))


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_obeyed_and_passed_on(code: int, log: Log) -> None:
    w = world(b"{}")
    w.cms.code, w.cms.headers["Retry-After"] = code, "20"
    first = ask(w).error
    assert isinstance(first, CmsUnavailable)
    assert first.advice == "try again in 20 s"
    others = [ask(w).error for _ in range(10)]
    assert all(isinstance(e, CmsUnavailable) and 20 <= (e.retry_after or 0) <= 22 for e in others)
    patient = ask(w, inf)
    w.clock.advance(19.9)
    assert len(w.cms.asked) == 1  # Nobody asked before it was over.
    w.cms.code = 200
    w.clock.advance(0.2)
    assert patient.value == b"{}"
    assert len(w.cms.asked) == 2
    assert ask(w).value == b"{}"
    assert w.stats.callbacks == {"status": 1, "paused": 10, "ok": 2}
    assert [line.partition(" http")[0] for line in log.lines] == [
        "no usable answer from the CMS at",
        "the CMS at",
        "the CMS at",
        "the CMS at",
    ]
    assert w.clock.getDelayedCalls() == []


def test_a_date_in_retry_after() -> None:
    w = world(b"{}")
    w.cms.code, w.cms.headers["Retry-After"] = 503, "Fri, 15 Jan 2027 08:00:30 GMT"
    error = ask(w).error
    assert isinstance(error, CmsUnavailable)
    assert error.retry_after == 30


@pytest.mark.parametrize("code", [500, 404, 301])
def test_each_kind_of_failure_has_its_line_and_no_other(code: int, log: Log) -> None:
    w = world(b"{}")
    w.cms.code = code
    for _ in range(FAILURES - 1):
        ask(w)
    assert len(log.lines) == 1
    w.cms.code, w.cms.answer = 200, b"{}"
    ask(w)
    assert log.lines[1:] == ["the CMS at http://cms.test/push/who answers again"]
