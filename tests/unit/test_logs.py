"""Logs: a line an event, whatever strangers put into it."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel

from twisted_push.ops.logs import observer

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info |warn |error|critical) .*")
BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


def logged(log_format: str, level: str, text: str, /, **fields: object) -> str:
    """Give what is written of one event."""
    out = io.StringIO()
    log = Logger("twisted_push.test", observer=observer(out, log_format, "debug"))
    log.emit(LogLevel.levelWithName(level), text, **fields)
    return out.getvalue()


def entry(text: str) -> dict[str, Any]:
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_of_text() -> None:
    line = logged("text", "info", "client refused: {code}", code=3500)
    assert LINE.fullmatch(line.removesuffix("\n"))
    assert line.endswith(" info  client refused: 3500\n")


def test_a_line_of_json() -> None:
    found = entry(logged("json", "warn", "client refused: {code}", code=3500))
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warn",
        "logger": "twisted_push.test",
        "message": "client refused: 3500",
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_time_is_that_of_the_event_in_utc(log_format: str) -> None:
    out = io.StringIO()
    observer(out, log_format, "info")(
        {
            "log_time": 1_700_000_000.25,
            "log_format": "x",
            "log_level": LogLevel.info,
            "log_namespace": "x",
        }
    )
    assert "2023-11-14T22:13:20.250Z" in out.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("line_break", BREAKS)
def test_a_line_break_from_a_stranger_begins_no_line(log_format: str, line_break: str) -> None:
    forged = f"x{line_break}2026-01-01T00:00:00.000Z info  all is well"
    for text in (
        logged(log_format, "info", "from {address}", address=forged),
        logged(log_format, "info", "from {address!r}", address=forged),
        logged(log_format, "info", forged),
    ):
        assert text.endswith("\n")
        assert len(text.splitlines()) == 1


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["text", "json"]))
def test_any_text_is_one_line(text: str, log_format: str) -> None:
    written = logged(log_format, "info", "from {address}", address=text)
    assert written.endswith("\n")
    assert len(written.splitlines()) == 1
    if log_format == "json":
        assert json.loads(written)["message"].startswith("from")
    else:
        assert LINE.fullmatch(written.removesuffix("\n"))


@pytest.mark.parametrize(
    "text", ['"', "\\", '","level":"error","x":"', "\x00", "\x1b[31m", "{code}"]
)
def test_json_stays_json(text: str) -> None:
    found = entry(logged("json", "info", "{what}", what=text))
    assert set(found) == {"time", "level", "logger", "message"}
    assert found["message"] == text
    assert found["level"] == "info"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_event_that_cannot_be_formatted_is_still_one_line(log_format: str) -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError("no\ntext")

    text = logged(log_format, "info", "{what}", what=Broken())
    assert len(text.splitlines()) == 1
    assert len(logged(log_format, "info", "{missing}").splitlines()) == 1


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_event_without_anything_to_say_is_left_out(log_format: str) -> None:
    out = io.StringIO()
    observer(out, log_format, "info")({"log_level": LogLevel.info, "log_namespace": "x"})
    assert out.getvalue() == ""


LEVELS = ["debug", "info", "warn", "error", "critical"]


@pytest.mark.parametrize("least", LEVELS)
def test_only_events_from_a_level_on_are_written(least: str) -> None:
    out = io.StringIO()
    log = Logger("twisted_push.test", observer=observer(out, "json", least))
    for level in LEVELS:
        log.emit(LogLevel.levelWithName(level), "x")
    found = [json.loads(line)["level"] for line in out.getvalue().splitlines()]
    assert found == LEVELS[LEVELS.index(least) :]


@pytest.mark.parametrize(("least", "heard"), [("debug", True), ("info", False), ("warn", False)])
def test_every_connection_to_the_cms_is_heard_of_only_in_debug(least: str, heard: bool) -> None:
    out = io.StringIO()
    log = Logger("twisted.web.client", observer=observer(out, "json", least))
    log.info("Starting factory")
    assert bool(out.getvalue()) is heard
    log.error("broken")
    assert "broken" in out.getvalue()


def raise_it() -> None:
    raise ValueError("it\nbroke")


def test_a_failure_in_json_has_its_traceback_as_a_field() -> None:
    out = io.StringIO()
    log = Logger("twisted_push.test", observer=observer(out, "json", "info"))
    try:
        raise_it()
    except ValueError:
        log.failure("could not")
    found = entry(out.getvalue())
    assert found["level"] == "critical"
    assert found["message"] == "could not"
    assert "raise_it" in found["traceback"]
    assert "ValueError" in found["traceback"]


def test_a_failure_in_text_has_its_traceback_behind_its_line() -> None:
    out = io.StringIO()
    log = Logger("twisted_push.test", observer=observer(out, "text", "info"))
    try:
        raise_it()
    except ValueError:
        log.failure("could not")
    first, *rest = out.getvalue().splitlines()
    assert LINE.fullmatch(first)
    assert first.endswith("critical could not")
    assert any("raise_it" in line for line in rest)
