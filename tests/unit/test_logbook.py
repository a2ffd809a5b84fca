"""When a line is written: at once, later, or not at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_push.logbook import FEW, LINE_EVERY, Logbook


class Book:
    """A logbook on a clock; ``lines`` are what was written, with the time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.book = Logbook(self.clock)
        self.lines: list[tuple[float, str]] = []

    def begins(self, what: str) -> None:
        self.book.begins(what, lambda: self._write(f"{what}"))

    def ends(self, *these: str) -> None:
        self.book.ends(these, lambda: self._write(f"no {' '.join(these)}"))

    def one(self, what: str) -> None:
        if self.book.few(what, lambda count: self._write(f"{count} more of {what}")):
            self._write(what)

    def _write(self, line: str) -> None:
        self.lines.append((self.clock.seconds(), line))

    def written(self) -> list[tuple[float, str]]:
        lines, self.lines = self.lines, []
        return lines


def test_a_change_is_a_line_and_nothing_else_is() -> None:
    b = Book()
    b.ends("fire")
    for _ in range(3):
        b.begins("fire")
        b.begins("flood")
    for _ in range(3):
        b.ends("fire")
    assert b.written() == [(0.0, "fire"), (0.0, "flood"), (0.0, "no fire")]
    assert b.clock.getDelayedCalls() == []


def test_that_it_is_so_again_comes_later_if_it_is_so_still() -> None:
    b = Book()
    b.begins("fire")
    b.ends("fire")
    b.clock.advance(2)
    b.begins("fire")
    b.begins("fire")
    assert b.written() == [(0.0, "fire"), (0.0, "no fire")]
    b.clock.advance(LINE_EVERY)
    assert b.written() == [(2 + LINE_EVERY, "fire")]
    b.ends("fire")
    assert b.written() == [(2 + LINE_EVERY, "no fire")]


def test_what_was_over_before_it_was_written_is_not_written() -> None:
    b = Book()
    b.begins("fire")
    b.ends("fire")
    b.begins("fire")
    b.ends("fire")
    b.clock.advance(2 * LINE_EVERY)
    assert b.written() == [(0.0, "fire"), (0.0, "no fire")]
    assert b.clock.getDelayedCalls() == []


def test_several_that_end_together_are_one_line() -> None:
    b = Book()
    b.begins("fire")
    b.begins("flood")
    b.written()
    b.ends("fire", "flood", "storm")
    assert b.written() == [(0.0, "no fire flood storm")]
    b.ends("fire", "flood")
    assert b.written() == []


def test_after_the_end_nothing_is_written_later() -> None:
    b = Book()
    b.begins("fire")
    b.ends("fire")
    b.begins("fire")
    b.book.close()
    assert b.clock.getDelayedCalls() == []
    b.begins("fire")
    assert b.clock.getDelayedCalls() == []


@given(st.lists(st.sampled_from(["begins", "ends", 1.0, 4.0, 11.0]), max_size=60))
def test_it_is_true_after_a_while_and_never_much(events: list[str | float]) -> None:
    b, so = Book(), False
    for event in events:
        if isinstance(event, float):
            b.clock.advance(event)
            continue
        so = event == "begins"
        (b.begins if so else b.ends)("fire")
    assert len(b.lines) <= 2 * (1 + b.clock.seconds() / LINE_EVERY)
    b.clock.advance(LINE_EVERY)
    assert (bool(b.lines) and b.lines[-1][1] == "fire") is so


# --- What happens to many --------------------------------------------------------------------


def test_the_first_few_have_a_line_and_the_others_are_counted() -> None:
    b = Book()
    for _ in range(FEW + 400):
        b.one("refused")
    assert b.written() == [(0.0, "refused")] * FEW
    for _ in range(20):
        b.clock.advance(1)
        b.one("refused")
    assert b.written() == [(10.0, "409 more of refused"), (20.0, "10 more of refused")]
    b.clock.advance(10)
    assert b.written() == [(30.0, "1 more of refused")]


def test_kinds_are_apart_and_forgotten_when_it_is_quiet() -> None:
    b = Book()
    for what in ("refused", "closed"):
        for _ in range(FEW + 1):
            b.one(what)
    for _ in range(2):
        b.clock.advance(LINE_EVERY)
    assert b.clock.getDelayedCalls() == []
    assert [line for _, line in b.written()][-2:] == ["1 more of refused", "1 more of closed"]
    b.one("refused")
    assert b.written() == [(2 * LINE_EVERY, "refused")]


def test_at_the_end_it_is_told_how_many_there_were() -> None:
    b = Book()
    for _ in range(FEW + 2):
        b.one("refused")
    b.written()
    b.book.close()
    assert b.written() == [(0.0, "2 more of refused")]
    assert b.clock.getDelayedCalls() == []
    for _ in range(FEW + 2):
        b.one("refused")
    assert b.clock.getDelayedCalls() == []


@given(st.lists(st.sampled_from([1, 3, 40, 1.0, 4.0, 11.0]), max_size=60))
def test_of_whatever_happens_nothing_is_lost(events: list[int | float]) -> None:
    b, happened = Book(), 0
    for event in events:
        if isinstance(event, float):
            b.clock.advance(event)
        else:
            for _ in range(event):
                b.one("it")
            happened += event
    assert len(b.lines) <= (FEW + 1) * (1 + b.clock.seconds() / LINE_EVERY)
    b.book.close()
    told = sum(1 if line == "it" else int(line.split()[0]) for _, line in b.lines)
    assert told == happened
