"""The sessions of one site that are let in: by client, user, token and channel."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

__all__ = ["Crowd", "Hub", "Member"]

_MANY = 64
"""Members of a channel from which on a `Crowd` is kept for the next time."""


class Member(Hashable, Protocol):
    """What the hub must know of a session."""

    @property
    def client(self) -> str:
        """The id of the connection."""

    @property
    def user(self) -> str:
        """The user, "" for anonymous."""

    @property
    def token_digest(self) -> bytes | None:
        """What its token is known by, if it had one."""

    @property
    def descriptor(self) -> int:
        """What `twisted_push.wires` knows it by."""


_M = TypeVar("_M", bound=Member)
_K = TypeVar("_K")


def _discard(index: dict[_K, set[_M]], key: _K, member: _M) -> None:
    """Take a member out of one index; a key without members goes, too."""
    members = index.get(key)
    if members is None:
        return
    members.discard(member)
    if not members:
        del index[key]


class Crowd(Generic[_M]):
    """Members at one moment, and the descriptor of each, which is read without a look at it."""

    __slots__ = ("descriptors", "members")

    def __init__(self, members: Iterable[_M]) -> None:
        self.members = tuple(members)
        self.descriptors = array("i", [each.descriptor for each in self.members])

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[_M]:
        return iter(self.members)


class Hub(Generic[_M]):
    """Indexes over the members. The mappings are live: copy before calling out."""

    def __init__(self) -> None:
        self.clients: dict[str, _M] = {}
        self.users: dict[str, set[_M]] = {}
        self.channels: dict[str, dict[_M, None]] = {}
        """An ordered set each: those who came one after the other lie side by side in memory."""
        self._crowds: dict[str, Crowd[_M]] = {}
        self._tokens: dict[bytes, set[_M]] = {}

    def add(self, member: _M) -> None:
        """Enter a member under its client, user and token."""
        self.clients[member.client] = member
        self.users.setdefault(member.user, set()).add(member)
        if member.token_digest is not None:
            self._tokens.setdefault(member.token_digest, set()).add(member)

    def remove(self, member: _M) -> None:
        """Take a member out, but for its channels. One that is not there is no error."""
        if self.clients.pop(member.client, None) is None:
            return
        _discard(self.users, member.user, member)
        if member.token_digest is not None:
            _discard(self._tokens, member.token_digest, member)

    def join(self, channel: str, member: _M) -> None:
        """Let a member receive a channel."""
        self.channels.setdefault(channel, {})[member] = None
        self._crowds.pop(channel, None)

    def leave(self, channel: str, member: _M) -> None:
        """No longer."""
        self._crowds.pop(channel, None)
        members = self.channels.get(channel, {})
        members.pop(member, None)
        if not members:
            self.channels.pop(channel, None)

    def of_user(self, user: str) -> tuple[_M, ...]:
        """Give the members of a user."""
        return tuple(self.users.get(user, ()))

    def of_token(self, digest: bytes) -> tuple[_M, ...]:
        """Give the members that came with a token."""
        return tuple(self._tokens.get(digest, ()))

    def of_channel(self, channel: str) -> Crowd[_M]:
        """Give the members that receive a channel, in the order in which they came."""
        crowd = self._crowds.get(channel)
        if crowd is None:
            crowd = Crowd(self.channels.get(channel, ()))
            if len(crowd) >= _MANY:
                self._crowds[channel] = crowd
        return crowd

    def counts(self) -> Mapping[str, int]:
        """Give the number of members in each channel."""
        return {channel: len(members) for channel, members in self.channels.items()}
