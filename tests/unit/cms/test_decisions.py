"""What a client may do, as the CMS is asked and as it answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.support import (
    NOW,
    Log,
    Outcome,
    RawConnection,
    World,
    asked,
    config,
    the_reactor,
    world,
)
from tests.unit.cms.test_any_answer import mangled, shaped, values
from twisted_push.cms.decisions import Admission, Asker, Decisions, Passage
from twisted_push.cms.exchange import Exchange
from twisted_push.errors import CmsUnavailable, Disconnect, Refused
from twisted_push.logbook import LINE_EVERY
from twisted_push.stats import SiteStats

URLS = {
    "subscribe_url": "http://cms.test/s?secret=of-the-query",
    "sub_refresh_url": "http://cms.test/r",
    "publish_url": "http://cms.test/p",
    "rpc_url": "http://other.test/c",
}
T0 = int(NOW)
KINDS = ("subscribe", "sub_refresh", "publish", "rpc")
HEADERS = {"cookie": "sid=1", "x-real-ip": "192.0.2.7", "user-agent": "not asked for"}
ALICE = Asker("client-1", "alice", asked(headers=HEADERS).request, b'{"sid": 7}')
NOBODY = Asker("client-2", "", asked().request)
WHO = b'{"client":"client-1","transport":"websocket","protocol":"json","encoding":"json",'


@define
class Bench:
    """A CMS in memory, and what asks it."""

    world: World
    decisions: Decisions = field(init=False)

    @decisions.default
    def _make(self) -> Decisions:
        return Decisions(self.world.exchange, self.world.exchange._config, self.world.clock)

    def ask(self, kind: str, who: Asker = ALICE) -> Outcome:
        """Put a question of one kind."""
        d = self.decisions
        question: Any = {
            "subscribe": lambda: d.subscribe(who, "room:1", "a-token", b'{"page": 1.10}'),
            "sub_refresh": lambda: d.sub_refresh(who, "room:1"),
            "publish": lambda: d.publish(who, "room:1", b'[1.10, "\\u00eb"]'),
            "rpc": lambda: d.rpc(who, "votes", b"{}"),
            "send": lambda: d.rpc(who, None, b"17"),
        }[kind]()
        return Outcome(Deferred.fromCoroutine(question))


def bench(answer: object = None, **changes: Any) -> Bench:
    given = {"forward_headers": ("Cookie", "X-Real-Ip"), **URLS, **changes}
    return Bench(world(answer, **given))


def answered(kind: str, answer: object) -> Outcome:
    return bench(answer).ask(kind)


# --- Questions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "path"),
    [
        (
            "subscribe",
            b'"user":"alice","channel":"room:1","token":"a-token","data":{"page": 1.10},'
            b'"meta":{"sid": 7}}',
            b"/s",
        ),
        ("sub_refresh", b'"user":"alice","channel":"room:1","meta":{"sid": 7}}', b"/r"),
        (
            "publish",
            b'"user":"alice","channel":"room:1","data":[1.10, "\\u00eb"],"meta":{"sid": 7}}',
            b"/p",
        ),
        ("rpc", b'"user":"alice","method":"votes","data":{},"meta":{"sid": 7}}', b"/c"),
        ("send", b'"user":"alice","data":17,"meta":{"sid": 7}}', b"/c"),
    ],
)
def test_the_whole_question(kind: str, body: bytes, path: bytes) -> None:
    b = bench({"result": {}}, basic_auth=("push", "pass"))
    assert b.ask(kind).done
    [question] = b.world.cms.asked
    assert question.body == WHO + body
    assert question.request.path == path
    assert question.header("Content-Type") == b"application/json"
    assert question.header("Cookie") == b"sid=1"
    assert question.header("X-Real-Ip") == b"192.0.2.7"
    assert question.header("User-Agent") == b"twisted_push"
    assert question.header("Authorization") is not None
    assert b.world.stats.callbacks == {"ok": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_is_always_text(kind: str) -> None:
    b = bench({"result": {}})
    b.ask(kind, NOBODY)
    question = b.world.cms.asked[0].json
    assert question["user"] == ""
    assert "meta" not in question


def test_a_call_without_a_name_is_none_that_expects_nothing() -> None:
    b = bench({"result": {}})
    Outcome(Deferred.fromCoroutine(b.decisions.rpc(ALICE, "", None)))
    assert b.world.cms.asked[0].json["method"] == ""
    assert "data" not in b.world.cms.asked[0].json


@pytest.mark.parametrize(
    ("kind", "code"), [("subscribe", 103), ("sub_refresh", 103), ("publish", 103), ("rpc", 108)]
)
def test_where_nobody_is_to_be_asked_it_is_refused(kind: str, code: int) -> None:
    b = bench({"result": {}}, **dict.fromkeys(URLS, ""))
    error = b.ask(kind).error
    assert isinstance(error, Refused)
    assert error.code == code
    assert b.world.cms.asked == []
    assert b.decisions.tells_sends is False


def test_without_an_address_for_renewals_it_is_the_question_of_the_beginning() -> None:
    b = bench({"result": {"expire_at": T0 + 60, "info": 1}}, sub_refresh_url="")
    assert b.ask("sub_refresh").value == NOW + 60
    [question] = b.world.cms.asked
    assert question.request.path == b"/s"
    assert question.body == WHO + b'"user":"alice","channel":"room:1","meta":{"sid": 7}}'


def test_no_two_questions_become_one_and_no_answer_is_kept() -> None:
    b = bench()
    outcomes = [b.ask("subscribe") for _ in range(2)]
    assert b.world.cms.open == 2
    b.world.cms.reply({"result": {}})
    b.world.cms.reply({"error": {"code": 103}})
    assert [each.says for each in outcomes] == ["", "Refused 103 permission denied"]
    b.ask("subscribe")
    assert b.world.cms.open == 1
    b.world.cms.reply({"result": {}})


def test_they_share_the_places_and_each_kind_has_its_queue() -> None:
    b = bench(max_concurrent=1, max_waiting=1)
    outcomes = [b.ask(kind) for kind in ("subscribe", "publish", "publish")]
    assert b.world.cms.open == 1
    assert outcomes[2].says == "CmsUnavailable overloaded"
    b.world.cms.reply({"result": {}})
    assert b.world.cms.open == 1
    b.world.cms.reply({"result": {}})
    assert [each.done for each in outcomes] == [True] * 3


# --- Answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "result", "value"),
    [
        ("subscribe", {}, Admission(None, None, None)),
        ("subscribe", [], Admission(None, None, None)),
        (
            "subscribe",
            {"info": {"a": 1}, "data": [2], "expire_at": T0 + 9, "override": {"presence": {}}},
            Admission(b'{"a": 1}', b"[2]", NOW + 9),
        ),
        ("subscribe", {"info": None, "expire_at": 0}, Admission(None, None, None)),
        ("sub_refresh", {}, None),
        ("sub_refresh", {"expire_at": T0 + 1, "expired": False}, NOW + 1),
        ("publish", {}, Passage(None, skip=False, skip_history=False)),
        ("publish", [], Passage(None, skip=False, skip_history=False)),
        ("publish", {"data": None}, Passage(None, skip=False, skip_history=False)),
        (
            "publish",
            {"data": {"text": "changed"}, "skip_history": True},
            Passage(b'{"text": "changed"}', skip=False, skip_history=True),
        ),
        ("publish", {"skip_publish": True}, Passage(None, skip=True, skip_history=False)),
        ("rpc", {}, None),
        ("rpc", {"data": {"votes": 1}}, b'{"votes": 1}'),
        ("rpc", {"data": False}, b"false"),
    ],
)
def test_an_answer(kind: str, result: object, value: object) -> None:
    outcome = answered(kind, {"result": result, "unknown": 1})
    assert (outcome.says, outcome.value) == ("", value)


def test_data_is_one_line_as_it_was_written() -> None:
    answer = b'{"result": {"data": {"n": 1.10,\r\n "s": "\\u00eb"}}}'
    assert answered("rpc", answer).value == b'{"n": 1.10,   "s": "\\u00eb"}'


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"error": {"code": 1000, "message": "not you"}}, "Refused 1000 not you"),
        ({"error": {"code": 2**32 - 1}}, "Refused 4294967295 refused"),
        ({"disconnect": {"code": 4501, "reason": "banned"}}, "Disconnect 4501 banned"),
        ({"disconnect": {"code": 1000}}, "Disconnect 3500 invalid token"),
        ({"result": {}, "error": {"code": 103}}, "Refused 103 permission denied"),
        ({"result": [], "disconnect": {"code": 3503}}, "Disconnect 3503 force disconnect"),
    ],
)
def test_refusals(kind: str, answer: object, says: str) -> None:
    b = bench(answer)
    assert b.ask(kind).says == says
    assert b.world.stats.callbacks == {"refused": 1}


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("subscribe", {"expire_at": T0}),
        ("subscribe", {"expire_at": 1}),
        ("sub_refresh", {"expire_at": T0 - 1}),
        ("sub_refresh", {"expired": True, "expire_at": T0 + 60}),
    ],
)
def test_what_is_over_is_refused(kind: str, result: object) -> None:
    assert answered(kind, {"result": result}).says == "Refused 110 expired"


@pytest.mark.parametrize(
    ("kind", "answer", "why"),
    [
        ("rpc", {}, "neither result nor error nor disconnect"),
        ("publish", {"result": None}, "neither result nor error nor disconnect"),
        ("publish", [], "Expected `object`, got `array`"),
        ("publish", {"result": [1]}, "$.result"),
        ("publish", {"result": True}, "$.result"),
        ("publish", {"result": {"skip_publish": 1}}, "Expected `bool`, got `int`"),
        ("publish", {"result": {"skip_history": "yes"}}, "Expected `bool`, got `str`"),
        ("subscribe", {"result": {"expire_at": "soon"}}, "got `str`"),
        ("subscribe", {"result": {"expire_at": -1}}, "Expected `int` >= 0"),
        ("subscribe", {"result": {"expire_at": 2**53 + 1}}, "Expected `int` <="),
        ("sub_refresh", {"result": {"expired": None}}, "Expected `bool`, got `null`"),
        ("rpc", {"error": {"code": 0}}, "Expected `int` >= 1"),
        ("rpc", {"error": {"code": 2**32}}, "Expected `int` <="),
        ("rpc", {"disconnect": {"code": "4000"}}, "Expected `int`, got `str`"),
        ("rpc", b'{"result": {"data": NaN}}', "invalid character"),
        ("rpc", b'{"result": {"data": ' + b"[" * 200 + b"]" * 200 + b"}}", "nested deeper"),
        ("rpc", b'{"result": {"data": "secret"', "truncated"),
        ("subscribe", b"<!doctype html><title>secret</title>", "no JSON"),
        ("subscribe", b"", "no JSON"),
        ("subscribe", b'{"result": {}}\xff', "no JSON"),
    ],
)
def test_malformed_answers(kind: str, answer: object, why: str, log: Log) -> None:
    outcome = answered(kind, answer)
    assert outcome.says.startswith("CmsUnavailable malformed: ")
    assert why in outcome.says
    assert len(log.lines) == 1
    assert "secret" not in log.everything


@pytest.mark.parametrize(
    "answer",
    [
        b'{"error": {"code": 103}, "result": {"skip_publish": true}, "error": {"code": 1}}',
        b'{"result": {"data": 1}, "result": {"data": 2}}',
        b'{"result": {"data": {"a": 1, "a": 2}}}',
    ],
)
def test_of_two_fields_with_one_name_none_counts(answer: bytes) -> None:
    """Whoever writes JSON by hand may have let somebody else write the second one."""
    says = "CmsUnavailable malformed: no JSON: JSON has a key twice in one object"
    assert answered("publish", answer).says == says


@pytest.mark.parametrize("kind", KINDS)
def test_a_huge_answer(kind: str) -> None:
    b = bench({"result": {"data": "x" * 2000}}, max_answer_size=1000)
    assert b.ask(kind).says.startswith("CmsUnavailable too large")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [301, 404, 500, 503])
def test_any_other_status_is_no_answer(kind: str, code: int) -> None:
    b = bench({"result": {}})
    b.world.cms.code = code
    assert isinstance(b.ask(kind).error, CmsUnavailable)


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_cms(kind: str) -> None:
    b = bench(timeout=2.0)
    outcome = b.ask(kind)
    b.world.clock.advance(2.0)
    assert outcome.says == "CmsUnavailable timeout: after 2 s"
    assert b.world.cms.open == 0


anything = st.builds(
    json.dumps,
    values
    | shaped(
        result=values
        | shaped(
            info=values,
            data=values,
            expire_at=st.integers(),
            expired=st.booleans(),
            skip_history=st.booleans(),
            skip_publish=st.booleans(),
        ),
        error=shaped(code=st.integers(), message=st.text(max_size=5)),
        disconnect=shaped(code=st.integers(0, 6000), reason=st.text(max_size=5)),
    ),
)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(KINDS),
    anything.map(lambda text: text.encode("utf-8", "surrogatepass")) | mangled() | st.binary(),
)
def test_any_answer(kind: str, answer: bytes) -> None:
    b = bench(answer)
    outcome = b.ask(kind)
    assert outcome.done
    if outcome.error is not None:
        assert isinstance(outcome.error, CmsUnavailable | Disconnect | Refused)
    texts = [outcome.value] if kind == "rpc" else [getattr(outcome.value, "data", None)]
    texts.append(getattr(outcome.value, "info", None))
    for text in texts:
        assert text is None or (b"\n" not in text and json.loads(text) is not None)
    assert b.world.stats.callbacks_in_flight == 0
    assert b.world.clock.getDelayedCalls() == []


# --- The log ---------------------------------------------------------------------------------


def test_one_line_says_that_an_address_fails_and_one_that_it_answers(log: Log) -> None:
    b = bench({"result": {}})
    for _ in range(2):
        b.world.cms.code = 500
        for _ in range(3):
            b.ask("subscribe")
        b.ask("rpc")
        b.world.cms.code = 200
        b.ask("subscribe")
        b.ask("rpc")
        b.world.clock.advance(LINE_EVERY)
    assert (
        log.lines
        == [
            "no usable answer from the CMS at http://cms.test/s: status: 500",
            "no usable answer from the CMS at http://other.test/c: status: 500",
            "the CMS at http://cms.test/s answers again",
            "the CMS at http://other.test/c answers again",
        ]
        * 2
    )
    for secret in ("a-token", "of-the-query", "sid", "alice", "page"):
        assert secret not in log.everything


def test_a_refusal_is_an_answer(log: Log) -> None:
    b = bench({"error": {"code": 103}})
    b.world.cms.code = 500
    b.ask("publish")
    b.world.cms.code = 200
    b.ask("publish")
    assert log.lines[1:] == ["the CMS at http://cms.test/p answers again"]


# --- On the wire -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "questions"), [("subscribe", 3), ("publish", 2), ("rpc", 2)])
async def test_an_act_is_never_asked_for_twice(raw_cms: Any, kind: str, questions: int) -> None:
    """A connection that breaks after the question: the CMS may have acted, or not."""

    def script(connection: RawConnection) -> None:
        if len(connection.factory.requests) == 2:
            connection.hang_up()
        else:
            connection.answer(b'{"result": {}}')

    cms = raw_cms(script)
    reactor = the_reactor()
    given = config(**dict.fromkeys(URLS, cms.url))
    exchange = Exchange(given, reactor, SiteStats())
    decisions = Decisions(exchange, given, reactor)
    ask: Any = {
        "subscribe": lambda: decisions.subscribe(ALICE, "a"),
        "publish": lambda: decisions.publish(ALICE, "a", b"1"),
        "rpc": lambda: decisions.rpc(ALICE, "a", b"1"),
    }[kind]
    await ask()
    if kind == "subscribe":
        await ask()
    else:
        with pytest.raises(CmsUnavailable):
            await ask()
        assert all(b"connection: close" in request.lower() for request in cms.requests)
    assert len(cms.requests) == questions
    await exchange.close()
    assert exchange._stats.callbacks_in_flight == 0
