"""From the settings file of the old server to a server in its place: same port, same key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from attrs import frozen

from tests.e2e.drupal import Module, Person, StubDrupal
from tests.e2e.raw_socketio import RawSocketIo
from tests.e2e.server import SERVE, PushServer, environment, free_port, http

KEY = "the-service-key-of-the-imported-site"

# In the week of the talk: the variable had another name, ports were text, and keys were quoted.
S11 = """\
/**
 * The settings of the push server. It also reads the name of its backend from here.
 */
backendSettings = {
  "scheme": "http",
  "host": "localhost",
  "port": "%(port)d",
  "key": "/path/to/key",
  "cert": "/path/to/cert",
  "resource": "/socket.io",
  "publishUrl": "publish",
  "serviceKey": "%(key)s",
  "backend": {
    "port": "%(drupal_port)d",
    "host": "127.0.0.1",
    "messagePath": "/nodejs/message"
  },
  "clientsCanWriteToChannels": false,
  "clientsCanWriteToClients": false,
  "extensions": "",
  "debug": false,
  "transports": ["websocket", "flashsocket", "htmlfile", "xhr-polling", "jsonp-polling"],
  "jsMinification": true,
  "jsEtag": true,
  "logLevel": 1
};
"""

# As shipped inside the module for Drupal 7: every route has a name, and so has Socket.IO's path.
S7 = """\
settings = {
  scheme: 'http',
  port: %(port)d,
  host: 'localhost',
  resource: '/push/socket.io',
  serviceKey: '%(key)s',
  backend: {
    port: %(drupal_port)d,
    host: '127.0.0.1',
    scheme: 'http',
    basePath: '/',
    messagePath: 'nodejs/message'
  },
  debug: false,
  baseAuthPath: '/nodejs/',
  publishUrl: 'publish',
  kickUserUrl: 'user/kick/:uid',
  logoutUserUrl: 'user/logout/:authtoken',
  addUserToChannelUrl: 'user/channel/add/:channel/:uid',
  removeUserFromChannelUrl: 'user/channel/remove/:channel/:uid',
  addChannelUrl: 'channel/add/:channel',
  checkChannelUrl: 'channel/check/:channel',
  removeChannelUrl: 'channel/remove/:channel',
  setUserPresenceListUrl: 'user/presence-list/:uid/:uidList',
  toggleDebugUrl: 'debug/toggle',
  contentTokenUrl: 'content/token',
  publishMessageToContentChannelUrl: 'content/token/message',
  getContentTokenUsersUrl: 'content/token/users',
  // Nobody writes to anybody.
  clientsCanWriteToChannels: false,
  clientsCanWriteToClients: false,
  extensions: ['chat.js'],
  transports: ['websocket', 'polling'],
  jsMinification: true,
  jsEtag: true,
  logLevel: 1,
};
"""

# drupal-node.js 1.0: a few settings less, a password for the site, and one that has to be run.
S1 = """\
'use strict';

module.exports = {
  scheme: 'http',
  host: '127.0.0.1',
  port: %(port)d,
  serviceKey: '%(key)s',
  debug: process.env.DEBUG === 'yes',
  bodyParserJsonLimit: '2mb',
  baseAuthPath: '/realtime/',
  extensions: [],
  socketOptions: {},
  backend: {
    host: '127.0.0.1', port: %(drupal_port)d, scheme: 'http',
    basePath: '/', messagePath: 'nodejs/message',
    strictSSL: false,
    httpAuth: 'staging:the-password-of-the-staging-site',
  },
};
"""


@frozen
class Old:
    """A settings file of the old server, and what it says that matters to others.

    ``notes`` are what the import has to say of it, ``module`` the generation that goes with it.
    """

    name: str
    text: str
    module: str
    notes: tuple[str, ...] = ()
    nodejs_path: str = "/nodejs"
    socketio_path: str = "/socket.io"
    password: str = ""

    def __str__(self) -> str:
        return self.name


OLD = (
    Old("S11", S11, "7a"),
    Old("S7", S7, "7a", ("extensions are not run",), socketio_path="/push/socket.io"),
    Old(
        "S1",
        S1,
        "8",
        ("line 8, column 3: debug: cannot be read without running it",),
        nodejs_path="/realtime",
        password="the-password-of-the-staging-site",
    ),
)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``twisted-push`` in a folder."""
    return subprocess.run(
        [sys.executable, "-c", SERVE, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("old", OLD, ids=str)
def test_the_imported_server_takes_its_place(old: Old, tmp_path: Path) -> None:
    people = {"alice-token": Person(2, ("nodejs_user_2", "example"), "alice")}
    port = free_port()
    with StubDrupal(people, key=KEY) as drupal:
        drupal_port = urlsplit(drupal.url).port
        settings = old.text % {"port": port, "drupal_port": drupal_port, "key": KEY}
        (tmp_path / "nodejs.config.js").write_text(settings, "utf-8")
        check_import(old, tmp_path)
        made = (tmp_path / "push.toml").read_text("utf-8")
        with PushServer(tmp_path, made, port) as server:
            check_served(old, server, drupal)
            for secret in (KEY, "the-password-of-the-staging-site", "alice-token"):
                assert secret not in server.log


def check_import(old: Old, folder: Path) -> None:
    """Import the file; a second time it is refused, as there is something already."""
    imported = run(folder, "import-nodejs-config", "nodejs.config.js")
    assert imported.returncode == 0, imported.stderr
    for note in old.notes:
        assert note in imported.stderr
    said = imported.stdout + imported.stderr
    assert KEY not in said
    assert not old.password or old.password not in said
    assert (folder / "push.toml").stat().st_mode & 0o777 == 0o600
    checked = run(folder, "check-config", "push.toml")
    assert checked.returncode == 0, checked.stderr

    before = (folder / "push.toml").read_bytes()
    assert run(folder, "import-nodejs-config", "nodejs.config.js").returncode == 1
    assert (folder / "push.toml").read_bytes() == before


def check_served(old: Old, server: PushServer, drupal: StubDrupal) -> None:
    """Check that pages get in, and what PHP posts gets to them."""
    origin = "http://127.0.0.1"
    script = f"{old.socketio_path}/socket.io.js"
    assert server.get(script)[0] == 200
    module = Module(server.port, old.module, key=KEY)
    with RawSocketIo(server.port, origin=origin, path=old.socketio_path) as page:
        assert page.authenticate("alice-token")["uid"] == "2"
        if old.nodejs_path == "/nodejs":
            assert module.send("example", {"body": "as before"}) == 1
        else:
            assert post(server, f"{old.nodejs_path}/publish", {"body": "as before"}) == 1
        message = page.message_of(channel="example")
        assert message["data"] == {"body": "as before"}
        assert KEY not in page.text
    authorization = drupal.http.question_headers[0].get("authorization", "")
    assert authorization.startswith("Basic ") is bool(old.password)


def post(server: PushServer, path: str, data: object) -> int:
    """Publish at a path of another name than the usual."""
    headers = {"NodejsServiceKey": KEY, "Content-Type": "application/json"}
    message = {"channel": "example", "broadcast": False, "data": data}
    status, text = http("POST", server.url + path, json.dumps(message).encode(), headers)
    assert status == 200
    sent: int = json.loads(text)["sent"]
    return sent
