"""Socket.IO: packets of both revisions, byte for byte, and what strangers send."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twisted_push.errors import ProtocolError
from twisted_push.jsontext import MAX_DEPTH
from twisted_push.protocols.socketio import (
    MAX_ARGUMENTS,
    MAX_ATTACHMENTS,
    MAX_ID_DIGITS,
    MAX_NAMESPACE,
    Event,
    Packet,
    PacketType,
    ack,
    connect,
    connect_error,
    decode,
    disconnect,
    event,
    read_event,
)

CONNECT, DISCONNECT, ERROR = PacketType.CONNECT, PacketType.DISCONNECT, PacketType.ERROR
EVENT, ACK = PacketType.EVENT, PacketType.ACK
BINARY_EVENT, BINARY_ACK = PacketType.BINARY_EVENT, PacketType.BINARY_ACK
MIB = 1024 * 1024


def read(text: str | bytes) -> Packet:
    return decode(text.encode() if isinstance(text, str) else text)


# --- Packets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        ("0", Packet(CONNECT)),
        ('0{"token":"t"}', Packet(CONNECT, data=b'{"token":"t"}')),
        ("0/admin,", Packet(CONNECT, "/admin")),
        ("0/admin", Packet(CONNECT, "/admin")),
        ("0/admin?token=1,", Packet(CONNECT, "/admin")),
        ("0/admin?token=1", Packet(CONNECT, "/admin")),
        ("0/admin?a=/b?c,{}", Packet(CONNECT, "/admin", data=b"{}")),
        ("0/?token=1,", Packet(CONNECT)),
        ("0/,", Packet(CONNECT)),
        ('0/ä😀,{"a":1}', Packet(CONNECT, "/ä😀", data=b'{"a":1}')),
        ("1", Packet(DISCONNECT)),
        ("1/admin,", Packet(DISCONNECT, "/admin")),
        ('2["e"]', Packet(EVENT, data=b'["e"]')),
        ('20["e"]', Packet(EVENT, id=0, data=b'["e"]')),
        ('2007["e"]', Packet(EVENT, id=7, data=b'["e"]')),
        ('29999999999["e"]', Packet(EVENT, id=9999999999, data=b'["e"]')),
        ('2/admin,12["e", 1]', Packet(EVENT, "/admin", 12, b'["e", 1]')),
        ('2 ["e"]\n', Packet(EVENT, data=b' ["e"]\n')),
        ("2", Packet(EVENT)),
        ("31[]", Packet(ACK, id=1, data=b"[]")),
        ('4"no"', Packet(ERROR, data=b'"no"')),
        ('4/x,{"message":"no"}', Packet(ERROR, "/x", data=b'{"message":"no"}')),
        ('51-["f",{"_placeholder":true,"num":0}]',
         Packet(BINARY_EVENT, data=b'["f",{"_placeholder":true,"num":0}]', attachments=1)),
        ('50-["f"]', Packet(BINARY_EVENT, data=b'["f"]', attachments=0)),
        ('510-/x,7["f"]', Packet(BINARY_EVENT, "/x", 7, b'["f"]', MAX_ATTACHMENTS)),
        ('61-3[{"_placeholder":true,"num":0}]',
         Packet(BINARY_ACK, id=3, data=b'[{"_placeholder":true,"num":0}]', attachments=1)),
    ],
)  # fmt: skip
def test_packets_as_clients_send_them(text: str, packet: Packet) -> None:
    assert read(text) == packet


NO_PACKETS = [
    # No type, or an unknown one.
    "", " ", "7", "9[]", "x", "/", "-1", "+2[]", " 2[]", "[]", "\u0662[]", "\uff12[]", "\x02",
    # Digits that are none.
    '2\u0663["e"]', '2\u00b2["e"]', '2+1["e"]', '2-1["e"]', '21.5["e"]', '21_0["e"]', '20x1["e"]',
    '2 1["e"]', '5\u0661-["e"]',
    # Attachments: without a count, on their own, too many, where none are.
    "5", '5["e"]', '51["e"]', '5-["e"]', "51", '5+1-["e"]', '511-["e"]', '599-["e"]', '5001-["e"]',
    '5999999999-["e"]', '5 1-["e"]', '5/x,1-["e"]', '6["e"]', '21-["e"]', "01-",
    # What follows is no JSON.
    "2[", '2["e"', '2["e"]]', '2["e"]x', '2["e"],', '2["e"]\x00', "2{", "2e", "2[NaN]", "2[nan]",
    "2[Infinity]", "2[-Infinity]", "2[01]", '2["e",]', r'2["\ud800"]', r'2["e","\udc00x"]', "2 ",
    "2['e']", '2["\n"]', "0{,}", '0/admin,{"a"}', "1x", "4no", '2,["e"]', '2admin,["e"]', "0,",
    '2["e"]["e"]', "2undefined", "3[1", '4"',
    # Control characters in a namespace.
    "0/a\x00,", "0/\n,", "0/a\x1eb,", "0/a?\x7f,",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_PACKETS)
def test_what_is_no_packet(text: str) -> None:
    with pytest.raises(ProtocolError):
        read(text)


@pytest.mark.parametrize(
    "text", [b"\xff", b"2\xff", b'2["\xff"]', b'2["\xed\xa0\x80"]', b"0/\xff,", b"0/a\xc3,{}"]
)
def test_packets_are_utf_8(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(text)


def test_a_namespace_has_a_most_length_with_its_query() -> None:
    longest = "/" + "a" * 9 + "?" + "b" * (MAX_NAMESPACE - 11)
    assert read(f"0{longest},").namespace == "/" + "a" * 9
    for text in (f"0{longest}b,", f"0{longest}b", "0/" + "ä" * (MAX_NAMESPACE // 2) + ",{}"):
        with pytest.raises(ProtocolError, match="too long"):
            read(text)


def test_an_ack_id_has_a_most_number_of_digits() -> None:
    most = "9" * MAX_ID_DIGITS
    assert read(f'2{most}["e"]').id == int(most)
    for digits in (most + "9", "0" * (MAX_ID_DIGITS + 1), "9" * 10_000):
        for text in (f'2{digits}["e"]', f"3/x,{digits}[]", f"2{digits}"):
            with pytest.raises(ProtocolError, match="too long"):
                read(text)


@pytest.mark.parametrize("start", ["2", "0", "3", "51-", "2/x,7"])
def test_data_has_a_most_depth(start: str) -> None:
    assert read(start + "[" * MAX_DEPTH + "]" * MAX_DEPTH).data is not None
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(ProtocolError, match="nested deeper"):
            read(start + "[" * depth + "]" * depth)


SECRETS = [
    '2["s3cret"', '2s3cret["e"]', "0/s3cret\x00,", '2[1,"s3cret"]', "s3cret", '2{"s3cret":1}',
    '5s3cret-["e"]', '2["e",s3cret]', r'0/s3cret,"\ud800"', '0"s3cret\n"',
]  # fmt: skip


@pytest.mark.parametrize("text", SECRETS)
def test_a_complaint_shows_nothing_of_the_payload(text: str) -> None:
    with pytest.raises(ProtocolError) as error:
        read_event(read(text))
    assert "s3cret" not in str(error.value)
    # Errors of the libraries hold what they were given.
    assert error.value.__suppress_context__ or error.value.__context__ is None


# --- Events ----------------------------------------------------------------------------------


def read_text(text: str) -> Event:
    return read_event(read(text))


def test_captured_events() -> None:
    authenticate = '2["authenticate",{"authToken":"55ca107a635c229ed940c49c502c9b31"}]'
    assert read_text(authenticate) == Event(
        "authenticate", (b'{"authToken":"55ca107a635c229ed940c49c502c9b31"}',)
    )
    asked = read('20["authenticate",{"authToken":"86387aacefe7db287e294561366cacca"}]')
    assert asked.id == 0
    assert read_event(asked).name == "authenticate"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('2["e"]', Event("e", ())),
        ('2[""]', Event("", ())),
        (r'2["\u0065\ud83d\ude00"]', Event("e😀", ())),
        ('2["connect"]', Event("connect", ())),
        ('2["e",null]', Event("e", (b"null",))),
        ('2/x,1["e",1]', Event("e", (b"1",))),
        ('2[ "e" ,\t1.10 , {"b": 1,"a":2} ]', Event("e", (b"1.10", b'{"b": 1,"a":2}'))),
        (r'2["e","\u00e9\/",1E+400,123456789012345678901]',
         Event("e", (rb'"\u00e9\/"', b"1E+400", b"123456789012345678901"))),
        ('2["e",[],{"a":1,"a":2}]', Event("e", (b"[]", b'{"a":1,"a":2}'))),
    ],
)  # fmt: skip
def test_arguments_are_kept_as_they_were_written(text: str, read: Event) -> None:
    assert read_text(text) == read


NO_EVENTS = [
    "2", "27", "2/x,", "2[]", "2[1]", "2[null]", '2[["e"]]', '2[{"e":1}]', "2[true]", '2"e"',
    "2{}", '2{"0":"e"}', "2null", "2true", '2[1,"e"]',
]  # fmt: skip


@pytest.mark.parametrize("text", NO_EVENTS)
def test_what_is_no_event(text: str) -> None:
    packet = read(text)
    with pytest.raises(ProtocolError):
        read_event(packet)


@pytest.mark.parametrize("text", ['0["e"]', '1["e"]', '3["e"]', '4["e"]', '51-["e"]', '60-["e"]'])
def test_other_packets_are_no_events(text: str) -> None:
    packet = read(text)
    with pytest.raises(ProtocolError):
        read_event(packet)


def test_data_of_an_event_is_checked_even_if_it_was_not_read_by_the_codec() -> None:
    for data in (b"", b"[", b'["e",NaN]', b'["e"]x', b'["\xff"]', b"[" * 1000):
        with pytest.raises(ProtocolError):
            read_event(Packet(EVENT, data=data))


def test_an_event_has_a_most_number_of_arguments() -> None:
    most = ",".join(["1"] * MAX_ARGUMENTS)
    assert len(read_text(f'2["e",{most}]').args) == MAX_ARGUMENTS
    with pytest.raises(ProtocolError):
        read_text(f'2["e",{most},1]')


def test_too_many_arguments_take_no_memory() -> None:
    packet = read('2["e"' + ",1" * (MIB // 2) + "]")
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            read_event(packet)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert packet.data is not None
    assert peak < 3 * len(packet.data)


# --- To the client ---------------------------------------------------------------------------


def test_an_event_as_captured() -> None:
    data = b'{"presenceNotification":{"uid":"3","event":"online"}}'
    assert event("message", data) == (
        b'2["message",{"presenceNotification":{"uid":"3","event":"online"}}]'
    )


def test_other_events() -> None:
    assert event("e") == b'2["e"]'
    assert event('"\n\u00e9😀', b"1.10", b"null") == '2["\\"\\n\u00e9😀",1.10,null]'.encode()


def test_an_acknowledgement_as_captured() -> None:
    assert ack(0, b'{"result":"success"}') == b'30[{"result":"success"}]'


def test_other_acknowledgements() -> None:
    assert ack(7) == b"37[]"
    assert ack(9999999999, b"1", b"[2]") == b"39999999999[1,[2]]"


def test_connections() -> None:
    assert connect(4, "CqOz_vvS5FRy-jKUAAAA") == b"0"
    assert connect(5, "CqOz_vvS5FRy-jKUAAAA") == b'0{"sid":"CqOz_vvS5FRy-jKUAAAA"}'
    assert disconnect() == b"1"


@pytest.mark.parametrize(
    ("namespace", "revision", "expected"),
    [
        ("/admin", 4, '4/admin,"Invalid namespace"'),
        ("/admin", 5, '4/admin,{"message":"Invalid namespace"}'),
        ("/ä", 5, '4/ä,{"message":"Invalid namespace"}'),
        ("/", 4, '4"Invalid namespace"'),
        ("/", 5, '4{"message":"Invalid namespace"}'),
    ],
)
def test_refused_namespaces(namespace: str, revision: int, expected: str) -> None:
    assert connect_error(namespace, "Invalid namespace", revision) == expected.encode()


# --- Any input -------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates are no Unicode text.
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
arguments = st.lists(
    st.builds(
        lambda value, plain: json.dumps(value, ensure_ascii=plain).encode(), values, st.booleans()
    ),
    max_size=5,
)
ids = st.integers(min_value=0, max_value=10**MAX_ID_DIGITS - 1)


@given(texts, arguments)
def test_events_come_back_byte_for_byte(name: str, args: list[bytes]) -> None:
    packet = read(event(name, *args))
    assert (packet.type, packet.namespace, packet.id) == (EVENT, "/", None)
    assert read_event(packet) == Event(name, tuple(args))


@given(ids, arguments)
def test_acknowledgements_come_back(number: int, args: list[bytes]) -> None:
    packet = read(ack(number, *args))
    assert packet == Packet(ACK, id=number, data=b"[" + b",".join(args) + b"]")


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=",?\x7f", min_codepoint=32),
    max_size=50,
)


data = st.none() | values.filter(lambda value: not isinstance(value, int | float | None)).map(
    lambda value: json.dumps(value).encode()
)
namespaces = names.map(lambda name: "/" + name)
packets = st.builds(
    Packet, st.sampled_from(list(PacketType)[:5]), namespaces, st.none() | ids, data
) | st.builds(
    Packet,
    st.sampled_from([BINARY_EVENT, BINARY_ACK]),
    namespaces,
    st.none() | ids,
    data,
    st.integers(min_value=0, max_value=MAX_ATTACHMENTS),
)


@given(packets, names.map(lambda query: "?" + query) | st.just(""))
@example(Packet(EVENT, "/", 1, b"{}"), "")
def test_packets_come_back(packet: Packet, query: str) -> None:
    attachments = f"{packet.attachments}-" if packet.type >= BINARY_EVENT else ""
    number = "" if packet.id is None else str(packet.id)
    head = f"{int(packet.type)}{attachments}{packet.namespace}{query},{number}"
    assert decode(head.encode() + (packet.data or b"")) == packet


pieces = st.sampled_from(
    [b"2", b"0", b"51-", b"/x,", b"/", b",", b"?", b"7", b'["e"', b",1", b"]", b"{}", b'"', b"-"]
)


@given(st.binary(max_size=100) | st.lists(pieces, max_size=15).map(b"".join))
def test_any_bytes_are_a_packet_or_refused(message: bytes) -> None:
    try:
        packet = decode(message)
    except ProtocolError:
        return
    assert packet.namespace.startswith("/")
    if packet.data is not None:
        json.loads(packet.data)
    try:
        found = read_event(packet)
    except ProtocolError:
        return
    assert packet.data is not None
    assert [found.name, *map(json.loads, found.args)] == json.loads(packet.data)


SHAPES = [
    "0", "1", "9", "-", "1-", "/", "/,", ",", "?", "/a?", "]", "}", '"', '"",', "\\", '\\"', "\\\\",
    ":", "😀", " ", "\n", ",1", ',"e"',
]  # fmt: skip
"""What a large message may consist of. Quadratic work on 1 MiB takes longer than any test."""

STARTS = [
    "", "0", "2", "3", "5", "51-", "2/", "2/a?", "2/a,", "27", '2["', '2["e",', '2["e"', '2["e","',
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_large_messages_of_any_shape_cost_little(shape: str) -> None:
    for start in STARTS:
        for end in ("", "]", '"]', "x", ',["e"]'):
            message = (start + shape * (MIB // len(shape.encode())) + end).encode()
            tracemalloc.start()
            try:
                read_event(decode(message))
            except ProtocolError:
                pass
            finally:
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
            assert peak < 12 * len(message)
