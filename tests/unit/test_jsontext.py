"""JSON at the door: strict, bounded, and kept byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from twisted_push.errors import PushError
from twisted_push.jsontext import MAX_DEPTH, JsonError, Raw, decoder, one_line


class Message(Struct):
    """An envelope with a payload."""

    channel: str
    data: Raw
    count: int = 0


read_any: Callable[[bytes], Any] = decoder(Any)
read_fields: Callable[[bytes], dict[str, Raw]] = decoder(dict[str, Raw])
read_message: Callable[[bytes], Message] = decoder(Message)
read_loosely: Callable[[bytes], Message] = decoder(Message, strict=False)

NO_JSON = [
    b"",
    b" ",
    b"NaN",
    b"nan",
    b"Infinity",
    b"-Infinity",
    b"inf",
    b"-Inf",
    b"undefined",
    b"tru",
    b"truex",
    b"True",
    b"01",
    b"-01",
    b"+1",
    b"--1",
    b"-",
    b".5",
    b"1.",
    b"1.e1",
    b"1e",
    b"0x1",
    b"1 2",
    b"1}",
    b"[1,]",
    b"[,1]",
    b"[1",
    b"[1}",
    b'{"b":1,}',
    b'{"b"}',
    b"{b:1}",
    b"{'b':1}",
    b"{1:1}",
    b'"open',
    b"'x'",
    b'"\n"',
    b'"a\rb"',
    b'"\t"',
    b'"\x00"',
    b'"\x1f"',
    rb'"\q"',
    rb'"\u12"',
    rb'"\u12g4"',
    rb'"\ud800"',
    rb'"\ud800x"',
    rb'"\ud800\ud800"',
    rb'"\ud800\u0041"',
    rb'"\udc00"',
    rb'"\udc00\ud800"',
    rb'{"\udfff":1}',
    rb'["\ud83d"]',
    b'"\xff"',
    b'"\xc3"',
    b'"\xc0\xaf"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b"\x0b1",
    b"\x0c1",
    b"\xc2\xa01",
    b"\xe2\x80\xa81",
    b"\xef\xbb\xbf1",
    b"/* c */1",
    b"1//",
]


@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json_is_refused_as_a_whole_and_as_a_payload(text: bytes) -> None:
    with pytest.raises(JsonError) as error:
        read_any(text)
    assert error.value.syntax
    for payload in (b'{"a":' + text + b"}", b'{"a":[' + text + b"]}", b'{"a":{"k":' + text + b"}}"):
        if text.strip() in (b"", b"/* c */1") and payload.startswith(b'{"a":['):
            continue  # An empty array is none of the cases.
        with pytest.raises(JsonError) as error:
            read_fields(payload)
        assert error.value.syntax


@pytest.mark.parametrize("tail", [b"x", b"}", b"{}", b" 1", b",", b"\x00", b"\n{}", b"\xff"])
def test_nothing_may_follow(tail: bytes) -> None:
    with pytest.raises(JsonError):
        read_fields(b'{"a":1}' + tail)


@pytest.mark.parametrize(
    "text",
    [
        b"0",
        b"-0",
        b"1.10",
        b"1E+5",
        b"1e999",
        b"123456789012345678901234567890",
        b"null",
        b'""',
        rb'"\ud83d\ude00"',
        rb'"\u0000\/\b"',
        b'"\x7f"',
        '"\u2028\U0010ffff\x85"'.encode(),
        b'{"a":1,"a":2}',
        b"[ 1 ,\t2\r\n]",
    ],
)
def test_a_payload_is_kept_as_it_was_written(text: bytes) -> None:
    for around in (b"%s", b" \t%s\r\n "):
        fields = read_fields(b'{"a":' + around % text + b',"b":1}')
        assert bytes(fields["a"]) == text


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates are no Unicode text.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=20,
)
spaces = st.text(" \t\r\n", max_size=3)


def spaced(value: object, draw: Any) -> str:
    """Write JSON with odd space wherever it may stand."""
    if isinstance(value, dict):
        items = [
            draw(spaces) + json.dumps(key) + draw(spaces) + ":" + spaced(each, draw)
            for key, each in value.items()
        ]
        text = "{" + (",".join(items) or draw(spaces)) + "}"
    elif isinstance(value, list):
        text = "[" + (",".join(spaced(each, draw) for each in value) or draw(spaces)) + "]"
    else:
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    before, after = draw(spaces), draw(spaces)
    return f"{before}{text}{after}"


@given(json_values, st.data())
def test_raw_is_the_very_slice(value: object, data: st.DataObject) -> None:
    payload = spaced(value, data.draw)
    space = data.draw(spaces)
    text = f'{{{space}"channel":"c","data":{payload},"later":[1]}}{space}'
    message = read_message(text.encode())
    assert bytes(message.data) == payload.strip(" \t\r\n").encode()
    assert json.loads(bytes(message.data)) == value


@given(json_values, st.data())
def test_one_line_changes_space_only(value: object, data: st.DataObject) -> None:
    text = spaced(value, data.draw).encode()
    line = one_line(text)
    assert b"\n" not in line
    assert b"\r" not in line
    assert len(line) == len(text)
    assert json.loads(line) == value


def test_one_line_leaves_alone_what_has_no_break() -> None:
    text = rb'{"a": "b\nc"}'
    assert one_line(text) is text
    assert one_line(b'[1,\r\n2,\n"\\r\\n"\r]') == b'[1,  2, "\\r\\n" ]'


# --- Depth -----------------------------------------------------------------------------------


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + closing * depth


def objects(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize("text", [nested(MAX_DEPTH), objects(MAX_DEPTH)])
def test_the_deepest_that_is_let_in(text: bytes) -> None:
    assert read_any(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 129 + b'"' + b'\\"' * 500_000,
        b"[" * 129 + b'"' + b"a" * 1_000_000,
        b"[" * 129 + b'"' + b"\\",
        b'["' * 500_000,
        b"[]," * 300_000,
    ],
)
def test_no_text_makes_the_look_for_depth_slow(text: bytes) -> None:
    with pytest.raises(JsonError):  # A pattern that tracks back would need hours for some.
        read_fields(text)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 10_000, 1_000_000])
@pytest.mark.parametrize("closed", [True, False])
def test_deeper_is_refused(depth: int, closed: bool) -> None:
    for opening in (b"[", b'{"a":', b'[{"":'):
        text = opening * depth + (b"]" * depth if closed else b"")
        with pytest.raises(JsonError, match="nested deeper than 128") as error:
            read_any(text)
        assert error.value.syntax


def test_a_payload_counts_with_its_envelope() -> None:
    assert read_fields(b'{"a":' + nested(MAX_DEPTH - 1) + b"}")
    with pytest.raises(JsonError, match="nested deeper"):
        read_fields(b'{"a":' + nested(MAX_DEPTH) + b"}")


@pytest.mark.parametrize(
    "text",
    [
        b'"' + b"[" * 10_000 + b'"',
        b'"' + b"{" * 10_000 + b'"',
        b'"' + rb"\"[" * 5_000 + b'"',
        b'"' + rb"\\" + b"[" * 5_000 + b'"',
        b'{"' + b"[" * 5_000 + b'":"' + b"]{" * 5_000 + b'"}',
        b"[" + b"[]," * 5_000 + b"[]]",
        b"[" + b"{}," * 5_000 + b"{}]",
        nested(100),
    ],
)
def test_brackets_within_strings_and_beside_each_other_are_no_depth(text: bytes) -> None:
    assert read_any(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        rb'["\\",' + b"[" * 200 + b"]" * 200 + b"]",
        rb'["\"",' + b"[" * 200 + b"]" * 200 + b"]",
        b'["[[[",' * 129 + b"1" + b"]" * 129,
        b'{"]]]":' * 129 + b"1" + b"}" * 129,
        b'["' + b"]" * 1000 + b'",' + b"[" * 128 + b"]" * 129,
    ],
)
def test_strings_do_not_hide_depth(text: bytes) -> None:
    json.loads(text)  # It is JSON, only too deep.
    with pytest.raises(JsonError, match="nested deeper"):
        read_any(text)


@pytest.mark.parametrize(
    "text",
    [b'"' + b"[" * 300, b"]" * 300 + b"[" * 300, b'["' + b"[" * 300 + b'\\"]', b'\\"' + b"[" * 500],
)
def test_malformed_text_with_many_brackets_is_still_refused(text: bytes) -> None:
    with pytest.raises(JsonError):
        read_any(text)


# --- Errors and shapes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"null",
        b"{}",
        b'{"channel":1,"data":1}',
        b'{"channel":null,"data":1}',
        b'{"channel":"c"}',
        b'{"channel":"c","data":1,"count":"5"}',
        b'{"channel":"c","data":1,"count":1.5}',
        b'{"channel":"c","data":1,"count":true}',
    ],
)
def test_good_json_of_the_wrong_shape(text: bytes) -> None:
    with pytest.raises(JsonError) as error:
        read_message(text)
    assert not error.value.syntax
    assert str(error.value) == error.value.message
    assert isinstance(error.value, PushError)


def test_numbers_in_strings_only_where_they_are_let_in() -> None:
    text = b'{"channel":"c","data":1,"count":"5"}'
    assert read_loosely(text).count == 5


def test_unknown_fields_are_ignored() -> None:
    assert read_message(b'{"x":{"y":[]},"channel":"c","data":{}}').channel == "c"


def test_a_complaint_shows_nothing_of_the_payload() -> None:
    for text in (
        b'{"channel":["s3cret"],"data":1}',
        b'{"channel":"s3cret","data":s3cret}',
        b'{"channel":"s3cret","data":"s3cret',
        b'{"channel":"c","data":1,"count":"s3cret"}',
        b'"s3cret\xff"',
    ):
        with pytest.raises(JsonError) as error:
            read_message(text)
        assert "s3cret" not in str(error.value)
        assert error.value.__cause__ is None


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(text: bytes) -> None:
    try:
        read_any(text)
    except JsonError:
        return
    json.loads(text)


@given(st.text('{}[]",:\\ \n01-+.eEtrufalsn\u00e9', max_size=30))
def test_what_is_let_in_as_a_payload_python_takes_as_well(text: str) -> None:
    try:
        fields = read_fields(b'{"a":' + text.encode() + b"}")
    except JsonError:
        return
    for payload in fields.values():
        json.loads(bytes(payload))
    json.loads(b'{"a":' + text.encode() + b"}")
