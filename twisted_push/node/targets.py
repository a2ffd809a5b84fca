"""Whom a request of the CMS means."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol

from attrs import field, frozen

from twisted_push.cms.grants import token_digest
from twisted_push.hub import Hub
from twisted_push.session import Session

__all__ = ["Client", "Named", "Target", "clients_of", "keys_of"]


class Client(Protocol):
    """What is known of a client that is here, or was."""

    @property
    def client(self) -> str:
        """Its id."""

    @property
    def user(self) -> str:
        """Its user, "" for anonymous."""

    @property
    def secret(self) -> str:
        """What its session is known by."""

    @property
    def token_digest(self) -> bytes | None:
        """What its token is known by, if it had one."""


@frozen
class Named:
    """A `Client` of which it is known who it would be."""

    client: str
    user: str
    secret: str = field(repr=False)
    token_digest: bytes | None = field(repr=False)


@frozen
class Target:
    """A user, or one of its clients, or one client alone; but for the clients in ``spared``.

    Where nothing is given: everybody.

    ``token``: every client that came with this token, and those to come. ``anonymous``: every
    client without a user that is here now.
    """

    user: str = ""
    client: str = ""
    session: str = ""
    token: str = field(default="", repr=False)
    anonymous: bool = False
    spared: frozenset[str] = frozenset()
    _digest: bytes | None = field(init=False, repr=False)

    @_digest.default
    def _digest_of_token(self) -> bytes | None:
        return token_digest(self.token) if self.token else None

    @property
    def whole_user(self) -> bool:
        """Whether all clients of the user are meant, those to come included."""
        return bool(self.user) and not (self.client or self.session or self.token)

    @property
    def one(self) -> bool:
        """Whether it is one client, by name."""
        return bool(self.client or self.session)

    @property
    def named(self) -> bool:
        """Whether anybody is meant."""
        return bool(self.user or self.client or self.session or self.token or self.anonymous)

    @property
    def key(self) -> Hashable:
        """One thing that all who are meant have in common: see `keys_of`."""
        if self.client:
            return "client", self.client
        if self.session:
            return "session", self.session
        if self._digest is not None:
            return "token", self._digest
        return ("user", self.user) if self.user or self.anonymous else "everybody"

    def means(self, client: Client) -> bool:
        """Tell whether a client is meant."""
        if client.client in self.spared or (self.client and client.client != self.client):
            return False
        if self.session and client.secret != self.session:
            return False
        if self._digest is not None and client.token_digest != self._digest:
            return False
        return not (self.user or self.anonymous) or client.user == self.user


def keys_of(client: Client) -> tuple[Hashable, ...]:
    """Give the keys of all targets that may mean a client."""
    return (
        ("client", client.client),
        ("session", client.secret),
        ("token", client.token_digest),
        ("user", client.user),
        "everybody",
    )


def clients_of(target: Target, hub: Hub[Session]) -> list[Session]:
    """Give the clients that are here and meant."""
    found: Iterable[Session]
    if target.client:
        found = [hub.clients[target.client]] if target.client in hub.clients else []
    elif target.token:
        found = hub.of_token(token_digest(target.token))
    elif target.user or target.anonymous:
        found = hub.of_user(target.user)
    else:
        found = hub.clients.values()
    return [session for session in found if target.means(session)]
