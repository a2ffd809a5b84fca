"""Socket.IO's own clients in a process of Node.js, and the sites that they connect to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from tests.e2e.cms import Answer
from tests.e2e.drupal import PASSWORD_HASH, Module, Person, StubDrupal, make_drupal_server
from tests.e2e.server import KEY, PATIENCE, Dialogue, PushServer, eventually

VERSIONS = ("1.7", "2.5", "3.1", "4.8")

_numbers = count(100)


@frozen
class Kind:
    """A client's version and its transports; none are named by default."""

    version: str
    transport: str

    def __str__(self) -> str:
        return f"{self.version}-{self.transport}"

    @property
    def options(self) -> dict[str, object]:
        return {} if self.transport == "default" else {"transports": [self.transport]}


KINDS = [
    Kind(version, transport)
    for version in VERSIONS
    for transport in ("default", "polling", "websocket")
]


@define
class Client:
    """One socket in the process of the clients."""

    library: Dialogue
    id: str
    token: str
    start: int

    def events(self, name: str) -> list[dict[str, Any]]:
        """Give what happened to it under a name."""
        since = self.library.events[self.start :]
        return [e for e in since if e["id"] == self.id and e["event"] == name]

    def wait(self, name: str, timeout: float = PATIENCE, **fields: object) -> dict[str, Any]:
        """Give the first event of a name with these fields."""
        return self.library.wait(name, after=self.start, timeout=timeout, id=self.id, **fields)

    def wait_for(self, times: int, name: str) -> None:
        """Wait until something has happened so many times."""
        eventually(f"{times} {name} of {self.id}", lambda: len(self.events(name)) >= times)

    def message(self, **fields: object) -> None:
        """Wait for a message of exactly these fields."""
        self.wait("message", message=fields)

    def channel(self, channel: str) -> list[Any]:
        """Give the data of what came in a channel so far."""
        messages = [e["message"] for e in self.events("message")]
        return [m["data"] for m in messages if m.get("channel") == channel]

    def authenticated(self) -> dict[str, Any]:
        """Wait until it is let in; give what it was told."""
        assert self.wait("authenticated")["answer"] == {"result": "success"}
        told: dict[str, Any] = self.events("message")[0]["message"]
        assert told["callback"] == "clientAuthenticated"
        return told

    def upgraded(self) -> Client:
        """Wait until it has a WebSocket in the place of polling, and the server knows."""
        self.wait("upgrade", to="websocket")
        assert self.call("authenticate", {"authToken": self.token}) == {"result": "success"}
        return self

    def disconnected(self, code: int) -> None:
        """Wait until it is sent away, told why, and see that it stays away."""
        reason = self.wait("disconnect")["reason"]
        assert reason == "io server disconnect"
        told = self.events("message")[-1]["message"]
        assert told["callback"] == "clientDisconnected"
        assert told["data"]["code"] == code
        assert told["data"]["reconnect"] is False
        state = self.do("state")
        assert (state["connected"], state["reconnecting"]) == (False, False)
        assert state["manager"] == "closed"

    def do(self, command: str, **fields: object) -> Any:
        """Give it a command, and wait for the result."""
        after = len(self.library.events)
        self.library.tell(do=command, id=self.id, **fields)
        return self.library.wait("done", after=after, id=self.id, do=command)["result"]

    def call(self, name: str, *args: object) -> Any:
        """Emit an event, and wait for its acknowledgement."""
        return self.do("call", name=name, args=args)


@define
class World:
    """A Drupal, a push server, and visitors: each test makes its own."""

    drupal: StubDrupal
    push: PushServer
    library: Dialogue
    clients: list[Client] = field(init=False, factory=list)
    people: dict[str, Person | Answer] = field(init=False, factory=dict)

    def person(
        self, *channels: str, presence: tuple[str, ...] = (), **more: Any
    ) -> tuple[str, int]:
        """Have somebody log in; give the token and the uid."""
        uid = next(_numbers)
        token = f"token-of-{uid}"
        person = Person(uid, (f"nodejs_user_{uid}", *channels), f"user{uid}", presence, **more)
        self.set_person(token, person)
        return token, uid

    def set_person(self, token: str, answer: Person | Answer) -> None:
        """Change what Drupal answers for a token."""
        self.people[token] = answer
        self.drupal.set_people(self.people)

    def channel(self) -> str:
        """Give the name of a channel that nobody has had."""
        return f"channel_{next(_numbers)}"

    def open(
        self,
        kind: Kind,
        token: str,
        contents: Mapping[str, str] | None = None,
        options: Mapping[str, object] | None = None,
        **more: object,
    ) -> Client:
        """Open a client that presents a token whenever it is connected."""
        client = Client(self.library, f"{kind}/{next(_numbers)}", token, len(self.library.events))
        presented = {"authToken": token, **more}
        if contents is not None:
            presented["contentTokens"] = contents
        self.library.tell(
            do="open",
            id=client.id,
            version=kind.version,
            url=self.push.url,
            options={**kind.options, **(options or {})},
            authenticate=presented,
        )
        self.clients.append(client)
        return client

    def let_in(self, kind: Kind, token: str, **more: Any) -> Client:
        """Open a client and wait until it is let in."""
        client = self.open(kind, token, **more)
        client.authenticated()
        return client

    def php(self, kind: str = "8") -> Module:
        """Give PHP with the module."""
        return Module(self.push.port, kind)

    def close(self) -> None:
        """Close all clients; the server must forget them."""
        for client in self.clients:
            client.do("close")
        eventually("the clients are gone", lambda: self.php().health()["sockets"] == 0)


@contextmanager
def running(folder: Path, library: Dialogue, **config: Any) -> Iterator[World]:
    """Run a Drupal and a push server; nothing secret may come into its log."""
    with StubDrupal({}) as drupal, make_drupal_server(folder, drupal, **config) as push:
        world = World(drupal, push, library)
        yield world
        for secret in (KEY, PASSWORD_HASH, *world.people):
            assert secret not in push.log
