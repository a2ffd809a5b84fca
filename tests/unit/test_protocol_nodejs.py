"""The messages of Drupal's nodejs module, byte for byte as they were captured."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from twisted_push.errors import Disconnect, ProtocolError
from twisted_push.interfaces import ICodec
from twisted_push.jsontext import JsonError
from twisted_push.model import ClientInfo, ContentToken, Publication, StreamPosition
from twisted_push.protocols.centrifugal import CentrifugalCodec
from twisted_push.protocols.nodejs import (
    Message,
    NodejsCodec,
    authenticated,
    error_answer,
    joined_notice,
    joined_token_channel,
    message_text,
    read_authenticate,
    read_client_message,
    read_join,
    read_messages,
    tags_of,
)

CAPTURED = [
    b'{"broadcast":true,"data":{"subject":"Hello all","body":"B1-body"},"channel":"nodejs_notify",'
    b'"clientSocketId":""}',
    b'{"broadcast":true,"channel":"example","data":{"something":"foo","else":"bar"},'
    b'"clientSocketId":""}',
    b'{"data":{"subject":"Private","body":"U1-body"},"channel":"nodejs_user_2",'
    b'"callback":"nodejsNotify","broadcast":false,"clientSocketId":""}',
    b'{"channel":"pushlab_content","data":{"body":"CT1"},"clientSocketId":""}',
]
ODD = [
    b'{"channel":"a","data":1.10}',
    b'{"data":123456789012345678901234567890,"channel":"a","n":-0.0,"e":1E400}',
    b'{"channel":"a\\u00e9\\/","data":"\\u00e9\\/\\ud83d\\ude00","x":"\\u2028"}',
    b'{"channel":5,"data":{"z":1,"a":2, "z2" : [ 1 , 2 ]},"zz":1,"aa":2}',
    b'{"channel":"a"}',
    b'{"channel":"a","data":null}',
    b'{"data":null,"channel":"a","callback":null}',
    b'{"channel":"a","data":{},"type":"","":"","data2":{"data":1}}',
    b'{"channel":"a","data":""}',
]


def published(message: Message, **changes: Any) -> Publication:
    return Publication(message.channel, message.data, extra=message.extra, **changes)


def native(publication: Publication) -> Any:
    """What a client of the native dialect is pushed."""
    return json.loads(CentrifugalCodec(bytes).publication(publication))["push"]


# --- What the CMS posts ----------------------------------------------------------------------


@pytest.mark.parametrize("body", CAPTURED + ODD)
def test_a_message_is_passed_on_byte_for_byte(body: bytes) -> None:
    [message] = read_messages(body)
    assert message_text(published(message)) == body


def test_white_space_around_values_and_repeated_names_are_all_that_changes() -> None:
    [message] = read_messages(b' { "data" : [ 1 , 2 ] ,\n "channel":"a", "x":1, "x":2 } ')
    assert message_text(published(message)) == b'{"data":[ 1 , 2 ],"channel":"a","x":2}'


def test_what_is_read_of_a_message() -> None:
    [message] = read_messages(CAPTURED[2])
    assert (message.channel, message.broadcast, message.client) == ("nodejs_user_2", False, "")
    assert message.data == b'{"subject":"Private","body":"U1-body"}'
    assert dict(message.extra)["callback"] == b'"nodejsNotify"'


@pytest.mark.parametrize(
    ("channel", "name"),
    [('"a"', "a"), ("5", "5"), ("null", ""), ("true", ""), ("[1]", ""), ("-5", ""), ('""', "")],
)
def test_channels_as_php_sends_them(channel: str, name: str) -> None:
    [message] = read_messages(f'{{"channel":{channel},"clientSocketId":{channel}}}'.encode())
    assert (message.channel, message.client) == (name, name)


@pytest.mark.parametrize(
    ("broadcast", "is_one"),
    [
        ("true", True),
        ("1", True),
        ('"1"', True),
        ('"true"', True),
        ("false", False),
        ("0", False),
        ('"0"', False),
        ('""', False),
        ("null", False),
    ],
)
def test_broadcasts_as_php_sends_them(broadcast: str, is_one: bool) -> None:
    [message] = read_messages(f'{{"broadcast":{broadcast}}}'.encode())
    assert message.broadcast is is_one


def test_a_message_without_anything() -> None:
    [message] = read_messages(b"{}")
    assert message == Message("", False, b"null", {}, "")


def test_a_batch() -> None:
    one, two = read_messages(b'{"messages":[{"channel":"a","data":1},{"channel":"b"}]}')
    assert (one.channel, one.data, two.channel, two.data) == ("a", b"1", "b", b"null")
    assert read_messages(b'{"messages":[]}') == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b"{",
        b'{"data":NaN}',
        b'{"data":"\\ud800"}',
        b'{"messages":{}}',
        b'{"messages":[5]}',
        b'{"messages":null}',
        b'{"data":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"channel":"\xff"}',
    ],
)
def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(JsonError):
        read_messages(body)


def test_the_channel_of_a_broadcast_is_only_a_label() -> None:
    [message] = read_messages(CAPTURED[0])
    text = message_text(Publication("broadcast", message.data, extra=message.extra))
    assert text == CAPTURED[0]


# --- Between the dialects --------------------------------------------------------------------


def test_a_native_publication_with_tags() -> None:
    tags = {"callback": "show", "channel": "other", "data": "other", "n": "1"}
    publication = Publication("a", b'{"x": 1.10}', tags=tags)
    text = b'{"channel":"a","data":{"x": 1.10},"callback":"show","n":"1"}'
    assert message_text(publication) == text


def test_a_native_null_stays_null() -> None:
    assert message_text(Publication("a", b"null")) == b'{"channel":"a","data":null}'


def test_a_publication_of_ours_begins_with_channel_and_data() -> None:
    publication = Publication("a", b"1", extra={"callback": b'"x"'})
    assert message_text(publication) == b'{"channel":"a","data":1,"callback":"x"}'


def test_a_posted_message_for_native_clients() -> None:
    [message] = read_messages(
        b'{"callback":["a","b"],"broadcast":false,"data":{"n":1.10},"type":"x\\u00e9","channel":"c",'
        b'"clientSocketId":"abc","n":1.10,"none":null}'
    )
    push = native(published(message))
    assert push["channel"] == "c"
    assert push["pub"]["tags"] == {
        "callback": '["a","b"]',
        "broadcast": "false",
        "type": "xé",
        "n": "1.10",
        "none": "null",
    }
    assert b'"data":{"n":1.10}' in CentrifugalCodec(bytes).publication(published(message))


@pytest.mark.parametrize("body", [b'{"channel":"a"}', b'{"channel":"a","data":null}'])
def test_a_native_client_is_given_null_for_no_data(body: bytes) -> None:
    [message] = read_messages(body)
    assert native(published(message))["pub"] == {"data": None}


def test_there_are_no_tags_of_nothing() -> None:
    assert tags_of(None) == tags_of({}) == {}


texts = st.text(st.characters(codec="utf-8"), max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(texts | st.sampled_from(["data", "channel"]), json_values, max_size=5))
def test_any_message_is_passed_on_byte_for_byte(fields: dict[str, Any]) -> None:
    fields.pop("messages", None)
    fields["channel"] = fields.get("channel", "a")
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    [message] = read_messages(body)
    assert json.loads(message_text(published(message))) == fields
    assert list(json.loads(message_text(published(message)))) == list(fields)


# --- What the pages send ---------------------------------------------------------------------


def test_authenticate() -> None:
    text = b'{"authToken": "t", "contentTokens": {"a": "x", "n": 5, "none": null}, "more": 1.10}'
    said = read_authenticate([text, b"5"])
    assert (said.token, said.text) == ("t", text)
    assert said.content_tokens == {"a": "x", "n": "5", "none": ""}


@pytest.mark.parametrize("tokens", [b"[]", b"null", b"{}", b'["a"]'])
def test_no_content_tokens(tokens: bytes) -> None:
    assert read_authenticate([b'{"authToken":"","contentTokens":%s}' % tokens]).content_tokens == {}


def test_join_token_channel() -> None:
    said = read_join([b'{"channel":"a","contentToken":"t","more":1}'])
    assert (said.channel, said.token) == ("a", "t")


def test_a_message_of_a_client() -> None:
    said = read_client_message([b'{"type":"chat","x":1.10,"y":{"a": 1}}'])
    assert said.type == "chat"
    assert {name: bytes(text) for name, text in said.fields.items()} == {
        "type": b'"chat"',
        "x": b"1.10",
        "y": b'{"a": 1}',
    }


READERS = (read_authenticate, read_join, read_client_message)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "args", [(), (b"null",), (b"[]",), (b"{}",), (b"5",), (b'"a"',), (b"true",), (b"{",), (b"",)]
)
def test_what_is_no_argument(read: Callable[[Any], object], args: tuple[bytes, ...]) -> None:
    with pytest.raises(ProtocolError):
        read(args)


@given(st.sampled_from(READERS), json_values | st.binary(max_size=20))
def test_any_argument_is_read_or_refused(read: Callable[[Any], object], value: Any) -> None:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    with suppress(ProtocolError):
        read([text])


def test_no_token_is_shown() -> None:
    shown = repr(
        [
            read_authenticate([b'{"authToken":"hush","contentTokens":{"a":"hush"}}']),
            read_join([b'{"channel":"a","contentToken":"hush"}']),
            read_client_message([b'{"type":"chat","x":"hush"}']),
        ]
    )
    assert "hush" not in shown


# --- What they are told ----------------------------------------------------------------------


def test_what_an_anonymous_page_is_told() -> None:
    told = authenticated(
        user="",
        token="55ca107a635c229ed940c49c502c9b31",
        client="CqOz_vvS5FRy-jKUAAAA",
        channels=["nodejs_ajax_broadcast", "example"],
        presence_to=[],
        content_tokens={},
    )
    # As it was captured of Drupal 9, which is without account and key.
    assert told == (
        b'{"callback":"clientAuthenticated","data":{"uid":0,'
        b'"authToken":"55ca107a635c229ed940c49c502c9b31","nodejsValidAuthToken":true,'
        b'"clientId":"CqOz_vvS5FRy-jKUAAAA","channels":["nodejs_ajax_broadcast","example"],'
        b'"presenceUids":[],"contentTokens":[]}}'
    )


def test_what_a_page_of_a_user_is_told() -> None:
    told = authenticated(
        user="2",
        token="t",
        client="c",
        channels=["a"],
        presence_to=["1", "3"],
        content_tokens={"b": "x"},
    )
    data = json.loads(told)["data"]
    assert (data["uid"], data["presenceUids"], data["contentTokens"]) == (
        "2",
        ["1", "3"],
        {"b": "x"},
    )


def test_what_is_told_of_who_joined() -> None:
    content = ContentToken("pushlab_late", 0.0, True, b'{"n": 1.10}', b"holder")
    assert joined_token_channel(content, "t") == (
        b'{"callback":"clientJoinedTokenChannel","data":{"token":"t","channel":"pushlab_late",'
        b'"notifyOnDisconnect":true,"userData":{"n": 1.10}}}'
    )
    data, extra = joined_notice(content)
    assert message_text(Publication("pushlab_late", data, extra=extra)) == (
        b'{"channel":"pushlab_late","data":{"channel":"pushlab_late","notifyOnDisconnect":true,'
        b'"userData":{"n": 1.10}},"callback":"clientJoinedTokenChannel"}'
    )


def test_what_is_told_of_a_refusal() -> None:
    assert error_answer('no "entry"') == b'{"result":"error","error":"no \\"entry\\""}'


def test_the_codec_is_one() -> None:
    codec = NodejsCodec(bytes, b"2")
    assert verifyObject(ICodec, codec)
    assert (codec.ping(), NodejsCodec(bytes, None).ping()) == (b"2", None)


def test_what_the_codec_tells() -> None:
    codec = NodejsCodec(lambda packet: b"4" + packet, None)
    publication = Publication("a", b"1", StreamPosition(1, "e"), ClientInfo("2", "c"), time=5)
    assert codec.publication(publication) == b'42["message",{"channel":"a","data":1}]'
    assert codec.message(b"{}") == b'42["message",{}]'


def test_what_the_dialect_does_not_tell() -> None:
    codec: Any = NodejsCodec(bytes, None)
    info = ClientInfo("2", "c")
    assert codec.joined("a", info) is codec.left("a", info) is codec.refreshed(5) is None
    assert codec.subscribed("a", None, None) is codec.unsubscribed("a", 2000, "why") is None


@pytest.mark.parametrize(
    ("disconnect", "reason", "for_good"),
    [
        (Disconnect(3001), "shutdown", False),
        (Disconnect(3004), "internal server error", False),
        (Disconnect(3500), "invalid token", True),
        (Disconnect(3503), "force disconnect", True),
        (Disconnect(4000, "b"), "b", False),
        (Disconnect(4500, "a"), "a", True),
    ],
)
def test_who_stays_away_is_told_so(disconnect: Disconnect, reason: str, for_good: bool) -> None:
    why, *more = NodejsCodec(lambda packet: b"4" + packet, None).closing(disconnect)
    assert why == (
        b'42["message",{"callback":"clientDisconnected","data":{"code":%d,"reason":"%s",'
        b'"reconnect":%s}}]'
        % (disconnect.code, reason.encode(), b"true" if not for_good else b"false")
    )
    assert more == ([b"41"] if for_good else [])
