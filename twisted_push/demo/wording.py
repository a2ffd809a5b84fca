"""How the demo CMS says things: names, counts, times, and its own word for each case."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted_push.demo.api import Connection
from twisted_push.demo.state import USERS, User

__all__ = [
    "HEADINGS",
    "abilities",
    "clock_time",
    "count_by_user",
    "count_text",
    "display_name",
    "slug",
]

HEADINGS = {
    403: "That is not allowed",
    404: "There is no such page",
    413: "That is too long",
    422: "Something is missing",
}
"""What an error page is called, by its status."""


def count_by_user(connections: list[Connection]) -> list[tuple[str, str, int]]:
    """Count the connections of each user: (id, display name, count), known users first."""
    counts = dict.fromkeys(USERS, 0)
    for connection in connections:
        counts[connection.user] = counts.get(connection.user, 0) + 1
    return [(user, display_name(user), count) for user, count in counts.items()]


def display_name(user: str) -> str:
    """Return what a user id is shown as."""
    known = USERS.get(user)
    return known.name if known else (user or "Anonymous")


def slug(name: str) -> str:
    """Return the part of a class name that gives somebody with an account their color."""
    return name.lower() if name.lower() in USERS else "other"


def count_text(count: int) -> str:
    """Say how many pages somebody has open."""
    return {0: "not here", 1: "1 connection"}.get(count, f"{count} connections")


def abilities(user: User) -> str:
    """Say on the login page what somebody may do."""
    if user.may_administer:
        return "Edits the article, chats, reads the log, sees who is connected"
    return "Reads along live, chats, sends notices"


def clock_time(seconds: float) -> str:
    """Say when something was; scripts make it a time that is relative."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
