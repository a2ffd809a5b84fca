from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.unit.cms.support import NOW, Log, Outcome, World, asked, world
from twisted_push.cms.connect import ConnectDialect, forwarded_headers
from twisted_push.model import ChannelGrant, ConnectRequest, Grant

HEADERS = ("Cookie", "Origin", "X-Real-Ip")


def ask(w: World, request: ConnectRequest | None = None) -> Outcome:
    dialect = ConnectDialect(w.exchange, HEADERS)
    return Outcome(Deferred.fromCoroutine(dialect.ask(request or asked())))


def answered(answer: object) -> Outcome:
    return ask(world(answer))


def test_the_whole_question() -> None:
    w = world({"result": {"user": "42"}})
    ask(
        w,
        asked(
            headers={"cookie": "sid=1", "x-real-ip": "192.0.2.7", "user-agent": "not asked for"},
            name="js",
            version="5.0",
            data=b'{"page": 1.10, "n": 123456789012345678901234567890}',
            channels=("news", "chat:1"),
        ),
    )
    [question] = w.cms.asked
    assert question.body == (
        b'{"client":"client-1","transport":"websocket","protocol":"json","encoding":"json",'
        b'"name":"js","version":"5.0",'
        b'"data":{"page": 1.10, "n": 123456789012345678901234567890},'
        b'"channels":["news","chat:1"],"token":"token-of-alice"}'
    )
    assert question.header("Content-Type") == b"application/json"
    assert question.header("Cookie") == b"sid=1"
    assert question.header("X-Real-Ip") == b"192.0.2.7"
    assert question.header("User-Agent") == b"twisted_push"
    assert question.header("Origin") is None


def test_what_is_not_there_is_left_out() -> None:
    w = world({"result": {"user": "42"}})
    ask(w, asked(token=""))
    assert w.cms.asked[0].json == {
        "client": "client-1",
        "transport": "websocket",
        "protocol": "json",
        "encoding": "json",
    }


@pytest.mark.parametrize("value", ["a\x00b", "a\r\nb", "a\x0bb", "a\x1cb", "a\x7fb", "a\x85b", ""])
def test_a_header_value_with_a_control_character_is_dropped(value: str) -> None:
    request = asked(headers={"cookie": value, "origin": "https://a.test"}).request
    assert forwarded_headers(request, HEADERS) == {"Origin": "https://a.test"}


def test_headers_of_the_message_itself_are_never_forwarded() -> None:
    names = ("Content-Length", "HOST", "transfer-encoding", "Content-Type", "Cookie")
    request = asked(headers={name.lower(): "1" for name in names}).request
    assert forwarded_headers(request, names) == {"Cookie": "1"}


def test_the_whole_answer() -> None:
    outcome = answered(
        b"""{"result": {
            "user": "42", "expire_at": 1800003600, "info": {"name": "Zo\\u00eb",
            "n": 1.10}, "data": [1,\r\n2], "channels": ["news", "chat:1"],
            "subs": {"chat:1": {"info": {"mod": true}, "data": null, "recover": true}, "x": {}},
            "meta": {"sid": 7}, "presence_to": ["1", "2", "1"], "unknown": [1]}, "more": 1}"""
    )
    assert outcome.value == Grant(
        user="42",
        issued_at=NOW,
        channels={
            "news": ChannelGrant(),
            "chat:1": ChannelGrant(info=b'{"mod": true}'),
            "x": ChannelGrant(),
        },
        presence_to=frozenset({"1", "2"}),
        info=b'{"name": "Zo\\u00eb",             "n": 1.10}',
        data=b"[1,  2]",
        expires_at=1800003600,
        raw=b'{"sid": 7}',
    )
    assert outcome.value.client_refresh is False


@pytest.mark.parametrize(
    "result",
    [
        {"user": ""},
        {"user": "", "expire_at": 0, "info": None, "data": None, "channels": None, "subs": None},
        {"user": "", "expire_at": None, "meta": None, "presence_to": None},
    ],
)
def test_the_least_answer(result: dict[str, Any]) -> None:
    assert answered({"result": result}).value == Grant(user="", issued_at=NOW)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"error": {"code": 1000, "message": "not you"}}, "Refused 1000 not you"),
        ({"error": {"code": 109}}, "Refused 109 token expired"),
        ({"disconnect": {"code": 4501, "reason": "banned"}}, "Disconnect 4501 banned"),
        ({"disconnect": {"code": 3000}}, "Disconnect 3000 connection closed"),
        ({"disconnect": {"code": 4999}}, "Disconnect 4999 connection closed"),
        ({"disconnect": {"code": 1000, "reason": "bye"}}, "Disconnect 3500 bye"),
        ({"disconnect": {"code": 5000}}, "Disconnect 3500 invalid token"),
        ({"disconnect": {"code": -1}}, "Disconnect 3500 invalid token"),
        ({"result": {"user": "1"}, "error": {"code": 103}}, "Refused 103 permission denied"),
        (
            {"result": {"user": "1"}, "error": {"code": 103}, "disconnect": {"code": 3503}},
            "Disconnect 3503 force disconnect",
        ),
        ({"result": {"user": "1"}, "error": None, "disconnect": None}, ""),
    ],
    ids=json.dumps,
)
def test_refusals(answer: object, says: str) -> None:
    assert answered(answer).says == says


MALFORMED: list[tuple[object, str]] = [
    ({}, "neither result nor error nor disconnect"),
    ({"result": None}, "neither result nor error nor disconnect"),
    ({"Result": {"user": "1"}}, "neither result nor error nor disconnect"),
    ([], "Expected `object`, got `array`"),
    ("yes", "Expected `object`, got `str`"),
    ({"result": {}}, "Object missing required field `user` - at `$.result`"),
    ({"result": {"user": None}}, "Expected `str`, got `null` - at `$.result.user`"),
    ({"result": {"user": 7}}, "Expected `str`, got `int` - at `$.result.user`"),
    ({"result": {"user": "1", "expire_at": "soon"}}, "Expected `int | null`, got `str`"),
    ({"result": {"user": "1", "expire_at": -1}}, "Expected `int` >= 0"),
    ({"result": {"user": "1", "channels": "a"}}, "Expected `array | null`, got `str`"),
    ({"result": {"user": "1", "channels": [1]}}, "Expected `str`, got `int`"),
    ({"result": {"user": "1", "subs": ["a"]}}, "Expected `object | null`, got `array`"),
    ({"result": {"user": "1", "subs": {"secret": 1}}}, "Expected `object`, got `int`"),
    ({"result": {"user": "1", "presence_to": [1]}}, "Expected `str`, got `int`"),
    ({"error": {"message": "no"}}, "Object missing required field `code`"),
    ({"error": {"code": 0}}, "Expected `int` >= 1"),
    ({"error": {"code": "103"}}, "Expected `int`, got `str`"),
    ({"error": "no"}, "Expected `object | null`, got `str`"),
    ({"disconnect": {"reason": "no"}}, "Object missing required field `code`"),
    ({"disconnect": True}, "Expected `object | null`, got `bool`"),
    (b'{"result": {"user": "1", "info": NaN}}', "invalid character"),
    (b'{"result": {"user": "1", "info": ' + b"[" * 200 + b"]" * 200 + b"}}", "nested deeper"),
    (b'{"result": {"user": "\\ud800"}}', "no JSON"),
]


@pytest.mark.parametrize(("answer", "why"), MALFORMED, ids=str)
def test_malformed_answers(answer: object, why: str, log: Log) -> None:
    outcome = answered(answer)
    assert outcome.says.startswith("CmsUnavailable malformed: ")
    assert why in outcome.says
    assert "secret" not in outcome.says
    assert len(log.lines) == 1
