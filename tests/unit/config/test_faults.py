"""What is refused, with which path and words, and that no secret is among them."""

from __future__ import annotations

import pytest

from tests.unit.config.reading import KEY, OTHER_KEY, SECRET, TOKEN_SECRET, faults, read, site
from twisted_push.config import load
from twisted_push.errors import ConfigErrors


def test_all_faults_are_reported_at_once() -> None:
    found = faults(
        """
        listen = ["tcp:8080", "tpc:8081"]
        log_level = "loud"
        [limits]
        ping_interval = "25 parsecs"
        max_connections = -1
        max_outbox = true
        [sites.default]
        key = "short"
        [sites.default.callback]
        timeuot = "5s"
        """
    )
    assert list(found) == [
        "listen[1]",
        "log_level",
        "limits.max_connections",
        "limits.max_outbox",
        "limits.ping_interval",
        "sites.default.callback.timeuot",
        "sites.default.key",
    ]
    assert found["log_level"] == (
        "'loud' is not valid; must be debug | info | warn | error | critical"
    )
    assert "'25 parsecs' is not valid; must be a number of seconds" in found["limits.ping_interval"]


def test_an_unknown_key_is_named_with_a_guess() -> None:
    text = site('[sites.default.callback]\ntimeuot = "5s"\nbasic_auth = "u:p"\nqwertz = 1')
    with pytest.raises(ConfigErrors) as caught:
        read(text)
    assert str(caught.value).splitlines() == [
        "sites.default.callback.timeuot: unknown key; did you mean timeout?",
        "sites.default.callback.basic_auth: unknown key; did you mean basic_auth_file?",
        "sites.default.callback.qwertz: unknown key",
    ]


def test_a_file_that_is_no_toml_is_told_with_its_line() -> None:
    assert faults("listen = [\nlog_level = 5\n")[""].startswith("line 2, column ")
    assert "end of document" in faults('x = "')[""] or "line 1" in faults('x = "')[""]
    assert list(faults("x = " + "[" * 100_000)) == [""]
    assert list(faults("x = " + "9" * 5000)) == [""]


def test_what_comes_later_is_refused_for_now() -> None:
    found = faults("engine = 'redis'\n" + site(""))
    assert list(found) == ["engine"]
    assert "not available in this version" in found["engine"]


CMS_SPACES = """
[[sites.default.namespaces]]
prefix = "a:"
client_subscribe = "cms"

[[sites.default.namespaces]]
prefix = "b:"
client_publish = "cms"
"""


def test_a_cms_that_decides_must_be_asked() -> None:
    subscribe, publish = (
        "sites.default.namespaces[0].client_subscribe",
        "sites.default.namespaces[1].client_publish",
    )
    for callback in ("", '[sites.default.callback]\nurl = "http://cms/"\ndialect = "connect"\n'):
        assert faults(site(callback + CMS_SPACES)) == {
            subscribe: "'cms' needs callback.subscribe_url",
            publish: "'cms' needs callback.publish_url",
        }
    other = '[sites.default.callback]\ndialect = "connect"\nsubscribe_url = "http://cms/s"\n'
    assert list(faults(site(other + CMS_SPACES))) == [publish]
    broken = '[sites.default.callback]\nsubscribe_url = "cms"\npublish_url = "ftp://cms"\n'
    assert list(faults(site(broken + CMS_SPACES))) == [
        "sites.default.callback.subscribe_url",
        "sites.default.callback.publish_url",
    ]


def test_only_one_dialect_has_the_other_questions() -> None:
    names = ("refresh_url", "subscribe_url", "sub_refresh_url", "publish_url", "rpc_url")
    lines = "".join(f'{name} = "https://cms/{name}"\n' for name in names)
    for dialect in ("", 'dialect = "nodejs"\n', 'dialect = "nodejs"\nurl = "http://cms/"\n'):
        found = faults(site(f"[sites.default.callback]\n{dialect}{lines}"))
        assert found == {f"sites.default.callback.{n}": 'needs dialect = "connect"' for n in names}
    text = '[sites.default.callback]\ndialect = "connect"\nrefresh_url = "http://cms/"'
    assert faults(site(text)) == {"sites.default.callback.refresh_url": "needs a url"}
    text = '[sites.default.callback]\ndialect = "connect"\nsub_refresh_url = "http://cms/"'
    assert faults(site(text)) == {"sites.default.callback.sub_refresh_url": "needs a subscribe_url"}


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("", "sites.default.key", "twisted-push init"),
        ("listen = []\n" + site(""), "listen", "at least one"),
        ("listen = ['tcp:1', 'tcp:1']\n" + site(""), "listen", "twice"),
        ("listen = ['tcp:1']\nbackend_listen = ['tcp:1']\n" + site(""), "backend_listen", "share"),
        ("listen = 'tcp:1'\n" + site(""), "listen", "must be a list"),
        ("listen = ['unix:/tmp/a']\nreuse_port = true\n" + site(""), "reuse_port", "no tcp"),
        ("trusted_proxies = ['10.0.0.1/8']\n" + site(""), "trusted_proxies[0]", "10.0.0.0/8"),
        ("limits = 5\n" + site(""), "limits", "must be a table"),
        ("[limits]\nping_interval = nan\n" + site(""), "limits.ping_interval", "nan is not"),
        ("[limits]\npong_timeout = inf\n" + site(""), "limits.pong_timeout", "inf is not"),
        ("[limits]\npong_timeout = 0\n" + site(""), "limits.pong_timeout", "above 0"),
        (site("", key="seven-7"), "sites.default.key", "twisted-push init"),
        ("nodejs_path = 'nodejs'\n" + site(""), "nodejs_path", "/nodejs/"),
        ("nodejs_path = '/'\n" + site(""), "nodejs_path", "not valid"),
        ("nodejs_path = '/a//b'\n" + site(""), "nodejs_path", "not valid"),
        ("nodejs_path = '/api/x'\n" + site(""), "nodejs_path", "of the server's own"),
        ("socketio_path = '/a?b'\n" + site(""), "socketio_path", "not valid"),
        ("socketio_path = '/nodejs/io'\n" + site(""), "socketio_path", "within nodejs_path"),
        ("nodejs_path = '/socket.io/'\n" + site(""), "socketio_path", "within nodejs_path"),
        ("nodejs_path = '/socket.io/n'\n" + site(""), "nodejs_path", "within socketio_path"),
        (site("", key="wörter-sind-auch-nicht-gut"), "sites.default.key", "ASCII"),
        (site("keys = []\nkey_file = 'x'"), "sites.default.key", "given twice"),
        (site("[[sites.default.keys]]\nkey='" + OTHER_KEY + "'"), "sites.default.keys", "twice"),
        ("[[sites.default.keys]]\nid='a'", "sites.default.keys[0].key", "needed"),
        (site("token_secret = 'too short'"), "sites.default.token_secret", "32 bytes"),
        (site("hosts = ['https://x']"), "sites.default.hosts[0]", "without scheme"),
        (site("hosts = ['x:80']"), "sites.default.hosts[0]", "without scheme"),
        (site("hosts = ['x', 'X']"), "sites.default.hosts", "twice"),
        (site("allowed_origins = ['x.org']"), "sites.default.allowed_origins[0]", "scheme://"),
        (site("allowed_origins = ['https://x/']"), "sites.default.allowed_origins[0]", "path"),
        (site("broadcast_channel = ''"), "sites.default.broadcast_channel", "1 to 255"),
        (site('broadcast_channel = "a\\tb"'), "sites.default.broadcast_channel", "'a\\tb'"),
        (site("user_channel = 'user'"), "sites.default.user_channel", "{user}"),
        (site("user_channel = '" + "ä" * 128 + "{user}'"), "sites.default.user_channel", "255"),
        (site("presence.hook_url = 'ftp://x/'"), "sites.default.presence.hook_url", "http"),
        (site("presence.hook_secret = 'short'"), "sites.default.presence.hook_secret", "32 bytes"),
        (site("callback.url = 'ftp://x/'"), "sites.default.callback.url", "http"),
        (site("callback.url = 'http:///x'"), "sites.default.callback.url", "with a host"),
        (site("callback.url = 'http://[x'"), "sites.default.callback.url", "with a host"),
        (
            site("callback.forward_headers = ['Host']"),
            "sites.default.callback.forward_headers[0]",
            "forw",
        ),
        (
            site("[[sites.default.namespaces]]\nrecover = true"),
            "sites.default.namespaces[0].recover",
            "history_size",
        ),
        (
            site("[[sites.default.namespaces]]\nclient_history = true"),
            "sites.default.namespaces[0].client_history",
            "history_size",
        ),
        (
            site("[[sites.default.namespaces]]\nrecovery_mode = 'cache'"),
            "sites.default.namespaces[0].recovery_mode",
            "recover = true",
        ),
        (
            site("[[sites.default.namespaces]]\nrecovery_mode = 'last'"),
            "sites.default.namespaces[0].recovery_mode",
            "stream",
        ),
        (
            "[limits]\nrecovery_max_publication_limit = 0\n" + site(""),
            "limits.recovery_max_publication_limit",
            "1",
        ),
        (
            site("[[sites.default.namespaces]]\n[[sites.default.namespaces]]"),
            "sites.default.namespaces[1].prefix",
            "twice",
        ),
        (site("", name="'a b'"), "sites.'a b'", "name of a site"),
    ],
)
def test_a_fault_is_found_at_its_path(text: str, path: str, part: str) -> None:
    found = faults(text)
    assert list(found) == [path]
    assert part in found[path]


def test_several_sites_need_hosts_and_share_nothing() -> None:
    text = site("hosts = ['a']", "a") + site("hosts = ['a']", "b") + site("", "c", OTHER_KEY)
    text += f"token_secret = '{TOKEN_SECRET}'\n"
    text = text.replace("[sites.b]", f"[sites.b]\ntoken_secret = '{TOKEN_SECRET}'")
    assert faults(text) == {
        "sites.b.hosts": "'a' belongs to sites.a already",
        "sites.c.hosts": "needed, because there are several sites",
        "sites.b.key": "sites.a has the same key; each has its own",
        "sites.c.token_secret": "sites.b has the same secret; each has its own",
    }


def test_rights_on_sites_that_are_not_there_are_refused() -> None:
    text = f"""
    [sites.a]
    hosts = ["a.test"]
    key = "{KEY}"
    [sites.hub]
    hosts = ["hub.test"]
    keys = [{{ key = "{OTHER_KEY}", sites = ["a", "hub", "nowhere"] }}]
    [[sites.hub.mirrors]]
    sites = ["*", "none"]
    [[sites.hub.mirrors]]
    prefix = "x"
    channel = ""
    [[sites.hub.mirrors]]
    sites = ["*"]
    channel = "log:{{sit}}"
    """
    template = (
        "a printable name of 1 to 255 bytes, in which {site} and {channel}, and no other words in"
        " braces, may stand"
    )
    assert faults(text) == {
        "sites.hub.keys[0].sites[1]": "'hub' is this site itself",
        "sites.hub.keys[0].sites[2]": "there is no site 'nowhere'",
        "sites.hub.mirrors[0].sites[1]": "there is no site 'none'",
        "sites.hub.mirrors[1].channel": f"'' is not valid; must be {template}",
        "sites.hub.mirrors[2].channel": f"'log:{{sit}}' is not valid; must be {template}",
        "sites.hub.mirrors[1].sites": 'needed: names of sites, or "*" for all others',
    }


def test_a_hub_and_limits_of_a_site() -> None:
    text = f"""
    [sites.a]
    hosts = ["a.test"]
    key = "{KEY}"
    limits = {{ max_connections = 5, max_connections_per_user = 2 }}
    [sites.hub]
    hosts = ["hub.test"]
    keys = [{{ key = "{OTHER_KEY}", sites = ["*"], max_requests_per_second = 7 }}]
    limits = {{ max_requests_per_second = 3 }}
    mirrors = [{{ sites = ["a"], prefix = "watchdog", channel = "log:{{site}}" }}]
    """
    sites = read(text).sites
    assert sites["a"].limits.max_connections == 5
    assert sites["a"].limits.max_connections_per_user == 2
    assert sites["hub"].keys[0].sites == ("*",)
    assert sites["hub"].keys[0].max_requests_per_second == 7
    assert sites["hub"].mirrors[0].channel == "log:{site}"


def test_sites_that_differ_in_capitals_only_are_refused() -> None:
    text = site("hosts = ['a']", "a-b") + site("hosts = ['b']", "A_B", OTHER_KEY)
    assert faults(text) == {"sites.A_B": "too much like sites.a-b"}


@pytest.mark.parametrize(
    ("contents", "part"),
    [
        ({}, "cannot read 'k': No such file"),
        ({"k": " \n"}, "'k' is empty"),
        ({"k": "x"}, "too short"),
    ],
)
def test_a_faulty_secret_file_is_told_at_the_path_of_its_key(
    contents: dict[str, str], part: str
) -> None:
    found = faults("[sites.default]\nkey_file = 'k'", contents=contents)
    assert list(found) == ["sites.default.key_file"]
    assert part in found["sites.default.key_file"]


def test_a_secret_file_that_is_no_text_is_told_without_its_bytes() -> None:
    def read_file(name: str) -> str:
        return b"\xff secret".decode()

    with pytest.raises(ConfigErrors) as caught:
        load("[sites.default]\nkey_file = 'k'", environ={}, read_file=read_file)
    assert str(caught.value) == "sites.default.key_file: cannot read 'k': it is not UTF-8 text"


@pytest.mark.parametrize(
    "text",
    [
        f"[sites.default]\nkey = '{SECRET}'",
        f"[sites.default]\nkey = ['{SECRET}']",
        f"[sites.default]\nkey = '{SECRET}-with-ünicode-in-it'",
        f"[sites.default]\nkeys = '{SECRET}'",
        f"[sites.default]\nkeys = ['{SECRET}']",
        f"[[sites.default.keys]]\nkey = '{SECRET}'\n[[sites.default.keys]]\nkey = '{SECRET}'",
        f"[sites.default]\nkey = '{SECRET}'\nkey_file = 'k'",
        f"[sites.default]\nkye = '{SECRET}'",
        f"key = '{SECRET}'",
        f"sites = '{SECRET}'",
        f"sites.default = '{SECRET}'",
        site(f"token_secret = '{SECRET}'"),
        site(f"token_secret = {{ a = '{SECRET}' }}"),
        site(f"callback = '{SECRET}'"),
        site(f"callback.url = 'http://me:{SECRET}@cms/'"),
        site(f"callback.url = 'htp://me:{SECRET}@cms/'"),
        site(f"callback.url = 'http:/me:{SECRET}@cms/'"),
        site(f"callback.url = 'https:/cms?token={SECRET}'"),
        site("callback.basic_auth_file = 'secret'"),
    ],
)
def test_no_message_shows_a_secret(text: str) -> None:
    found = faults(text, contents={"k": SECRET, "secret": SECRET})
    assert found
    assert SECRET not in str(found)


def test_no_representation_shows_a_secret() -> None:
    config = read(
        site(
            f"token_secret = '{TOKEN_SECRET}'\ncallback = {{url='http://x', basic_auth_file='b'}}"
        ),
        contents={"b": "someone:password"},
    )
    assert KEY not in repr(config)
    assert TOKEN_SECRET not in repr(config)
    assert "password" not in repr(config)
