"""A stub of Drupal with the nodejs module: it answers the push server, and posts to it.

Both speak as the module does, loose types and all. Source: the bytes captured between real sites
and the original server.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from attrs import define, field, frozen

from tests.e2e.cms import Answer, CmsServer, Request, StubCms, says
from tests.e2e.server import KEY, PATIENCE, PushServer, eventually, make_server

PASSWORD_HASH = "$S$DTEcQEJc2P9Tu7J09nUFsFpILSL83rjunpeUFGof8k5RXneSaDi6"
"""What Drupal 7 answers of a user, and no browser may ever see; so is the mail address."""


@frozen
class Person:
    """Who is behind a token.

    ``presence`` are the uids that may see this user; with ``presence_object`` PHP gives them as
    an object, as it does where ``array_unique()`` left gaps.
    """

    uid: int = 0
    channels: tuple[str, ...] = ()
    name: str = ""
    presence: tuple[str, ...] = ()
    presence_object: bool = False

    @property
    def mail(self) -> str:
        """The address that Drupal 7 tells the push server."""
        return f"{self.name}@mail.invalid"


People = Mapping[str, Person | Answer]
"""Who is let in, by token; an `Answer` is one of a site in trouble."""

PEOPLE: People = {
    "alice-token": Person(2, ("nodejs_user_2", "example"), "alice", ("3",)),
    "alice-second-token": Person(2, ("nodejs_user_2", "example"), "alice", ("3",)),
    "bob-token": Person(3, ("nodejs_user_3", "example"), "bob", ("2",), presence_object=True),
    "anonymous-token": Person(0, ("example",)),
}


# --- What the push server asks ---------------------------------------------------------------


class _Message(Request):
    """One message of the push server: a form with ``messageJson`` and ``serviceKey``."""

    server: _Server

    def do_POST(self) -> None:  # noqa: N802 (the base class names it)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        form = {name: values[0] for name, values in parse_qs(body.decode("ascii")).items()}
        message: dict[str, Any] = json.loads(form["messageJson"])
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            self.server.questions.append(message)
            self.server.question_headers.append(headers)
            trouble, people = self.server.trouble, self.server.people
        if trouble is not None:
            trouble(self)
        elif self.path != "/nodejs/message" or form["serviceKey"] != self.server.key:
            status = 200 if self.server.generation == 7 else 404
            self._give({"error": "Invalid service key."}, status)
        else:
            self._answer(message, people)

    def _answer(self, message: Mapping[str, Any], people: People) -> None:
        if message["messageType"] != "authenticate":
            self._give(self.server.answers_of.get(message["messageType"], self._unknown()))
            return
        person = people.get(message["authToken"])
        if person is None or isinstance(person, Person):
            self._give(self._account(message, person))
        else:
            person(self)

    def _unknown(self) -> object:
        # Drupal 9 knows userOnline and userOffline; so does Drupal 7, but for the first.
        seven = self.server.generation == 7
        return {"error": "Not implemented"} if seven else {"status": "success"}

    def _account(self, message: Mapping[str, Any], person: Person | None) -> object:
        told: dict[str, Any] = {"uid": str(person.uid) if person and person.uid else 0}
        seven = self.server.generation == 7
        if seven and person is not None and person.uid:
            told |= _account_of(person)
        elif seven:
            told |= {"hostname": "127.0.0.1", "roles": {"1": "anonymous user"}, "cache": 0}
        told["authToken"] = message["authToken"]
        told["nodejsValidAuthToken"] = person is not None
        told["clientId"] = message["clientId"]
        if person is None:
            return told
        told["channels"] = list(person.channels)
        told["presenceUids"] = _uids(person)
        if seven:
            told["serviceKey"] = self.server.key
        # PHP's empty array is a list.
        told["contentTokens"] = message.get("contentTokens") or []
        return told

    def _give(self, content: object, status: int = 200) -> None:
        body = json.dumps(content, separators=(",", ":")).encode()
        self.send_response(status)
        if self.server.generation == 7:
            # A session is begun for each question.
            session = f"SESS906c40e1cf264168={secrets.token_urlsafe(32)}"
            self.send_header("Set-Cookie", f"{session}; Max-Age=2000000; path=/; HttpOnly")
            self.send_header("NodejsServiceKey", self.server.key)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _account_of(person: Person) -> dict[str, Any]:
    return {
        "name": person.name,
        "pass": PASSWORD_HASH,
        "mail": person.mail,
        "theme": "",
        "signature_format": None,
        "created": "1795449879",
        "status": "1",
        "timezone": None,
        "data": False,
        "roles": {"2": "authenticated user"},
        "rdf_mapping": {"rdftype": ["sioc:UserAccount"], "name": {"predicates": ["foaf:name"]}},
    }


def _uids(person: Person) -> object:
    if person.presence_object:
        return {str(2 * place): uid for place, uid in enumerate(person.presence)}
    return list(person.presence)


class _Server(CmsServer):
    """What the questions of all connections share."""

    def __init__(self, people: People, generation: int, key: str) -> None:
        super().__init__({})
        self.RequestHandlerClass = _Message
        self.people = people
        self.generation = generation
        self.key = key
        self.trouble: Answer | None = None
        self.answers_of: dict[str, object] = {}


class StubDrupal(StubCms):
    """Drupal, answering in a thread of its own; use it as a context manager.

    ``generation`` is that of Drupal: 7 tells the whole account and the service key, 9 only what
    is needed. ``url`` is where the push server asks.
    """

    http: _Server

    def __init__(self, people: People = PEOPLE, generation: int = 7, key: str = KEY) -> None:
        self.http = _Server(dict(people), generation, key)
        self._thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.url = f"http://127.0.0.1:{self.http.server_port}/nodejs/message"

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The messages of the push server so far, in their order."""
        return self.questions

    def asked_of(self, kind: str, **fields: object) -> list[dict[str, Any]]:
        """Give the messages of a type that have these fields."""
        wanted = {"messageType": kind, **fields}
        return [message for message in self.asked if wanted.items() <= message.items()]

    def wait_for(self, kind: str, **fields: object) -> dict[str, Any]:
        """Wait until there is a message of a type that has these fields; give the first."""
        return eventually(f"{kind} {fields}", lambda: self.asked_of(kind, **fields))[0]

    def set_people(self, people: People) -> None:
        """Let in these people, and no others, from now on."""
        with self.http.lock:
            self.http.people = dict(people)

    def answer_to(self, kind: str, content: object) -> None:
        """Answer messages of a type, which an extension of the module knows, with this."""
        self.http.answers_of[kind] = content

    @contextmanager
    def trouble(self, answer: Answer) -> Iterator[None]:
        """Answer everything like this meanwhile: see the answers in ``cms``."""
        self.http.trouble = answer
        try:
            yield
        finally:
            self.http.trouble = None


def moved(request: Request) -> None:
    """Answer with 301, to where a user would be told."""
    request.send_response(301)
    request.send_header("Location", f"http://127.0.0.1:{request.server.server_port}/elsewhere")
    request.send_header("Content-Length", "0")
    request.end_headers()


forbidden = says({"message": "Access denied"}, 403)
"""Answer as a site that is in maintenance."""


# --- What PHP posts --------------------------------------------------------------------------

_USER_AGENTS = {
    "7a": "Drupal (+http://drupal.org/)",
    "7b": "Drupal (+http://drupal.org/)",
    "8": "Drupal/9.4.7 (+https://www.drupal.org/) GuzzleHttp/6.5.5 curl/7.88.1 PHP/8.2.36",
}
_HEX = str.maketrans({"<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "'": "\\u0027", "/": "\\/"})


@define
class Module:
    """PHP with the nodejs module, of one PHP request or several that follow each other.

    ``kind`` is the generation: "7a" is 7.x-1.10 (HTTP/1.0, GET where there is no body, no
    Content-Type), "7b" 7.x-1.13 (HTTP/1.0), "8" 2.0 (HTTP/1.1). Methods return what was answered.
    """

    port: int
    kind: str = "8"
    key: str = field(default=KEY, repr=False)
    host: str = "127.0.0.1"
    _checked: bool = field(init=False, default=False)

    # -- The module's functions ---------------------------------------------------------------

    def publish(self, message: Mapping[str, object], client: str = "") -> int:
        """Publish a message on behalf of a tab; give the number of clients that it went to."""
        answer = self._send("publish", self._with_client(message, client))
        self._check_status(answer, "success")
        sent: int = answer["sent"]
        return sent

    def send(self, channel: str, data: object, client: str = "", **more: object) -> int:
        """Publish into a channel, as ``nodejs_send_channel_message`` does."""
        message = {"channel": channel, "broadcast": False, "data": data, **more}
        return self.publish(message, client)

    def broadcast(self, subject: str, body: str) -> int:
        """Publish to everybody, as ``nodejs_broadcast_message`` does."""
        data = {"subject": subject, "body": body}
        return self.publish({"broadcast": True, "data": data, "channel": "nodejs_notify"})

    def content_token(self, channel: str, notify: bool = False, data: object = None) -> str:
        """Make a token for a channel and tell the push server; give it."""
        token = secrets.token_urlsafe(32)
        told = {"token": token, "channel": channel, "notifyOnDisconnect": notify}
        if data is not None:
            told["userData"] = data
        answer = self._send("content/token", told)
        self._check_status(answer, "ok" if self.kind == "7a" else "success")
        return token

    def content_message(self, channel: str, data: object, client: str = "") -> dict[str, Any]:
        """Publish into a content channel."""
        message = self._with_client({"channel": channel, "data": data}, client)
        return self._send("content/token/message", message)

    def content_users(self, channel: str) -> dict[str, list[str]]:
        """Give ``uids`` and ``authTokens`` of those who are in a content channel."""
        users: dict[str, list[str]] = self._send("content/token/users", {"channel": channel})[
            "users"
        ]
        return users

    def kick(self, uid: int) -> None:
        """Close what a user has open."""
        self._check_status(self._send(f"user/kick/{uid}"), "success")

    def logout(self, token: str) -> None:
        """End a token."""
        self._check_status(self._send(f"user/logout/{token}"), "success")

    def add_user(self, channel: str, uid: int) -> dict[str, Any]:
        """Give a user a channel."""
        return self._send(f"user/channel/add/{channel}/{uid}")

    def remove_user(self, channel: str, uid: int) -> dict[str, Any]:
        """Take a channel from a user."""
        return self._send(f"user/channel/remove/{channel}/{uid}")

    def health(self) -> dict[str, Any]:
        """Give the figures of the push server."""
        return self.request("GET", "health/check")

    # -- HTTP ---------------------------------------------------------------------------------

    def _send(self, route: str, message: Mapping[str, object] | None = None) -> dict[str, Any]:
        if self.kind == "7b" or (self.kind == "8" and route == "publish"):
            self._check_version()
        method = "GET" if message is None and self.kind == "7a" else "POST"
        return self.request(method, route, message)

    def _check_version(self) -> None:
        """Refuse to work with an old server, once in each PHP request."""
        if not self._checked:
            found = re.fullmatch(r"1\.(\d+)\.(\d+)", self.health()["version"])
            assert found
            assert (int(found[1]), int(found[2])) >= (0, 9)
            self._checked = True

    def request(
        self, method: str, route: str, message: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Make one request, on a connection of its own, with the headers of the module."""
        answer = json.loads(self._exchange(self._head(method, route, message)))
        assert isinstance(answer, dict)
        return answer

    def _head(self, method: str, route: str, message: Mapping[str, object] | None) -> bytes:
        body = b"" if message is None else php_json(message)
        agent, key = f"User-Agent: {_USER_AGENTS[self.kind]}", f"NodejsServiceKey: {self.key}"
        content_type = [] if self.kind == "7a" else ["Content-type: application/json"]
        host = f"Host: {self.host}:{self.port}"
        length = [f"Content-Length: {len(body)}"] if method == "POST" else []
        if self.kind == "8":
            lines = [f"{method} /nodejs/{route} HTTP/1.1", host, agent, key]
            lines += content_type + length
        else:
            lines = [f"{method} /nodejs/{route} HTTP/1.0", key, *content_type, agent, host, *length]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def _exchange(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            connection.sendall(request)
            response = HTTPResponse(connection)
            response.begin()
            body = response.read()
            assert response.status == 200, (response.status, body)
            if self.kind != "8":
                # PHP reads until there is no more.
                assert connection.recv(1) == b"", "the connection was not closed"
        return body

    def _with_client(self, message: Mapping[str, object], client: str) -> Mapping[str, object]:
        if self.kind == "8" and not client:
            return message
        return {**message, "clientSocketId": client}

    def _check_status(self, answer: Mapping[str, Any], status: str) -> None:
        assert answer.get("status") == status, answer


def php_json(value: object) -> bytes:
    """Write JSON as PHP does, with escapes for all that is not plain."""
    text = json.dumps(value, separators=(",", ":"))
    return text.translate(_HEX).encode("ascii")


# --- Both ------------------------------------------------------------------------------------


def make_drupal_server(folder: Path, drupal: StubCms, **config: Any) -> PushServer:
    """Make a push server for this Drupal, which is not started yet: see ``make_server``."""
    callback = {"dialect": "nodejs", **config.pop("callback_options", {})}
    site = {"allowed_origins": [], "presence.online_grace": "100ms", **config.pop("site", {})}
    config.setdefault("namespaces", "")
    return make_server(folder, callback=drupal.url, callback_options=callback, site=site, **config)
