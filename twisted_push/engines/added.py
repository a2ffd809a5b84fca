"""Channels that the CMS made known, whether or not anybody receives them."""

from __future__ import annotations

import math

from twisted_push.engines.facts import Kind, Notes, Table

__all__ = ["AddedChannels"]


class AddedChannels:
    """The names that were added on one site, the latest last."""

    def __init__(self, notes: Notes | None) -> None:
        self.table: Table[str, bool] = Table(Kind.CHANNEL, notes, ordered=True)

    def __contains__(self, channel: str) -> bool:
        return channel in self.table

    def add(self, channel: str, limit: int) -> None:
        """Note a channel; if there are more than ``limit`` then, the oldest is forgotten."""
        self.table.put(channel, True, math.inf)
        if len(self.table) > limit:
            oldest, _ = next(self.table.items())
            self.table.drop(oldest)

    def remove(self, channel: str) -> None:
        """Forget a channel."""
        self.table.drop(channel)
