"""Engine.IO: packets and payloads of both versions, byte for byte, and what strangers send."""

from __future__ import annotations

import json
import tracemalloc
from base64 import b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twisted_push.errors import ProtocolError
from twisted_push.protocols.engineio import (
    ERROR_MESSAGES,
    MAX_LENGTH_DIGITS,
    MAX_PACKETS,
    Packet,
    PacketType,
    decode_binary,
    decode_payload,
    decode_text,
    encode_packet,
    encode_payload,
    error_body,
    open_packet,
)

CLOSE, PING, PONG = PacketType.CLOSE, PacketType.PING, PacketType.PONG
MESSAGE, UPGRADE, NOOP = PacketType.MESSAGE, PacketType.UPGRADE, PacketType.NOOP
MIB = 1024 * 1024


def read(body: str | bytes, version: int, *, binary: bool = False) -> list[Packet]:
    return decode_payload(body.encode() if isinstance(body, str) else body, version, binary=binary)


# --- Packets ---------------------------------------------------------------------------------

TEXT = [
    (Packet(CLOSE), b"1"),
    (Packet(PING), b"2"),
    (Packet(PING, b"probe"), b"2probe"),
    (Packet(PONG, b"probe"), b"3probe"),
    (Packet(MESSAGE, b"0"), b"40"),
    (Packet(MESSAGE), b"4"),
    (Packet(MESSAGE, b'2["e",1]'), b'42["e",1]'),
    (Packet(MESSAGE, "😀ä".encode()), "4😀ä".encode()),
    (Packet(MESSAGE, b"b4QUI="), b"4b4QUI="),
    (Packet(UPGRADE), b"5"),
    (Packet(NOOP), b"6"),
]


@pytest.mark.parametrize(("packet", "text"), TEXT)
def test_a_text_packet_is_a_digit_and_its_data(packet: Packet, text: bytes) -> None:
    assert encode_packet(packet) == text
    assert decode_text(text) == packet


NO_TEXT_PACKETS = [
    b"", b"7", b"9x", b"x", b" 4", b"-1", b"+4", b"b4QUI=", b"bQUI=", b"\x04", b"\x00", b"\xff",
    "\u0664".encode(), "\uff14".encode(), b"4\xff", b"4\xed\xa0\x80", b"4\xc3",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_TEXT_PACKETS)
def test_what_is_no_text_packet(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_text(text)


def test_a_binary_message_has_a_type_in_version_3_alone() -> None:
    assert decode_binary(b"\x04\x00\xff", 3) == Packet(MESSAGE, b"\x00\xff", binary=True)
    assert decode_binary(b"\x02", 3) == Packet(PING, b"", binary=True)
    assert decode_binary(b"\x04\x00\xff", 4) == Packet(MESSAGE, b"\x04\x00\xff", binary=True)
    assert decode_binary(b"", 4) == Packet(MESSAGE, b"", binary=True)


@pytest.mark.parametrize("message", [b"", b"\x07", b"4", b"\xff"])
def test_a_binary_message_of_version_3_without_a_known_type(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_binary(message, 3)


# --- What the server says --------------------------------------------------------------------


def test_the_opening_as_captured() -> None:
    packet = open_packet(
        "CqOz_vvS5FRy-jKUAAAA",
        upgrades=["websocket"],
        ping_interval=25,
        ping_timeout=5,
        max_payload=1_000_000,
        version=3,
    )
    assert encode_payload([packet, b"40"], 3) == (
        b'96:0{"sid":"CqOz_vvS5FRy-jKUAAAA","upgrades":["websocket"],'
        b'"pingInterval":25000,"pingTimeout":5000}2:40'
    )


def test_the_opening_of_version_4_says_how_much_may_be_posted() -> None:
    packet = open_packet(
        "s", upgrades=[], ping_interval=0.3, ping_timeout=20.0, max_payload=65536, version=4
    )
    assert packet == (
        b'0{"sid":"s","upgrades":[],"pingInterval":300,"pingTimeout":20000,"maxPayload":65536}'
    )


def test_error_bodies() -> None:
    assert error_body(1) == b'{"code":1,"message":"Session ID unknown"}'
    assert [json.loads(error_body(code))["message"] for code in range(6)] == [
        "Transport unknown",
        "Session ID unknown",
        "Bad handshake method",
        "Bad request",
        "Forbidden",
        "Unsupported protocol version",
    ]
    assert len(ERROR_MESSAGES) == 6


# --- Payloads --------------------------------------------------------------------------------

CAPTURED = b'67:42["authenticate",{"authToken":"55ca107a635c229ed940c49c502c9b31"}]'


def test_a_captured_payload() -> None:
    [packet] = read(CAPTURED, 3)
    assert packet.type is MESSAGE
    assert packet.data == b'2["authenticate",{"authToken":"55ca107a635c229ed940c49c502c9b31"}]'
    assert encode_payload([encode_packet(packet)], 3) == CAPTURED


PAYLOADS: list[tuple[list[Packet], str, str]] = [
    ([Packet(NOOP)], "1:6", "6"),
    ([Packet(MESSAGE, b"0"), Packet(PING)], "2:401:2", "40\x1e2"),
    ([Packet(MESSAGE, b"1:4"), Packet(MESSAGE)], "4:41:41:4", "41:4\x1e4"),
    ([Packet(MESSAGE, "ä€".encode())], "3:4ä€", "4ä€"),
    ([Packet(MESSAGE, "😀".encode()), Packet(PONG)], "3:4😀1:3", "4😀\x1e3"),
    ([Packet(MESSAGE, "\ufeff".encode())], "2:4\ufeff", "4\ufeff"),
    ([Packet(MESSAGE, b"\r\n\x00")], "4:4\r\n\x00", "4\r\n\x00"),
]


@pytest.mark.parametrize(("packets", "third", "fourth"), PAYLOADS)
def test_text_payloads(packets: list[Packet], third: str, fourth: str) -> None:
    texts = [encode_packet(packet) for packet in packets]
    for version, body in ((3, third), (4, fourth)):
        assert encode_payload(texts, version) == body.encode()
        assert read(body, version) == packets


@pytest.mark.parametrize(
    ("body", "version", "packets"),
    [
        ("10:b4AAEC/zow1:2", 3, [Packet(MESSAGE, b"\0\1\2\xff:0", binary=True), Packet(PING)]),
        ("2:b4", 3, [Packet(MESSAGE, b"", binary=True)]),
        ("6:b2AA==", 3, [Packet(PING, b"\0", binary=True)]),
        ("bAAEC/zow\x1e2", 4, [Packet(MESSAGE, b"\0\1\2\xff:0", binary=True), Packet(PING)]),
        ("1\x1ebAA==", 4, [Packet(CLOSE), Packet(MESSAGE, b"\0", binary=True)]),
        ("b", 4, [Packet(MESSAGE, b"", binary=True)]),
    ],
)
def test_binary_packets_in_text(body: str, version: int, packets: list[Packet]) -> None:
    assert read(body, version) == packets


BAD_BASE64 = [
    # Padding that is missing, too much, or early.
    "A", "AA", "AA=", "AA===", "AA==AA==", "=AAA", "AAA=A", "=", "====",
    # Letters that are none: line breaks, space, the other alphabet.
    "AA==\n", " AA==", "AA==x", "A\nA==", "AAAA AAAA", "A_-A", "AAA*", "\u00c4AAA", "\u0663AAA",
    # Bits that do not count.
    "AB==", "AAB=",
]  # fmt: skip


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("text", BAD_BASE64)
def test_base64_has_one_proper_form(text: str, version: int) -> None:
    element = ("b4" if version == 3 else "b") + text
    with pytest.raises(ProtocolError, match="base64"):
        read(f"{len(element)}:{element}" if version == 3 else element, version)


@pytest.mark.parametrize("element", ["b", "b7AA==", "bAA==", "b٤AA=="])
def test_base64_of_version_3_has_a_known_type(element: str) -> None:
    with pytest.raises(ProtocolError, match="type"):
        read(f"{len(element)}:{element}", 3)


BAD_TEXT = [
    # No length, or one that is written oddly. Leading zeros are no proper length.
    "", ":", ":4", "4", "40", "x:4", "+1:4", "-1:4", " 1:4", "1 :4", "\n1:4", "1.0:4", "1e0:4",
    "0x1:4", "01:4", "00:", "1_0:4", "٣:4ab", "\uff11:4", "²:4a", "0:", "0:1:4", "\ufeff1:4",
    "b1:4",
    # A length that lies.
    "3:4", "2:4", "1:4x", "1:40", "1:41:", "2:401:", "1:41", "1:4 1:4", "999999999:4",
    # A length too long to be one.
    "1" * (MAX_LENGTH_DIGITS + 1) + ":4", "9" * 5000 + ":4", "9" * 5000,
    # A length that ends within a surrogate pair; a count of characters or of bytes.
    "2:4😀", "2:4😀1:2", "5:4😀", "3:4ä",
    # Elements that are no packets.
    "1:7", "1:x", "1:41:x", "1:ä", "1: ",
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_TEXT)
def test_bad_text_payloads_of_version_3(body: str) -> None:
    with pytest.raises(ProtocolError):
        read(body, 3)


@pytest.mark.parametrize("body", [b"1:\xff", b"2:4\xff", b"\xff", b"4:4\xed\xa0\x80", b"3:4\xc3"])
def test_text_payloads_are_utf_8(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(body, 3)
    with pytest.raises(ProtocolError):
        read(b"4" + body, 4)


@pytest.mark.parametrize("body", ["", "\x1e", "4\x1e", "\x1e4", "4\x1e\x1e4", "7", "40\x1ex", " 4"])
def test_bad_payloads_of_version_4(body: str) -> None:
    with pytest.raises(ProtocolError):
        read(body, 4)


@pytest.mark.parametrize(
    ("body", "packets"),
    [
        (b"\x00\x01\xff2", [Packet(PING)]),
        (b"\x00\x02\xff40\x00\x01\xff1", [Packet(MESSAGE, b"0"), Packet(CLOSE)]),
        # Lengths are of bytes here.
        (b"\x00\x05\xff4\xf0\x9f\x98\x80", [Packet(MESSAGE, "😀".encode())]),
        (b"\x00\x01\x00\xff4123456789", [Packet(MESSAGE, b"123456789")]),
        (b"\x01\x03\xff\x04\xff\x00", [Packet(MESSAGE, b"\xff\x00", binary=True)]),
        (b"\x01\x01\xff\x04", [Packet(MESSAGE, b"", binary=True)]),
        (b"\x00\x06\xffb4AA==", [Packet(MESSAGE, b"\0", binary=True)]),
        (b"\x01\x01\x00\xff\x04" + b"\n" * 9, [Packet(MESSAGE, b"\n" * 9, binary=True)]),
    ],
)
def test_binary_payloads_of_version_3(body: bytes, packets: list[Packet]) -> None:
    assert read(body, 3, binary=True) == packets


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"\x00\xff",
        b"\x00\x01",
        b"\x00\x01\xff",
        b"\x00\x00\xff",
        b"\x00\x00\x01\xff4",
        b"\x00\x02\xff4",
        b"\x00\x01\xff40",
        b"\x02\x01\xff4",
        b"01\xff4",
        b"\x001\xff4",
        b"\x00\x0a\xff4123456789",
        b"\x00\x01\x0a\xff4123456789",
        b"\x00\x01\xff\xff",
        b"\x00\x02\xff4\xff",
        b"\x00\x01\xff7",
        b"\x01\x01\xff4",
        b"\x00" + b"\x09" * MAX_LENGTH_DIGITS + b"\xff4",
        b"\x00\x01" + b"\x00" * MAX_LENGTH_DIGITS + b"\xff4",
        b"\x00" + b"\x09" * 5000 + b"\xff4",
        CAPTURED,
    ],
)
def test_bad_binary_payloads_of_version_3(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(body, 3, binary=True)


def test_a_length_has_a_most_number_of_digits() -> None:
    for digits, fault in ((MAX_LENGTH_DIGITS, "shorter"), (MAX_LENGTH_DIGITS + 1, "proper length")):
        for body, binary in (
            (b"9" * digits + b":4", False),
            (b"\x00" + b"\x09" * digits + b"\xff4", True),
        ):
            with pytest.raises(ProtocolError, match=fault):
                read(body, 3, binary=binary)


def test_version_4_has_no_binary_payloads() -> None:
    with pytest.raises(ProtocolError):
        read(b"4", 4, binary=True)


def test_one_fault_refuses_the_payload() -> None:
    with pytest.raises(ProtocolError):
        read("2:401:x2:40", 3)
    with pytest.raises(ProtocolError):
        read("40\x1ex\x1e40", 4)


@pytest.mark.parametrize(
    ("body", "version"),
    [
        (b"9:4s3cret", 3),
        (b"4:4s3cret", 3),
        (b"8:4s3cret\xff", 3),
        (b"3:4\xf0\x9f\x98\x80s3cret", 3),
        (b"6:s3cret", 3),
        (b"10:b4s3cret!!", 3),
        (b"s3cret", 3),
        (b"s3cret", 4),
        (b"bs3cret!!", 4),
        (b"4s3cret\xff", 4),
    ],
)
def test_a_complaint_shows_nothing_of_the_payload(body: bytes, version: int) -> None:
    with pytest.raises(ProtocolError) as error:
        read(body, version)
    assert "s3cret" not in str(error.value)
    # Errors of the libraries hold what they were given.
    assert error.value.__suppress_context__ or error.value.__context__ is None


# --- Round trips -----------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]))
packets = st.builds(Packet, st.sampled_from(PacketType), texts.map(str.encode))


@given(st.lists(packets, min_size=1))
@example([Packet(MESSAGE, "😀".encode()), Packet(MESSAGE, "\U00010000x".encode())])
def test_version_3_brings_back_any_text(sent: list[Packet]) -> None:
    body = encode_payload([encode_packet(packet) for packet in sent], 3)
    assert read(body, 3) == sent


@given(st.lists(packets.filter(lambda packet: b"\x1e" not in packet.data), min_size=1))
def test_version_4_brings_back_any_text_without_the_separator(sent: list[Packet]) -> None:
    body = encode_payload([encode_packet(packet) for packet in sent], 4)
    assert read(body, 4) == sent


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(PacketType), texts, st.binary())))
def test_the_binary_form_brings_back_anything(parts: list[tuple[bool, int, str, bytes]]) -> None:
    body, sent = b"", []
    for binary, number, text, data in [*parts, (False, 4, "", b"")]:
        kind = PacketType(number)
        content = data if binary else text.encode()
        start = bytes([kind]) if binary else str(int(kind)).encode()
        length = bytes(int(digit) for digit in str(len(content) + 1))
        body += bytes([binary]) + length + b"\xff" + start + content
        sent.append(Packet(kind, content, binary))
    assert read(body, 3, binary=True) == sent


@given(st.binary())
def test_base64_brings_back_any_bytes(data: bytes) -> None:
    text = b64encode(data).decode()
    sent = [Packet(MESSAGE, data, binary=True)]
    assert read(f"{len(text) + 2}:b4{text}", 3) == sent
    assert read(f"b{text}", 4) == sent


def slowly(body: str) -> list[str] | None:
    """Cut a payload of version 3 as its definition says, unit by unit; None for a fault."""
    raw = body.encode("utf-16-le")
    units = [raw[at : at + 2] for at in range(0, len(raw), 2)]
    elements: list[str] = []
    while units:
        digits = ""
        while units and units[0] != b":\0":
            digits += units.pop(0).decode("utf-16-le", "replace")
        proper = digits.isascii() and digits.isdigit() and digits[0] != "0"
        if not units or not proper or int(digits) >= len(units):
            return None
        element = b"".join(units[1 : int(digits) + 1])
        units = units[int(digits) + 1 :]
        try:
            elements.append(element.decode("utf-16-le"))
        except UnicodeDecodeError:
            return None
    return elements


@given(st.text("01234:456ä😀", max_size=20).map(lambda text: text + "1:4"))
@example("1:42:4ä3:4😀1:4")
def test_version_3_is_cut_as_defined(body: str) -> None:
    elements = slowly(body)
    if elements is None or any(element[0] not in "0123456" for element in elements):
        with pytest.raises(ProtocolError):
            read(body, 3)
    else:
        assert read(body, 3) == [decode_text(element.encode()) for element in elements]


# --- Strangers -------------------------------------------------------------------------------

pieces = st.sampled_from(
    [b":", b"\x1e", b"\xff", b"\0", b"\1", b"\4", b"1", b"4", b"b4", b"AA==", b"\xf0\x9f\x98\x80"]
)
bodies = st.binary(max_size=100) | st.lists(pieces, max_size=20).map(b"".join)


@given(bodies, st.sampled_from([3, 4]), st.booleans())
def test_any_bytes_are_packets_or_refused(body: bytes, version: int, binary: bool) -> None:
    for decode in (
        lambda: read(body, version, binary=binary),
        lambda: [decode_text(body)],
        lambda: [decode_binary(body, version)],
    ):
        try:
            result = decode()
        except ProtocolError:
            continue
        assert result
        for packet in result:
            assert isinstance(packet.type, PacketType)
            assert packet.binary or packet.data.decode() is not None


@pytest.mark.parametrize(
    ("element", "version", "binary"),
    [("1:6", 3, False), ("6", 4, False), ("\x00\x01\xff6", 3, True)],
)
def test_a_payload_has_a_most_number_of_packets(element: str, version: int, binary: bool) -> None:
    between = b"\x1e" if version == 4 else b""
    one = element.encode("latin-1")
    body = between.join([one] * MAX_PACKETS)
    assert read(body, version, binary=binary) == [Packet(NOOP)] * MAX_PACKETS
    with pytest.raises(ProtocolError, match="too many"):
        read(body + between + one, version, binary=binary)


SHAPES = [
    b"1", b"9", b"0", b":", b"1:", b"1:4", b"1:6", b"4\x1e", b"\x1e", b"b4", b"b", b"A", b"=",
    b"\x00", b"\x01", b"\x09", b"\x00\x01\xff6", b"\x01\x01\xff\x04", b"\xff", b"\xf0\x9f\x98\x80",
    b"2:4\xf0\x9f\x98\x80", b"3:4\xf0\x9f\x98\x80", b"0\x00", b" ", b"-", b"4",
]  # fmt: skip
"""What a large body may consist of. Quadratic work on one of 1 MiB takes longer than any test."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("version", "binary"), [(3, False), (3, True), (4, False)])
def test_large_bodies_of_any_shape_cost_little(shape: bytes, version: int, binary: bool) -> None:
    plain = shape * (MIB // len(shape))
    wholes = [plain, b"b4" + plain, b"b" + plain, b"4" + plain]
    for whole in list(wholes):
        wholes.append(b"%d:%s" % (len(whole), whole))
        digits = bytes(int(digit) for digit in str(len(whole)))
        wholes += [b"%c%s\xff%s" % (kind, digits, whole) for kind in (0, 1)]
    for whole in wholes:
        tracemalloc.start()
        try:
            decode_payload(whole, version, binary=binary)
        except ProtocolError:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < 12 * len(whole)


def test_a_lying_length_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        for binary, body in ((False, b"999999999:4"), (True, b"\x00" + b"\x09" * 9 + b"\xff4")):
            with pytest.raises(ProtocolError, match="shorter"):
                decode_payload(body, 3, binary=binary)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
