"""What the server says to Drupal: any message, and who is online. Bytes as captured."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.drupal import Drupal
from tests.unit.cms.support import (
    NOW,
    SERVICE_KEY,
    FakeEngine,
    Log,
    Outcome,
    asked,
    clock_at,
    config,
    world,
)
from twisted_push.cms.exchange import Exchange
from twisted_push.cms.gate import make_gate
from twisted_push.cms.messages import Messages
from twisted_push.cms.reports import LONGEST_DELAY, MAX_WAITING, reports_to_drupal
from twisted_push.config import SiteConfig
from twisted_push.jsontext import Raw
from twisted_push.stats import SiteStats

# --- Any message -----------------------------------------------------------------------------


def ask(answer: object, key: str = SERVICE_KEY) -> Outcome:
    messages = Messages(world(answer).exchange, key)
    return Outcome(Deferred.fromCoroutine(messages.ask("chat", {"a": 1})))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (
            "userOnline",
            b"messageJson=%7B%22uid%22%3A%222%22%2C%22messageType%22%3A%22userOnline%22%7D"
            b"&serviceKey=lab-service-key",
        ),
        (
            "userOffline",
            b"messageJson=%7B%22uid%22%3A%222%22%2C%22messageType%22%3A%22userOffline%22%7D"
            b"&serviceKey=lab-service-key",
        ),
    ],
)
def test_a_message_is_byte_for_byte_what_the_original_server_sent(kind: str, body: bytes) -> None:
    w = world({"status": "success"})
    messages = Messages(w.exchange, "lab-service-key")
    assert Outcome(Deferred.fromCoroutine(messages.tell(kind, {"uid": "2"}))).done
    [question] = w.cms.asked
    assert question.body == body
    assert question.header("Content-Type") == b"application/x-www-form-urlencoded"


def test_fields_go_along_as_they_were_written_and_the_type_is_ours() -> None:
    w = world({})
    fields = {"messageType": "authenticate", "n": Raw(b"1.10"), "big": Raw(b"1e400"), "é": "&=%"}
    Outcome(Deferred.fromCoroutine(Messages(w.exchange, SERVICE_KEY).ask("chat", fields)))
    form = w.cms.asked[0].form
    assert form["messageJson"] == '{"messageType":"chat","n":1.10,"big":1e400,"é":"&=%"}'
    assert form["serviceKey"] == SERVICE_KEY


@pytest.mark.parametrize(
    "answer",
    [
        b'{"z": 1.10, "a": [1e400, 12345678901234567890123], "u": "\\u00e9\\/"}',
        b'{"error":"Not implemented"}',
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b'{"other":"serviceKey"}',
    ],
)
def test_an_answer_is_given_as_it_was_written(answer: bytes) -> None:
    assert ask(b" " + answer + b"\r\n").value == answer


def test_an_answer_is_one_line() -> None:
    assert ask(b'{\r\n "a":\n1}').value == b'{   "a": 1}'


@pytest.mark.parametrize("name", ["serviceKey", r"service\u004bey"])
def test_the_service_key_is_taken_out_of_an_answer(name: str) -> None:
    answer = f'{{"a": 1.10, "{name}": "{SERVICE_KEY}", "b": "x"}}'
    assert ask(answer.encode()).value == b'{"a":1.10,"b":"x"}'
    assert ask(f'{{"{name}":null,"serviceKey":"{SERVICE_KEY}"}}'.encode()).value == b"{}"


KEY = "p/q&\"<>' \\-service-key"


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps({"account": {"serviceKey": KEY}}),
        json.dumps({"text": f"before{KEY}after"}),
        json.dumps({KEY: 1}),
        json.dumps(KEY),
        json.dumps([["x", KEY]]),
        json.dumps({"serviceKey": 1, "servicekey": KEY}),
        json.dumps({"k": KEY}).replace("/", r"\/").replace("&", r"\u0026").replace("p", r"\u0070"),
        '"' + "".join(f"\\u{ord(each):04X}" for each in KEY) + '"',
    ],
)
def test_an_answer_with_the_service_key_elsewhere_is_refused(answer: str, log: Log) -> None:
    outcome = ask(answer.encode(), KEY)
    assert outcome.says == "CmsUnavailable malformed: it has the service key in it"
    assert len(log.lines) == 1
    assert "service-key" not in log.everything


def test_without_a_service_key_there_is_none_to_look_for() -> None:
    assert ask({"a": "b"}, "").value == b'{"a": "b"}'


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"{'a': 1}",
        b"{} {}",
        b'{"a": NaN}',
        b'{"a": "secret \xff"}',
        b'{"a": "secret \\ud800"}',
        b'["secret \\x"]',
        b"[" * 200 + b"]" * 200,
    ],
)
def test_an_answer_that_is_no_json(answer: bytes, log: Log) -> None:
    outcome = ask(answer)
    assert outcome.says.startswith("CmsUnavailable malformed: no JSON")
    assert "secret" not in outcome.says + log.everything
    assert len(log.lines) == 1


def test_a_failure_of_a_question_has_a_line_and_that_of_a_report_has_none(log: Log) -> None:
    w = world({"a": "b"})
    w.cms.code = 503
    messages = Messages(w.exchange, SERVICE_KEY)
    assert Outcome(Deferred.fromCoroutine(messages.ask("chat", {}))).says == (
        "CmsUnavailable status: 503"
    )
    assert len(log.lines) == 1
    assert SERVICE_KEY not in log.everything
    assert Outcome(Deferred.fromCoroutine(messages.tell("userOnline", {}))).says == (
        "CmsUnavailable status: 503"
    )
    assert len(log.lines) == 1
    assert w.stats.callbacks == {"status": 2}


@pytest.mark.parametrize("answer", [b"", b"<html>", {"error": "Not implemented"}, SERVICE_KEY])
def test_the_answer_to_a_report_does_not_matter(answer: object) -> None:
    messages = Messages(world(answer).exchange, SERVICE_KEY)
    outcome = Outcome(Deferred.fromCoroutine(messages.tell("userOnline", {"uid": "2"})))
    assert (outcome.done, outcome.error) == (True, None)


def test_the_service_key_is_not_shown() -> None:
    assert SERVICE_KEY not in repr(Messages(world().exchange, SERVICE_KEY))


# --- Who is online ---------------------------------------------------------------------------


class Bench:
    """Reports to a Drupal, on a clock that ticks."""

    def __init__(self, jitter: float = 1.0, **changes: Any) -> None:
        self.clock, self.stats, self.drupal = clock_at(), SiteStats(), Drupal()
        self.config = config(dialect="nodejs", **changes)
        self.exchange = Exchange(self.config, self.clock, self.stats, self.drupal.agent)
        self.reports = reports_to_drupal(
            Messages(self.exchange, SERVICE_KEY),
            self.clock,
            self.config.max_concurrent,
            lambda: jitter,
        )

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)
            self.drupal.agent.flush()
            self.reports.tick(self.clock.seconds())

    def attempts(self, seconds: float) -> list[float]:
        """Give the times, in seconds from now, at which the CMS was asked."""
        found = []
        began = self.clock.seconds()
        for _ in range(round(seconds / 0.25)):
            before = len(self.drupal.asked)
            self.advance(0.25)
            found += [self.clock.seconds() - began] * (len(self.drupal.asked) - before)
        return found

    @property
    def idle(self) -> bool:
        return (self.reports.waiting, self.reports.sending) == (0, 0)


def test_who_comes_and_goes_is_told_in_order() -> None:
    bench = Bench()
    for user, online in (("2", True), ("3", True), ("2", False), ("alice", True), ("2", True)):
        bench.reports.report(user, online)
    assert bench.drupal.told == [
        ("2", "online"),
        ("3", "online"),
        ("2", "offline"),
        ("alice", "online"),
        ("2", "online"),
    ]
    assert bench.idle
    assert bench.stats.callbacks == {"ok": 5}


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ([], ["online"]),
        ([False], ["online", "offline"]),
        ([False, True], ["online"]),
        ([False, True, False], ["online", "offline"]),
        ([True, True], ["online"]),
    ],
)
def test_only_the_newest_state_follows_what_is_being_told(
    states: list[bool], told: list[str]
) -> None:
    bench = Bench()
    bench.drupal.hangs = True
    bench.reports.report("2", True)
    for state in states:
        bench.reports.report("2", state)
    assert len(bench.drupal.held) == 1
    bench.drupal.hangs = False
    bench.drupal.answer_oldest()
    assert bench.drupal.told == [("2", state) for state in told]
    assert bench.idle


def test_who_comes_back_before_the_cms_heard_of_the_going_is_not_mentioned() -> None:
    bench = Bench()
    bench.reports.report("2", True)
    bench.drupal.hangs = True
    for user in ("a", "b", "c", "d"):
        bench.reports.report(user, True)
    bench.reports.report("2", False)
    assert bench.reports.waiting == 1
    bench.reports.report("2", True)
    assert bench.reports.waiting == 0
    bench.reports.report("2", False)
    bench.drupal.hangs = False
    bench.drupal.answer_oldest()
    assert bench.drupal.told == [("2", "online"), ("a", "online"), ("2", "offline")]


def test_who_comes_back_while_the_cms_is_told_of_the_going() -> None:
    bench = Bench()
    bench.reports.report("2", True)
    bench.drupal.hangs = True
    bench.reports.report("2", False)
    bench.reports.report("2", True)
    bench.drupal.hangs = False
    bench.drupal.answer_oldest()
    assert bench.drupal.told == [("2", "online"), ("2", "offline"), ("2", "online")]
    assert bench.idle


def test_who_left_before_the_cms_heard_of_the_coming_is_reported_as_gone() -> None:
    # It may know the user from before this server was started.
    bench = Bench()
    bench.drupal.online = {"2"}
    bench.drupal.fails = True
    bench.reports.report("1", True)
    bench.reports.report("2", True)
    bench.reports.report("2", False)
    bench.drupal.fails = False
    bench.advance(3)
    assert bench.drupal.online == {"1"}


def test_users_are_told_of_four_at_a_time_in_the_order_they_came() -> None:
    bench = Bench()
    bench.drupal.hangs = True
    users = [str(number) for number in range(1, 11)]
    for user in users:
        bench.reports.report(user, True)
    told = []
    while bench.drupal.held:
        assert len(bench.drupal.held) <= 4
        told.append(bench.drupal.held[0]["uid"])
        bench.drupal.answer_oldest()
    assert told == users
    assert bench.drupal.most_at_once == 4
    assert bench.drupal.online == set(users)


@pytest.mark.parametrize(("concurrent", "at_once"), [(1, 1), (4, 1), (8, 2), (20, 4), (100, 4)])
def test_reports_leave_room_for_questions(concurrent: int, at_once: int) -> None:
    bench = Bench(max_concurrent=concurrent)
    bench.drupal.hangs = True
    for number in range(20):
        bench.reports.report(str(number), True)
    assert len(bench.drupal.held) == bench.reports.sending == at_once
    bench.reports.close()


def test_ten_thousand_reports_at_once_are_a_loop_and_no_recursion() -> None:
    bench = Bench()
    bench.drupal.hangs = True
    for number in range(1500):
        bench.reports.report(str(number), True)
    bench.drupal.hangs = False
    for _ in range(4):
        bench.drupal.answer_oldest()
    assert len(bench.drupal.online) == 1500
    assert bench.idle


# --- A CMS that fails ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jitter", "times"),
    [(1.0, [1, 3, 7, 15, 31, 63, 123, 183]), (0.0, [0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5, 91.5])],
)
def test_a_report_is_tried_again_with_growing_delays(jitter: float, times: list[float]) -> None:
    bench = Bench(jitter)
    bench.drupal.fails = True
    bench.reports.report("2", True)
    assert bench.attempts(times[-1]) == times
    bench.drupal.fails = False
    assert len(bench.attempts(60)) == 1
    assert bench.drupal.told == [("2", "online")]
    assert bench.attempts(120) == []
    assert bench.idle


def test_a_newer_state_replaces_one_that_failed() -> None:
    bench = Bench()
    bench.drupal.fails = True
    bench.reports.report("2", True)
    bench.reports.report("2", False)
    bench.drupal.fails = False
    assert bench.attempts(10) == [1]
    assert bench.drupal.told == [("2", "offline")]


def test_what_failed_may_have_been_heard() -> None:
    bench = Bench()
    bench.reports.report("2", True)
    bench.drupal.fails = bench.drupal.late = True
    bench.reports.report("2", False)
    assert bench.drupal.online == set()
    bench.reports.report("2", True)
    bench.drupal.fails = False
    bench.advance(2)
    assert bench.drupal.online == {"2"}


def test_a_cms_that_is_down_is_tried_with_one_report_at_a_time() -> None:
    bench = Bench()
    bench.drupal.hangs = True
    for number in range(50):
        bench.reports.report(str(number), True)
    assert bench.attempts(5) == []  # The first four have this long.
    assert bench.drupal.held == []
    assert bench.attempts(60) == [1, 8, 17, 30, 51]  # Delays of 1, 2, 4, 8, 16 after each timeout.
    bench.drupal.hangs = False
    bench.advance(LONGEST_DELAY + 1)
    assert len(bench.drupal.online) == 50
    assert bench.idle


def test_a_user_whom_the_cms_refuses_does_not_keep_the_others() -> None:
    bench = Bench()
    bench.drupal.refused = {"7"}
    for number in range(20):
        bench.reports.report(str(number), True)
    bench.advance(1.25)
    assert bench.drupal.online == {str(number) for number in range(20)} - {"7"}
    assert (bench.reports.waiting, bench.reports.sending) == (1, 0)
    assert len(bench.attempts(600)) < 20
    bench.drupal.refused = set()
    bench.advance(61)
    assert "7" in bench.drupal.online


def test_an_answer_ends_the_pause_after_a_failure() -> None:
    bench = Bench()
    bench.drupal.hangs = True
    for number in range(10):
        bench.reports.report(str(number), True)
    bench.drupal.hangs = False
    bench.drupal.refused = {"0"}
    bench.drupal.answer_oldest()
    assert len(bench.drupal.asked) == 4
    for _ in range(3):
        bench.drupal.answer_oldest()
    assert bench.drupal.online == {str(number) for number in range(1, 10)}


def test_a_cms_that_is_down_makes_one_line_and_not_one_per_user(log: Log) -> None:
    bench = Bench()
    bench.drupal.fails = True
    for number in range(1000):
        bench.reports.report(str(number), True)
    bench.advance(300)
    line, circuit = log.lines
    assert "(online) is left alone for" in circuit
    assert line == (
        "the CMS at http://cms.test/push/who cannot be told who is online: status: 503;"
        " it is tried again"
    )
    bench.drupal.fails = False
    bench.advance(120)
    assert log.lines[2:] == [
        "the CMS at http://cms.test/push/who (online) is asked as usual again",
        "the CMS at http://cms.test/push/who is told who is online again",
    ]
    assert len(bench.drupal.online) == 1000


def test_a_cms_that_wavers_makes_at_most_two_lines_a_minute(log: Log) -> None:
    bench = Bench()
    for number in range(1200):
        bench.drupal.fails = number % 10 < 5
        bench.reports.report(str(number), True)
        bench.advance(0.25)
    assert 2 <= len(log.lines) <= 10
    bench.drupal.fails = False
    bench.advance(200)
    assert log.lines[-1].endswith("is told who is online again")
    assert len(bench.drupal.online) == 1200


def test_many_users_flapping_while_the_cms_hangs_stay_bounded() -> None:
    bench = Bench(timeout=1e6, max_concurrent=12)
    bench.drupal.hangs = True
    for turn in range(21):
        for number in range(1000):
            bench.reports.report(str(number), turn % 2 == 0)
    assert (bench.reports.waiting, bench.reports.sending) == (997, 3)
    assert len(bench.drupal.held) == len(bench.drupal.asked) == 3
    # There is room for those who come in.
    Outcome(Deferred.fromCoroutine(bench.exchange.post(b'messageJson={"messageType":1}', {})))
    assert len(bench.drupal.asked) == 4
    bench.exchange.close()
    bench.reports.close()
    assert bench.clock.getDelayedCalls() == []


def test_of_too_many_who_wait_the_oldest_are_forgotten(log: Log) -> None:
    bench = Bench(timeout=1e6)
    bench.drupal.hangs = True
    for number in range(MAX_WAITING + 4 + 30):
        bench.reports.report(str(number), True)
        assert bench.reports.waiting <= MAX_WAITING
    assert (bench.reports.waiting, bench.reports.sending) == (MAX_WAITING, 4)
    bench.advance(0.25)
    for number in range(10):
        bench.reports.report(f"x{number}", True)
    bench.advance(50)
    assert log.lines == [
        "the CMS at http://cms.test/push/who is not told of a user who came or went: too many wait"
    ]
    bench.advance(10)
    assert len(log.lines) == 2
    assert "not told of 39 more users" in log.lines[1]
    for _ in range(5):
        bench.drupal.answer_oldest()
    assert bench.drupal.held[-1]["uid"] == "48"  # 4 to 43 were forgotten.
    bench.reports.close()


# --- The end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["reports", "exchange"])
def test_closing_in_the_middle(first: str, log: Log) -> None:
    bench = Bench()
    bench.drupal.hangs = True
    for number in range(20):
        bench.reports.report(str(number), True)
    for owner in (bench.reports, bench.exchange) if first == "reports" else (bench.exchange,):
        owner.close()
    bench.reports.close()
    bench.reports.report("99", True)
    bench.advance(100)
    assert bench.drupal.held == []
    assert len(bench.drupal.asked) == 4
    assert bench.idle
    assert bench.clock.getDelayedCalls() == []
    assert log.lines == []


def test_closing_waits_for_nothing_that_is_being_told_and_ends_no_other_question() -> None:
    bench = Bench()
    bench.drupal.hangs = True
    bench.reports.report("2", True)
    post = bench.exchange.post(b'messageJson={"messageType":"chat"}', {})
    question = Outcome(Deferred.fromCoroutine(post))
    bench.reports.close()
    bench.drupal.answer_oldest()
    assert [each["messageType"] for each in bench.drupal.held] == ["chat"]
    bench.exchange.close()
    assert question.says == "CmsUnavailable the server is stopping"
    assert bench.clock.getDelayedCalls() == []


def test_closing_while_reports_wait_for_another_attempt() -> None:
    bench = Bench()
    bench.drupal.fails = True
    for number in range(20):
        bench.reports.report(str(number), True)
    bench.reports.close()
    assert bench.attempts(100) == []
    assert bench.idle


def test_a_report_that_cannot_be_written_is_dropped(flush_logged_errors: Any) -> None:
    bench = Bench()
    bench.reports.report("\ud800", True)
    bench.reports.report("2", True)
    assert bench.drupal.online == {"2"}
    assert bench.idle
    assert len(flush_logged_errors(UnicodeEncodeError)) == 1


# --- The gate --------------------------------------------------------------------------------


def test_a_site_of_this_dialect_has_them_and_its_end_is_theirs() -> None:
    clock, drupal = clock_at(), Drupal()
    drupal.hangs = True
    site = SiteConfig(callback=config(dialect="nodejs"))
    gate = make_gate(site, FakeEngine(clock).engine, clock, SiteStats(), drupal.agent)
    assert gate.messages is not None
    assert gate.reports is not None
    question = Outcome(Deferred.fromCoroutine(gate.messages.ask("chat", {"uid": "2"})))
    gate.reports.report("2", True)
    assert [m["messageType"] for m in drupal.held] == ["chat", "userOnline"]
    assert SERVICE_KEY not in repr(gate)
    gate.close()
    assert question.says == "CmsUnavailable the server is stopping"
    assert drupal.held == []
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("callback", [None, config(dialect="connect")])
def test_others_have_none(callback: Any) -> None:
    clock = clock_at()
    gate = make_gate(SiteConfig(callback=callback), FakeEngine(clock).engine, clock, SiteStats())
    assert (gate.messages, gate.reports) == (None, None)
    gate.close()


def test_who_lets_in_and_who_is_told_share_the_turns() -> None:
    clock, drupal = clock_at(), Drupal()
    drupal.hangs = True
    callback = config(dialect="nodejs", max_concurrent=4)
    site = SiteConfig(callback=callback)
    gate = make_gate(site, FakeEngine(clock).engine, clock, SiteStats(), drupal.agent)
    assert gate.reports is not None
    for number in range(100):
        gate.reports.report(str(number), True)
    outcomes = [Outcome(gate.authenticate(asked(f"2-{number}"))) for number in range(5)]
    assert [m["messageType"] for m in drupal.held] == ["userOnline"] + 3 * ["authenticate"]
    drupal.hangs = False
    while drupal.held:
        drupal.answer_oldest()
    assert [outcome.value.user for outcome in outcomes] == ["2"] * 5
    assert len(drupal.online) == 100
    gate.close()


# --- Any course of events --------------------------------------------------------------------

USERS = ("1", "2", "3", "4", "5", "6")
EVENT = st.one_of(
    st.tuples(st.just("report"), st.sampled_from(USERS), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from((0.25, 1.0, 6.0, 90.0))),
    st.tuples(st.just("cms"), st.sampled_from(("works", "fails", "fails late", "hangs"))),
    st.tuples(st.just("refuse"), st.sampled_from(USERS)),
    st.tuples(st.just("answer")),
)


def happen(bench: Bench, event: tuple[Any, ...], state: dict[str, bool]) -> None:
    drupal = bench.drupal
    if event[0] == "report":
        state[event[1]] = event[2]
        bench.reports.report(event[1], event[2])
    elif event[0] == "wait":
        bench.advance(event[1])
    elif event[0] == "cms":
        drupal.hangs = event[1] == "hangs"
        drupal.fails = event[1].startswith("fails")
        drupal.late = event[1].endswith("late")
    elif event[0] == "refuse":
        drupal.refused ^= {event[1]}
    elif drupal.held:
        drupal.answer_oldest()


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENT, max_size=40), st.sets(st.sampled_from(USERS)), st.sampled_from((4, 8, 20)))
def test_the_cms_knows_the_true_state_once_it_answers(
    events: list[tuple[Any, ...]], before: set[str], concurrent: int
) -> None:
    bench = Bench(max_concurrent=concurrent)
    bench.drupal.online = set(before)
    state: dict[str, bool] = {}
    for event in events:
        happen(bench, event, state)
        assert len(bench.drupal.held) == bench.reports.sending <= min(4, concurrent // 4)
        assert bench.reports.waiting <= len(USERS)
    happen(bench, ("cms", "works"), state)
    bench.drupal.refused = set()
    bench.advance(2 * LONGEST_DELAY + 10)
    assert bench.idle
    assert {user: user in bench.drupal.online for user in state} == state
    assert {user for user in bench.drupal.online if user not in state} == before - set(state)
    asked_before = len(bench.drupal.asked)
    for user, online in state.items():
        if online:
            bench.reports.report(user, True)
    assert len(bench.drupal.asked) == asked_before
    bench.exchange.close()
    assert bench.clock.getDelayedCalls() == []
    assert bench.clock.seconds() >= NOW
