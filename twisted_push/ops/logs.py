"""Logs as an operator reads them: a line an event, as text or as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)

__all__ = ["observer"]

MAX_MESSAGE = 2000
"""Most characters of an event's text; a traceback is not cut."""

_CHATTY = {"twisted.web.client": LogLevel.warn, "autobahn": LogLevel.error}
"""From which level on these are heard, but in debug: they tell what is logged elsewhere already."""


def observer(out: TextIO, log_format: str, log_level: str) -> ILogObserver:
    """Make an observer that writes events from ``log_level`` on to ``out``.

    ``log_format`` is ``text`` or ``json``. What a failure's traceback says comes after its line,
    in JSON as a field.
    """
    level = LogLevel.levelWithName(log_level)
    levels: Any = LogLevelFilterPredicate(level)
    if level in (LogLevel.info, LogLevel.warn):
        for namespace, least in _CHATTY.items():
            levels.setLogLevelForNamespace(namespace, least)
    predicates: list[ILogFilterPredicate] = [levels]
    write = FileLogObserver(out, _json if log_format == "json" else _text)
    return FilteringLogObserver(write, predicates)


def _moment(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(event: LogEvent) -> str:
    """Give an event's text, cut where it is too long."""
    text = formatEvent(event)
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "…"


def _one_line(text: str) -> str:
    """Make a text that may hold what strangers sent harmless.

    It must neither look like lines of ours nor do anything to a terminal.
    """
    text = " ".join(text.splitlines())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return str(level.name) if level is not None else "info"


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure") or event.get("failure")
    return failure.getTraceback() if failure is not None else ""


def _text(event: LogEvent) -> str | None:
    message = _message(event)
    traceback = _traceback(event)
    if not message and not traceback:
        return None
    line = f"{_moment(event)} {_level(event):5} {_one_line(message)}\n"
    return line + traceback


def _json(event: LogEvent) -> str | None:
    message = _message(event)
    traceback = _traceback(event)
    if not message and not traceback:
        return None
    entry = {
        "time": _moment(event),
        "level": _level(event),
        "logger": event.get("log_namespace", ""),
        "message": message,
    }
    if traceback:
        entry["traceback"] = traceback
    return json.dumps(entry) + "\n"
