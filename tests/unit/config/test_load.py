"""What a good file gives: the documented defaults, units, secrets, and init's own file."""

from __future__ import annotations

import pytest

from tests.unit.config.reading import KEY, OTHER_KEY, TOKEN_SECRET, faults, read, site
from twisted_push.config import Namespace, template

# The block of the documentation; only its comments are shortened.
SAMPLE = """
listen = ["tcp:8080:interface=127.0.0.1"]   # Twisted endpoint strings for browsers
backend_listen = []                          # endpoints for the backend API and ops
engine = "memory"                            # memory | redis
state_dir = ""                               # where the memory engine keeps its journal
trusted_proxies = []                         # addresses whose X-Forwarded-For is believed
log_level = "info"                           # log_format = "text" | "json"
debug_echo = false                           # /debug/echo for conformance suites

[limits]                                     # of the whole process
max_connections = 19000
max_connections_per_address = 0              # 0: no limit
max_message_size = "64KiB"                   # from a client, after defragmentation
max_body_size = "1MiB"                       # of a backend request
max_outbox = "1MiB"                          # unsent bytes per client
stale_close_delay = "10s"                    # from connection to an accepted connect
ping_interval = "25s"                        # and pong_timeout = "10s"
shutdown_timeout = "20s"                     # clients are told to come back

[sites.default]
hosts = []                                   # Host names that select this site
key = ""                                     # *needed*
allowed_origins = []                         # of browsers; empty: same host only
broadcast_channel = "broadcast"              # everybody is in it
user_channel = ""                            # e.g. "user:{user}"
anonymous = false                            # let clients in without a token (as user "")
token_secret = ""                            # HS256 secret

[sites.default.callback]                     # how the CMS is asked
url = "http://127.0.0.1/nodejs/message"
dialect = "nodejs"                           # nodejs: the Drupal module's; connect
forward_headers = ["Cookie"]                 # of the browser's request, for dialect connect
timeout = "5s"
max_concurrent = 20
max_waiting = 10000
grant_ttl = "1h"                             # how long an answer is kept
serve_stale = "10m"                          # how long past that it still serves
basic_auth_file = ""
verify_tls = true

[sites.default.presence]
online_grace = "2s"                          # a page change is no departure

[[sites.default.namespaces]]                 # the first whose prefix fits
prefix = "chat:"
history_size = 100
history_ttl = "10m"
recover = true
presence = false
join_leave = false
client_subscribe = "deny"                    # deny | token | cms | anyone
client_publish = "deny"                      # deny | cms | subscriber | anyone
client_history = false
client_presence = false
"""


def test_the_documented_block_is_accepted_once_the_key_is_filled_in() -> None:
    config = read(SAMPLE.replace('key = "" ', f'key = "{KEY}" '))
    default = config.sites["default"]
    assert default.callback is not None
    assert default.callback.url == "http://127.0.0.1/nodejs/message"
    assert default.callback.service_key == KEY
    assert default.token_secret is None
    assert default.namespaces == (
        Namespace(prefix="chat:", history_size=100, recover=True, history_ttl=600.0),
    )


def test_the_documented_block_lacks_only_the_key() -> None:
    assert list(faults(SAMPLE)) == ["sites.default.key"]


def test_the_documented_values_are_the_defaults() -> None:
    """What the documentation shows is what a file without these lines gives."""
    written = read(SAMPLE.replace('key = "" ', f'key = "{KEY}" '))
    left_out = read(
        f'[sites.default]\nkey="{KEY}"\n[sites.default.callback]\nurl="http://127.0.0.1/nodejs/message"'
    )
    assert written.limits == left_out.limits
    assert written.sites["default"].callback == left_out.sites["default"].callback
    assert written.sites["default"].presence == left_out.sites["default"].presence
    assert written.listen == left_out.listen


def test_units_become_bytes_and_seconds() -> None:
    limits = read(
        '[limits]\nmax_outbox = "2MiB"\nmax_body_size = 5000\nmax_message_size = "1 gib"\n'
        'pong_timeout = "500ms"\nping_interval = 30\nshutdown_timeout = 0\n'
        'stale_close_delay = "1.5m"\n' + site("")
    ).limits
    assert (limits.max_outbox, limits.max_body_size, limits.max_message_size) == (
        2 * 2**20,
        5000,
        2**30,
    )
    assert (limits.pong_timeout, limits.ping_interval) == (0.5, 30.0)
    assert (limits.shutdown_timeout, limits.stale_close_delay) == (0.0, 90.0)


def test_a_namespace_with_history() -> None:
    text = 'history_size = 5\nrecover = true\nrecovery_mode = "cache"\nclient_history = true'
    [found] = read(site(f"[[sites.default.namespaces]]\n{text}")).sites["default"].namespaces
    assert (found.recovery_mode, found.client_history) == ("cache", True)
    assert Namespace().recovery_mode == "stream"
    assert read(site("")).limits.recovery_max_publication_limit == 300


def test_a_channel_without_namespace_has_the_rules_of_a_bare_one() -> None:
    bare = Namespace()
    assert (bare.prefix, bare.history_size, bare.history_ttl, bare.recover) == ("", 0, 600.0, False)
    assert (bare.client_subscribe, bare.client_publish) == ("deny", "deny")


def test_without_a_url_there_is_no_callback() -> None:
    assert read(site("")).sites["default"].callback is None
    assert read(site('[sites.default.callback]\ntimeout = "1s"')).sites["default"].callback is None
    deciding = '[sites.default.callback]\ndialect = "connect"\nrpc_url = "http://cms/rpc"'
    callback = read(site(deciding)).sites["default"].callback
    assert callback is not None
    assert (callback.url, callback.rpc_url) == ("", "http://cms/rpc")


def test_several_keys_with_scopes_and_files() -> None:
    config = read(
        '[[sites.default.keys]]\nid = "cms"\nkey_file = "cms.key"\n'
        f'[[sites.default.keys]]\nid = "ci"\nkey = "{OTHER_KEY}"\nscopes = ["read", "read"]\n'
        '[sites.default.callback]\nurl = "https://cms.example.org/push"',
        contents={"cms.key": f"{KEY}\n"},
    )
    first, second = config.sites["default"].keys
    assert (first.id, first.key, first.scopes) == (
        "cms",
        KEY,
        frozenset({"publish", "read", "manage"}),
    )
    assert (second.id, second.key, second.scopes) == ("ci", OTHER_KEY, frozenset({"read"}))
    callback = config.sites["default"].callback
    assert callback is not None
    assert callback.service_key == KEY


def test_secrets_from_files_lose_the_line_end() -> None:
    config = read(
        '[sites.default]\nkey_file = "k"\ntoken_secret_file = "t"\n'
        '[sites.default.callback]\nurl = "http://cms/"\nbasic_auth_file = "b"',
        contents={"k": KEY + "\n", "t": TOKEN_SECRET + "\r\n", "b": "push:pass:word\n"},
    )
    default = config.sites["default"]
    assert default.callback is not None
    assert default.keys[0].key == KEY
    assert default.token_secret == TOKEN_SECRET
    assert default.callback.basic_auth == ("push", "pass:word")


def test_an_empty_secret_counts_as_not_given() -> None:
    text = '[sites.default]\nkey = ""\nkey_file = "k"\ntoken_secret = ""\ntoken_secret_file = ""'
    default = read(text, contents={"k": KEY}).sites["default"]
    assert default.keys[0].key == KEY
    assert default.token_secret is None


def test_names_are_brought_into_one_form() -> None:
    default = read(
        'trusted_proxies = ["10.0.0.0/8", "::1", "2001:DB8::/32"]\n'
        + site(
            'hosts = ["WWW.Example.org"]\n'
            'allowed_origins = ["*", "HTTPS://Example.org:443", "http://[::1]:8080"]'
        )
    )
    assert default.trusted_proxies == ("10.0.0.0/8", "::1", "2001:db8::/32")
    assert default.sites["default"].hosts == ("www.example.org",)
    assert default.sites["default"].allowed_origins == (
        "*",
        "https://example.org",
        "http://[::1]:8080",
    )


def test_the_sites_of_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        read(site("")).sites["x"] = read(site("")).sites["default"]  # type: ignore[index]


def test_init_writes_a_file_that_loads_with_fresh_secrets() -> None:
    first, second = template(), template()
    one, two = read(first).sites["default"], read(second).sites["default"]
    assert one.keys[0].key != two.keys[0].key
    assert one.token_secret != two.token_secret
    assert one.token_secret != one.keys[0].key
    assert read(first).limits == read(site("")).limits


def test_every_default_that_init_shows_is_the_default() -> None:
    """With the comment signs removed the file still loads, and says the same."""
    shown = "\n".join(
        line[2:] if line.startswith("# ") and " = " in line and '= ["' not in line else line
        for line in template().splitlines()
        if not line.startswith("# A line") and "prefix = " not in line
    )
    shown = shown[: shown.index("# Rules for channels")]
    written, bare = read(shown), read(site(""))
    assert written.limits == bare.limits
    callback = written.sites["default"].callback
    assert callback is not None
    assert (callback.timeout, callback.grant_ttl, callback.serve_stale) == (5.0, 3600.0, 600.0)
    assert written.sites["default"].presence == bare.sites["default"].presence
