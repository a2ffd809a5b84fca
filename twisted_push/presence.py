"""Who is in which channel, by client."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field

from twisted_push.model import ClientInfo

__all__ = ["PresenceTable"]


@define
class PresenceTable:
    """Clients by channel; a channel without clients takes no room."""

    _channels: dict[str, dict[str, ClientInfo]] = field(init=False, factory=dict)

    def add(self, channel: str, info: ClientInfo) -> bool:
        """Enter a client, or what is known of it anew; tell whether it was not there."""
        clients = self._channels.setdefault(channel, {})
        joined = info.client not in clients
        clients[info.client] = info
        return joined

    def remove(self, channel: str, client: str) -> ClientInfo | None:
        """Take a client out and give what was known of it; None if it was not there."""
        clients = self._channels.get(channel)
        if clients is None:
            return None
        info = clients.pop(client, None)
        if not clients:
            del self._channels[channel]
        return info

    def clients(self, channel: str) -> Mapping[str, ClientInfo]:
        """Give a copy of who is in a channel."""
        return dict(self._channels.get(channel, {}))
