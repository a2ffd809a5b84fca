"""The native wire format: commands in, replies and pushes out, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from twisted_push.errors import ERROR_MESSAGES, ProtocolError, Refused
from twisted_push.interfaces import ICodec
from twisted_push.jsontext import Raw
from twisted_push.model import ClientInfo, Publication, StreamPosition
from twisted_push.protocols.centrifugal import (
    MAX_COMMANDS,
    METHODS,
    CentrifugalCodec,
    Command,
    error_reply,
    read_commands,
    reply,
)
from twisted_push.protocols.centrifugal_shapes import (
    ChannelParams,
    ConnectParams,
    ConnectResult,
    HistoryParams,
    HistoryResult,
    Position,
    PresenceResult,
    PresenceStatsResult,
    PublicationShape,
    PublishParams,
    RefreshParams,
    RefreshResult,
    RpcParams,
    Since,
    SubscribeParams,
    SubscribeResult,
    info_shape,
    publication_shape,
    raw,
    subscribe_result,
)


def read(text: str | bytes) -> Command:
    """Read a message of one command."""
    [command] = read_commands(text.encode() if isinstance(text, str) else text)
    return command


def params(text: str) -> Any:
    command = read(text)
    assert not isinstance(command.params, Refused), command.params
    return command.params


# --- Commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ('{"id":1,"ping":{}}', 1),
        ('{"ping":{},"id":2}', 2),
        (' { "id" : 3 , "ping" : { } } \r', 3),
        ('{"id":4294967295,"ping":{}}', 2**32 - 1),
        ('{"id":1000000000,"ping":{}}', 10**9),
        ('{"id":0,"send":{}}', 0),
        ('{"send":{"data":1}}', 0),
        ('{"id":7,"send":{}}', 7),
    ],
)
def test_ids(text: str, number: int) -> None:
    assert read(text).id == number


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "-1",
        "-0",
        "1.0",
        "1.5",
        "1e0",
        "1E2",
        '"1"',
        '""',
        "null",
        "true",
        "false",
        "[]",
        "[1]",
        "{}",
        "4294967296",
        "99999999999",
        "9" * 5000,
        "\u0661",
        '"\u0661"',
        "\u00b2",
        "+1",
        "01",
        "NaN",
        "",
    ],
)
def test_what_is_no_id(number: str) -> None:
    with pytest.raises(ProtocolError):
        read(f'{{"id":{number},"ping":{{}}}}')


@pytest.mark.parametrize("method", sorted({*METHODS, "unknown"} - {"send"}))
def test_every_command_but_send_needs_an_id(method: str) -> None:
    with pytest.raises(ProtocolError):
        read(f'{{"{method}":{{}}}}')


@pytest.mark.parametrize(
    "text",
    [
        '{"id":1}',
        '{"id":0}',
        '{"id":1,"ping":{},"send":{}}',
        '{"id":1,"connect":{},"subscribe":{"channel":"a"}}',
        '{"id":1,"ping":{},"unknown":{}}',
        "[]",
        '[{"id":1,"ping":{}}]',
        "null",
        "1",
        '"ping"',
        "true",
        "ping",
        '{"id":1,"ping":{}}{"id":2,"ping":{}}',
        '{"id":1,"ping":{}},',
        '{"id":1,"ping":}',
        '{"id":1,"ping":{}',
        '{"id":1,"publish":{"channel":"a","data":NaN}}',
        r'{"id":1,"publish":{"channel":"a","data":"\ud800"}}',
        '{"id":1,"publish":{"channel":"a","data":' + "[" * 200 + "]" * 200 + "}}",
        "[" * 100_000,
        "\ufeff{}",
        "\x00",
    ],
)
def test_what_is_no_command(text: str) -> None:
    with pytest.raises(ProtocolError):
        read_commands(text.encode())


@pytest.mark.parametrize(
    "message", [b"", b" ", b"\n", b"\n\n \r\n\t\n", b"\xff\xfe", b'{"\xff":1}']
)
def test_what_is_no_message(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_commands(message)


@pytest.mark.parametrize("text", ["{}", " {} ", "{ }", "\n{}\n"])
def test_an_empty_object_is_a_pong(text: str) -> None:
    assert read(text) == Command(0, "", None)


def test_several_commands_in_one_message_keep_their_order() -> None:
    message = b'{"id":1,"connect":{}}\n{}\r\n\n{"send":{}}\n{"id":9,"ping":{}}\n{"id":2,"rpc":{}}\n'
    assert [(c.id, c.method) for c in read_commands(message)] == [
        (1, "connect"),
        (0, ""),
        (0, "send"),
        (9, "ping"),
        (2, "rpc"),
    ]


def test_one_bad_line_spoils_the_message() -> None:
    with pytest.raises(ProtocolError):
        read_commands(b'{"id":1,"ping":{}}\n{"id":2,"ping":{}\n{"id":3,"ping":{}}')


def test_as_many_commands_as_a_message_may_hold() -> None:
    assert len(read_commands(b"\n".join([b"{}"] * MAX_COMMANDS))) == MAX_COMMANDS
    for line in (b"{}", b"", b"x"):
        with pytest.raises(ProtocolError, match="too many"):
            read_commands(b"\n".join([line] * (MAX_COMMANDS + 1)))


@pytest.mark.parametrize("method", ["unknown", "", "Connect", "__proto__", "id ", "push", "\u00e9"])
def test_an_unknown_method_is_a_refusal_and_is_not_repeated(method: str) -> None:
    command = read(json.dumps({"id": 5, method: {}}))
    assert command.id == 5
    assert command.method == ""
    assert isinstance(command.params, Refused)
    assert command.params.code == 104
    assert reply_of(error_reply(command, command.params)) == {
        "id": 5,
        "error": {"code": 104, "message": "method not found"},
    }


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("connect", "null"),
        ("connect", "[]"),
        ("connect", "1"),
        ("connect", '"x"'),
        ("connect", '{"token":1}'),
        ("connect", '{"token":null}'),
        ("connect", '{"token":["t"]}'),
        ("connect", '{"subs":[]}'),
        ("connect", '{"subs":{"a":1}}'),
        ("connect", '{"subs":{"a":{"offset":"1"}}}'),
        ("connect", '{"subs":{"a":{"offset":1.5}}}'),
        ("connect", '{"subs":{"a":{"recover":1}}}'),
        ("connect", '{"subs":{"a":{"epoch":7}}}'),
        ("connect", '{"name":{}}'),
        ("subscribe", "{}"),
        ("subscribe", '{"channel":1}'),
        ("subscribe", '{"channel":null}'),
        ("subscribe", '{"channel":"a","recover":"true"}'),
        ("subscribe", '{"channel":"a","offset":true}'),
        ("unsubscribe", "{}"),
        ("publish", '{"channel":"a"}'),
        ("publish", '{"data":1}'),
        ("publish", '{"channel":{},"data":1}'),
        ("presence", '{"channel":[]}'),
        ("presence_stats", "{}"),
        ("history", "{}"),
        ("history", '{"channel":"a","limit":-2}'),
        ("history", '{"channel":"a","since":7}'),
        ("rpc", '{"method":1}'),
        ("refresh", '{"token":{}}'),
        ("sub_refresh", '{"channel":1}'),
        ("ping", "null"),
        ("ping", "[]"),
        ("send", "1"),
    ],
)
def test_fields_that_do_not_fit_are_refused_with_their_command(method: str, fields: str) -> None:
    command = read(f'{{"id":3,"{method}":{fields}}}')
    assert (command.id, command.method) == (3, method)
    assert isinstance(command.params, Refused)
    assert command.params.code == 107
    assert reply_of(error_reply(command, command.params))["error"]["code"] == 107


def test_a_complaint_does_not_repeat_what_was_sent() -> None:
    command = read('{"id":3,"connect":{"token":["s3cret"]}}')
    assert "s3cret" not in str(command.params)
    with pytest.raises(ProtocolError) as error:
        read('{"id":3,"connect":{"token":"s3cret}')
    assert "s3cret" not in str(error.value)


def test_the_fields_of_each_command() -> None:
    assert params(
        '{"id":1,"connect":{"token":"t","data":{"a": 1.10},"name":"js","version":"5","headers":{},'
        '"subs":{"a":{"recover":true,"epoch":"e","offset":7},"b":{}}}}'
    ) == ConnectParams(
        "t",
        Raw(b'{"a": 1.10}'),
        {
            "a": Position(True, "e", 7),
            "b": Position(),
        },
        "js",
        "5",
    )
    assert params('{"id":1,"connect":{}}') == ConnectParams()
    assert params(
        '{"id":1,"subscribe":{"channel":"a","token":"t","recover":true,"epoch":"e","offset":7,'
        '"positioned":true,"recoverable":true,"join_leave":true,"delta":"fossil","data":[],'
        '"flag":3}}'
    ) == SubscribeParams("a", "t", Raw(b"[]"), True, "e", 7, True, True, 3)
    assert params('{"id":1,"unsubscribe":{"channel":"a"}}') == ChannelParams("a")
    assert params('{"id":1,"history":{"channel":"a"}}') == HistoryParams("a", 0, None, False)
    assert params(
        '{"id":1,"history":{"channel":"a","limit":-1,"since":{"offset":7,"epoch":"e"},'
        '"reverse":true}}'
    ) == HistoryParams("a", -1, Since(7, "e"), True)
    assert params('{"id":1,"publish":{"channel":"a","data":[1, 2]}}') == PublishParams(
        "a", Raw(b"[1, 2]")
    )
    assert params('{"id":1,"rpc":{"method":"m","data":null}}') == RpcParams("m", Raw(b"null"))
    assert params('{"id":1,"refresh":{"token":"t"}}') == RefreshParams("t")
    assert params('{"id":1,"sub_refresh":{"channel":"a","token":"t"}}') == RefreshParams("t", "a")


def test_unknown_fields_are_ignored_in_every_command() -> None:
    for method in METHODS:
        fields = '{"channel":"a","data":1,"no such field":{"deep":[1]},"__proto__":null}'
        assert params(f'{{"id":1,"{method}":{fields}}}') is not None


def test_every_method_of_the_protocol_is_known() -> None:
    assert set(METHODS) == {
        *("connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats"),
        *("history", "rpc", "send", "refresh", "sub_refresh", "ping"),
    }


@given(st.binary(max_size=300))
@example(b"[" * 100_000)
@example(b'{"id":' + b"9" * 10_000 + b"}")
@example(b'{"id":1,"subscribe":{"channel":"a","offset":' + b"9" * 10_000 + b"}}")
@example(b'{"id":1,"subscribe":{"channel":"a","offset":1e999}}')
def test_any_bytes_are_commands_or_a_protocol_error(message: bytes) -> None:
    check_any(message)


@given(
    st.lists(
        st.sampled_from(
            [
                *("{", "}", ":", ",", "[", "]", "\n", " ", "\u2028", "{}", '{"id":1,"ping":{}}'),
                *("1", "0", "-1", "1e5", "null", '"a"', '"\\ud800"', '"id"', '"channel"', '"data"'),
                *('"connect"', '"subscribe"', '"publish"', '"send"', '"subs"'),
            ]
        ),
        max_size=25,
    )
)
def test_anything_like_commands_is_commands_or_a_protocol_error(parts: list[str]) -> None:
    check_any("".join(parts).encode())


def check_any(message: bytes) -> None:
    try:
        commands = read_commands(message)
    except ProtocolError:
        return
    assert commands
    for command in commands:
        assert 0 <= command.id < 2**32
        assert command.method in METHODS or command.method == ""
        if isinstance(command.params, Refused):
            assert reply_of(error_reply(command, command.params))["id"] == command.id
        elif command.params is None:
            assert (command.id, command.method) == (0, "")
        else:
            assert isinstance(command.params, METHODS[command.method])


# --- Replies ---------------------------------------------------------------------------------


def reply_of(message: bytes) -> Any:
    assert b"\n" not in message
    return json.loads(message)


@pytest.mark.parametrize(
    ("method", "result", "expected"),
    [
        ("ping", None, b'{"id":7,"ping":{}}'),
        ("unsubscribe", None, b'{"id":7,"unsubscribe":{}}'),
        ("connect", ConnectResult("c", "v"), b'{"id":7,"connect":{"client":"c","version":"v"}}'),
        (
            "connect",
            ConnectResult(
                "c", "v", {"a": SubscribeResult()}, raw(b"[\n1]"), True, 60, 25, True, "s", "n", 17
            ),
            b'{"id":7,"connect":{"client":"c","version":"v","subs":{"a":{}},"data":[ 1],'
            b'"expires":true,"ttl":60,"ping":25,"pong":true,"session":"s","node":"n","time":17}}',
        ),
        ("subscribe", SubscribeResult(), b'{"id":7,"subscribe":{}}'),
        (
            "subscribe",
            SubscribeResult(recoverable=True, epoch="e", recovered=True, was_recovering=True),
            b'{"id":7,"subscribe":{"recoverable":true,"epoch":"e","recovered":true,'
            b'"was_recovering":true}}',
        ),
        ("history", HistoryResult(), b'{"id":7,"history":{}}'),
        (
            "history",
            HistoryResult([PublicationShape(Raw(b"1"), 7, time=5)], "e", 7),
            b'{"id":7,"history":{"publications":[{"data":1,"offset":7,"time":5}],"epoch":"e",'
            b'"offset":7}}',
        ),
        ("refresh", RefreshResult(), b'{"id":7,"refresh":{}}'),
        ("presence", PresenceResult({}), b'{"id":7,"presence":{"presence":{}}}'),
        (
            "presence",
            PresenceResult({"c": info_shape(ClientInfo("u", "c", b"{\n}", b"[1]"))}),
            b'{"id":7,"presence":{"presence":{"c":{"user":"u","client":"c","conn_info":{ },'
            b'"chan_info":[1]}}}}',
        ),
        (
            "presence_stats",
            PresenceStatsResult(0, 0),
            b'{"id":7,"presence_stats":{"num_clients":0,"num_users":0}}',
        ),
    ],
)
def test_replies(method: str, result: Any, expected: bytes) -> None:
    assert reply(Command(7, method, None), result) == expected


def test_error_replies() -> None:
    command = Command(7, "subscribe", None)
    assert (
        error_reply(command, Refused(103))
        == b'{"id":7,"error":{"code":103,"message":"permission denied"}}'
    )
    assert (
        error_reply(command, Refused(100))
        == b'{"id":7,"error":{"code":100,"message":"internal server error","temporary":true}}'
    )
    assert (
        error_reply(command, Refused(4242, 'of "the"\nCMS'))
        == b'{"id":7,"error":{"code":4242,"message":"of \\"the\\"\\nCMS"}}'
    )


@pytest.mark.parametrize("code", sorted(ERROR_MESSAGES))
def test_which_errors_are_temporary(code: int) -> None:
    error = reply_of(error_reply(Command(1, "ping", None), Refused(code)))["error"]
    assert error.get("temporary", False) is (code in (100, 111, 113))


def test_the_beginning_of_a_subscription() -> None:
    assert subscribe_result(None, None) == SubscribeResult()
    assert subscribe_result(None, b"1") == SubscribeResult(data=Raw(b"1"))
    assert subscribe_result(StreamPosition(3, "e"), None) == SubscribeResult(
        positioned=True, epoch="e", offset=3
    )


def test_a_publication_has_its_time_only_where_a_stream_keeps_it() -> None:
    kept = Publication("a", b"1", StreamPosition(1, "e"), time=17)
    passing = Publication("a", b"1", time=17)
    assert publication_shape(kept).time == 17
    assert publication_shape(passing).time == 0


# --- Pushes ----------------------------------------------------------------------------------

codec = CentrifugalCodec(lambda message: message)


def test_it_is_a_codec() -> None:
    assert verifyObject(ICodec, codec)


@pytest.mark.parametrize(
    ("publication", "expected"),
    [
        (Publication("a", b"{}"), b'{"push":{"channel":"a","pub":{"data":{}}}}'),
        (Publication("a", b"null"), b'{"push":{"channel":"a","pub":{"data":null}}}'),
        (Publication("a", b"0", tags={}), b'{"push":{"channel":"a","pub":{"data":0}}}'),
        (
            Publication("a", b'{"x":\r\n 1.10,\n"y":"\\n"}'),
            b'{"push":{"channel":"a","pub":{"data":{"x":   1.10, "y":"\\n"}}}}',
        ),
        (
            Publication(
                "a",
                b"1",
                StreamPosition(2**63, "e"),
                ClientInfo("u", "c", b"{\n}"),
                {"t": "1"},
                {"callback": b'"f"'},
                17,
            ),
            b'{"push":{"channel":"a","pub":{"data":1,"offset":9223372036854775808,'
            b'"info":{"user":"u","client":"c","conn_info":{ }},"tags":{"t":"1"},"time":17}}}',
        ),
        (
            Publication('q"\u00e9\u2028', b"1"),
            '{"push":{"channel":"q\\"\u00e9\u2028","pub":{"data":1}}}'.encode(),
        ),
    ],
)
def test_publications(publication: Publication, expected: bytes) -> None:
    assert codec.publication(publication) == expected


def test_the_other_pushes() -> None:
    info = ClientInfo("u", "c", None, b"1")
    assert (
        codec.joined("a", info)
        == b'{"push":{"channel":"a","join":{"info":{"user":"u","client":"c","chan_info":1}}}}'
    )
    assert (
        codec.left("a", ClientInfo("", "c"))
        == b'{"push":{"channel":"a","leave":{"info":{"user":"","client":"c"}}}}'
    )
    assert codec.subscribed("a", None, None) == b'{"push":{"channel":"a","subscribe":{}}}'
    assert reply_of(codec.subscribed("a", StreamPosition(3, "e"), b"[\n]"))["push"] == {
        "channel": "a",
        "subscribe": {"positioned": True, "epoch": "e", "offset": 3, "data": []},
    }
    assert (
        codec.unsubscribed("a", 2000, "server unsubscribe")
        == b'{"push":{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}'
    )
    assert codec.refreshed(60) == b'{"push":{"refresh":{"expires":true,"ttl":60}}}'
    assert codec.refreshed(None) == b'{"push":{"refresh":{}}}'
    assert codec.ping() == b"{}"


def test_every_push_goes_through_the_frame_and_the_ping_is_made_once() -> None:
    made: list[bytes] = []

    def frame(message: bytes) -> bytes:
        made.append(message)
        return b"<" + message + b">"

    framed = CentrifugalCodec(frame)
    assert framed.ping() is framed.ping()
    assert framed.ping() == b"<{}>"
    assert framed.publication(Publication("a", b"1")).startswith(b'<{"push"')
    assert len(made) == 2


plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(plain_text, st.dictionaries(plain_text, plain_text, max_size=3), plain_text)
def test_any_push_is_one_line_of_json(channel: str, tags: dict[str, str], text: str) -> None:
    payload = json.dumps({"text": text}, indent=1).encode()
    info = ClientInfo(text, "c", payload)
    for push in (
        codec.publication(Publication(channel, payload, info=info, tags=tags)),
        codec.joined(channel, info),
        codec.left(channel, info),
        codec.subscribed(channel, StreamPosition(1, text), payload),
        codec.unsubscribed(channel, 2000, text),
    ):
        assert reply_of(push)["push"].get("channel", "") == channel
    assert reply_of(codec.publication(Publication(channel, payload)))["push"]["pub"] == {
        "data": {"text": text}
    }
