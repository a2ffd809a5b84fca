"""The table of descriptors that take ready frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from twisted_push.wires import MAX_CODECS, NO_DESCRIPTOR, Wires, rest_of


def codecs() -> Iterator[Any]:
    while True:
        yield object()


def test_nothing_is_open_at_first() -> None:
    wires = Wires(os.write)
    assert wires.numbers[NO_DESCRIPTOR] == 0
    assert wires.number(next(codecs())) == 0
    wires.shut(12)


def test_what_is_open_has_the_number_of_its_codec() -> None:
    wires, some = Wires(os.write), codecs()
    one, two = next(some), next(some)
    wires.open(5, one)
    wires.open(9, two)
    wires.open(2, one)
    assert wires.number(one) != wires.number(two)
    assert [wires.numbers[each] for each in (5, 9, 2)] == [
        wires.number(one),
        wires.number(two),
        wires.number(one),
    ]
    assert sum(map(bool, wires.numbers)) == 3
    wires.shut(9)
    assert wires.numbers[9] == 0
    assert wires.numbers[5] == wires.number(one)


@pytest.mark.parametrize("highest", [0, 1, 7, 1000])
def test_no_descriptor_is_never_open(highest: int) -> None:
    wires = Wires(os.write)
    wires.open(highest, next(codecs()))
    wires.open(NO_DESCRIPTOR, next(codecs()))
    wires.shut(NO_DESCRIPTOR)
    assert wires.numbers[highest] == 1
    assert wires.numbers[NO_DESCRIPTOR] == 0


def test_clients_of_too_many_codecs_are_not_written_to() -> None:
    wires = Wires(os.write)
    for descriptor, codec in zip(range(MAX_CODECS + 2), codecs(), strict=False):
        wires.open(descriptor, codec)
    assert list(wires.numbers[: MAX_CODECS + 2]) == [*range(1, MAX_CODECS + 1), 0, 0]


def test_what_is_left_of_a_frame_is_no_copy_unless_it_is_little() -> None:
    frame = b"0123456789"
    for sent in range(10):
        rest = rest_of(frame, sent)
        assert rest == frame[sent:]
        assert (isinstance(rest, memoryview) and rest.obj is frame) is (sent < 5)
    rest = rest_of(rest_of(frame, 1), 2)
    assert rest == b"3456789"
