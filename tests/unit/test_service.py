"""The service: its options, its reload, and the demo's settings; nothing is opened here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.application.internet import StreamServerEndpointService
from twisted.python.usage import UsageError

from tests.unit.cms.support import Log, the_reactor
from tests.unit.config.reading import KEY, OTHER_KEY, read, site
from tests.unit.request_support import Caller, asking
from tests.unit.websocket_support import Port
from twisted_push.config import Config
from twisted_push.demo.settings import add_demo, own_config
from twisted_push.errors import ConfigError, ConfigErrors
from twisted_push.policy import key_digest
from twisted_push.service import Options, PushService, _with_backlog
from twisted_push.systemd import Notifier
from twisted_push.transports.fast.mux import Mux
from twisted_push.web import GuardedChannel

# --- Options ---------------------------------------------------------------------------------


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Options]:
    """Parse options, with a configuration file of this text."""
    monkeypatch.chdir(tmp_path)

    def parse(text: str | None, *options: str) -> Options:
        parsed = Options()
        if text is not None:
            (tmp_path / "push.toml").write_text(text)
            options = ("--config", "push.toml", *options)
        parsed.parseOptions(list(options))
        return parsed

    return parse


Parse = Callable[..., Options]


def test_a_good_file(parse: Parse) -> None:
    options = parse(site(""))
    assert list(options["configuration"].sites) == ["default"]
    assert options["demo_settings"] is None
    assert options["read"]() == options["configuration"]


def test_every_fault_is_told_at_once_and_no_secret(parse: Parse) -> None:
    text = 'log_level = "loud"\nlisten = []\ncolour = 1\n' + site("anonymous = 3", key="short")
    with pytest.raises(UsageError) as caught:
        parse(text)
    said = str(caught.value)
    for path in ("log_level", "listen", "colour", "sites.default.anonymous", "sites.default.key"):
        assert path in said
    assert "short-key" not in said


@pytest.mark.parametrize("text", ["[", "a = ", "\x00"])
def test_a_file_that_is_no_toml(parse: Parse, text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_no_such_file(parse: Parse) -> None:
    with pytest.raises(UsageError, match=r"missing\.toml"):
        parse(None, "--config", "missing.toml")


def test_nothing_configured(parse: Parse) -> None:
    with pytest.raises(UsageError, match=r"sites\.default\.key"):
        parse(None)


def test_listen(parse: Parse) -> None:
    options = parse(site(""), "--listen", "tcp:1", "--listen", "unix:/tmp/x")
    assert options["configuration"].listen == ("tcp:1", "unix:/tmp/x")
    assert options["read"]().listen == ("tcp:1", "unix:/tmp/x")
    for wrong in ("", "tcp", "carrier-pigeon:1", "tcp:99999"):
        with pytest.raises(UsageError, match="--listen"):
            parse(site(""), "--listen", wrong)


def test_unknown_options(parse: Parse) -> None:
    with pytest.raises(UsageError):
        parse(site(""), "--colour")
    with pytest.raises(UsageError):
        parse(site(""), "stray")


def test_the_demo(parse: Parse) -> None:
    settings = parse(None, "--demo")["demo_settings"]
    [demo] = settings.config.sites.values()
    assert demo.callback.dialect == "connect"
    assert demo.callback.url.startswith(settings.url)
    assert demo.callback.rpc_url.startswith(settings.url)
    kept = {namespace.prefix: namespace.recover for namespace in demo.namespaces}
    assert kept == dict.fromkeys(("article:", "chat:", "user:", "watchdog", "broadcast"), True)
    assert f"http://localhost:{settings.demo_port}" in demo.allowed_origins
    assert len(settings.key) >= 32
    assert settings.key not in repr(settings)
    assert all("127.0.0.1" in endpoint for endpoint in settings.config.listen)


def test_the_demo_has_a_fresh_key() -> None:
    assert add_demo(own_config()).key != add_demo(own_config()).key


def test_the_demo_needs_a_port(parse: Parse) -> None:
    with pytest.raises(UsageError, match="listen"):
        parse(None, "--demo", "--listen", "unix:/tmp/x")


def test_the_demo_beside_sites_of_the_file(parse: Parse) -> None:
    text = 'listen = ["tcp:8123"]\n'
    text += site('hosts = ["a.test"]', "a") + site('hosts = ["b.test"]', "b", OTHER_KEY)
    settings = parse(text, "--demo")["demo_settings"]
    assert settings.push_url == "http://127.0.0.1:8123"
    assert settings.key == KEY
    assert settings.config.sites["b"].callback is None


# --- Reload ----------------------------------------------------------------------------------


class Reloading:
    """A service whose configuration file is a variable."""

    def __init__(self, text: str, demo: bool = False) -> None:
        self.text = text
        config = self.read()
        settings = add_demo(config) if demo else None
        self.service = PushService(
            settings.config if settings else config,
            the_reactor(),
            read=self.read,
            notifier=Notifier(None),
            demo=settings,
        )

    def read(self) -> Config:
        return read('listen = ["tcp:0:interface=127.0.0.1"]\n' + self.text)

    def reload(self, text: str) -> None:
        self.text = text
        self.service.reload()

    @property
    def policy(self) -> Any:
        return self.service.nodes[0].context.policy


def test_a_reload_takes_keys_origins_namespaces_limits(log: Log) -> None:
    reloading = Reloading(site(""))
    changed = 'allowed_origins = ["https://new.test"]\n'
    changed += '[[sites.default.namespaces]]\nprefix = "n:"\nclient_subscribe = "anyone"\n'
    reloading.reload("[limits]\nmax_outbox = 5000\n" + site(changed, key=OTHER_KEY))
    policy = reloading.policy
    assert policy.service_key(key_digest(KEY)) is None
    assert policy.service_key(key_digest(OTHER_KEY)) is not None
    assert policy.allows_origin("https://new.test", "push.test")
    assert policy.subscribes_by("n:1") == "anyone"
    assert reloading.service.nodes[0].max_outbox == 5000
    assert reloading.service.assembly.door.config.limits.max_outbox == 5000
    assert [line for line in log.lines if line.startswith("reloaded")]
    assert not [line for line in log.lines if "restart" in line]


def test_limits_reach_connections_to_come() -> None:
    reloading = Reloading(site(""))
    reloading.reload("[limits]\nmax_message_size = 1234\n" + site(""))
    connection: Any = reloading.service.assembly.public.root.children[b"connection"]
    websocket = connection.children[b"websocket"]
    assert websocket._factory.maxMessagePayloadSize == 1234
    assert websocket._factory.maxFramePayloadSize == 1234


@pytest.mark.parametrize("text", ["[", site("", key=""), site("anonymous = 5"), "engine = 5"])
def test_a_bad_file_changes_nothing(log: Log, text: str) -> None:
    reloading = Reloading(site(""))
    before = reloading.policy, reloading.service.config
    reloading.reload(text)
    assert (reloading.policy, reloading.service.config) == before
    assert reloading.policy.service_key(key_digest(KEY)) is not None
    assert [line for line in log.lines if line.startswith("reload refused")]


def test_a_file_that_cannot_be_read(log: Log) -> None:
    def fail() -> Config:
        raise ConfigErrors((ConfigError("push.toml", "cannot be read: it is gone"),))

    reloading = Reloading(site(""))
    reloading.service._read = fail
    reloading.service.reload()
    assert [line for line in log.lines if "it is gone" in line]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("log_level", 'log_level = "debug"\n' + site("")),
        ("debug_echo", "debug_echo = true\n" + site("")),
        ("backend_listen", 'backend_listen = ["tcp:1"]\n' + site("")),
        ("reuse_port", "reuse_port = true\n" + site("")),
        ("sites.default.anonymous", site("anonymous = true")),
        ("sites.default.hosts", site('hosts = ["a.test"]')),
        ("sites.default.token_secret", site(f'token_secret = "{"x" * 32}"')),
        ("sites.default.callback", site('[sites.default.callback]\nurl = "http://a.test/"')),
        ("sites.default.presence", site('[sites.default.presence]\nonline_grace = "9s"')),
        (
            "sites",
            site('hosts = ["a.test"]') + site('hosts = ["b.test"]', "b", OTHER_KEY),
        ),
    ],
)
def test_what_needs_a_restart_is_said_each_time(log: Log, path: str, text: str) -> None:
    reloading = Reloading(site(""))
    for _ in range(2):
        reloading.reload(text)
    said = [line for line in log.lines if line == f"reload: {path} changed, which needs a restart"]
    assert len(said) == 2


def test_a_new_key_is_no_change_of_a_callback_that_does_not_send_it(log: Log) -> None:
    callback = '[sites.default.callback]\nurl = "http://a.test/"\ndialect = "connect"\n'
    reloading = Reloading(site(callback))
    reloading.reload(site(callback, key=OTHER_KEY))
    assert not [line for line in log.lines if "restart" in line]


def test_a_reload_keeps_the_demo(log: Log) -> None:
    reloading = Reloading(site(""), demo=True)
    before = reloading.policy.site
    reloading.reload("[limits]\nmax_outbox = 5000\n" + site(""))
    assert reloading.policy.site == before
    assert reloading.policy.limits.max_outbox == 5000
    assert not [line for line in log.lines if "restart" in line]


@pytest.mark.parametrize(
    ("endpoint", "listened"),
    [
        ("tcp:8080:interface=127.0.0.1", "tcp:8080:interface=127.0.0.1:backlog=1024"),
        ("tcp:8080:backlog=7", "tcp:8080:backlog=7"),
        ("unix:/run/push.sock:mode=660", "unix:/run/push.sock:mode=660:backlog=1024"),
        ("haproxy:tcp6:8080", "haproxy:tcp6:8080:backlog=1024"),
        ("systemd:domain=INET:name=public", "systemd:domain=INET:name=public"),
    ],
)
def test_many_may_connect_at_once(endpoint: str, listened: str) -> None:
    assert _with_backlog(endpoint) == listened


# --- The ports -------------------------------------------------------------------------------


async def serving(service: PushService) -> list[tuple[Any, Caller]]:
    """Have each port listen for a moment; give its factory and a connection to it in memory."""
    found = []
    for _, each in service._ports:
        assert isinstance(each, StreamServerEndpointService)
        port: Any = await each.endpoint.listen(each.factory)
        found.append((port.factory, Caller(_Ports(port.factory))))
        await port.stopListening()
    return found


class _Ports(Port):
    """A port as a connection in memory needs it."""

    fast = True

    def __init__(self, factory: Any) -> None:
        self.mux = factory


BACKEND = 'backend_listen = ["tcp:0:interface=127.0.0.2"]\n'
OPENING = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: push.test\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("data", "public", "backend"),
    [(asking(b"{}", "/api/info"), 404, 401), (OPENING, 503, 404)],
)
async def test_a_port_for_the_cms(data: bytes, public: int, backend: int) -> None:
    """It has the fast path, too, and serves what is for the CMS, and no WebSockets.

    Those of browsers do not serve that (401: it is there); the door is closed before the start.
    """
    service = Reloading(BACKEND + site("")).service
    ports = await serving(service)
    assert [isinstance(factory, Mux) for factory, _ in ports] == [True, True]
    statuses = []
    for _, caller in ports:
        caller.give(data)
        statuses.append(int(caller.wire.value().split()[1]))
        caller.wire.hang_up()
    assert statuses == [public, backend]
    service.nodes[0].context.book.close()


async def test_one_port_for_all() -> None:
    service = Reloading(site("")).service
    [(_, caller)] = await serving(service)
    caller.ask(b"{}", "/api/info")
    assert caller.answers[0][0] == 401
    assert not isinstance(caller.wire.protocol, GuardedChannel)
    caller.wire.hang_up()
    service.nodes[0].context.book.close()
