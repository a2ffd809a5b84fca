"""From the settings of the old Node server to a configuration."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_push.config import Config, load
from twisted_push.jsfile import JsFileError
from twisted_push.nodejsconfig import Imported, import_settings

KEY = "the-service-key-of-the-site"
AUTH_FILE = "push.toml.basic-auth"

# As the module's builder of settings files writes it.
BUILT = """\
/**
 * This configuration file was built using the 'Node.js server configuration builder'.
 */
settings = {
  scheme: 'http',
  port: 8080,
  host: 'localhost',
  resource: '/socket.io',
  serviceKey: 'the-service-key-of-the-site',
  backend: {
    port: 80,
    host: 'www.example.org',
    scheme: 'http',
    basePath: '/',
    messagePath: 'nodejs/message',
  },
  debug: false,
  transports: ['websocket', 'polling'],
  jsMinification: true,
  jsEtag: true,
  logLevel: 1
};
"""


def made_of(text: str, auth_file: str = AUTH_FILE) -> tuple[Config, Imported]:
    """Import a file, and load what was made of it as the server does."""
    made = import_settings(text, auth_file=auth_file)
    files = {auth_file: made.basic_auth}
    return load(made.toml, environ={}, read_file=files.__getitem__), made


def config(**settings: object) -> Config:
    return made_of(json.dumps({"serviceKey": KEY, **settings}))[0]


def notes(**settings: object) -> list[str]:
    """Give the notes without the one on origins, which is always there."""
    made = made_of(json.dumps({"serviceKey": KEY, **settings}))[1]
    return [note for note in made.notes if not note.startswith("allowed_origins: ")]


def callback(**backend: object) -> Any:
    return config(backend=backend).sites["default"].callback


# --- Where it listens ----------------------------------------------------------------------


def test_a_file_of_the_builder() -> None:
    loaded, made = made_of(BUILT)
    site = loaded.sites["default"]
    assert loaded.listen == ("tcp:8080:interface=127.0.0.1",)
    assert [key.key for key in site.keys] == [KEY]
    assert site.allowed_origins == ("http://www.example.org", "https://www.example.org")
    assert site.callback is not None
    assert site.callback.url == "http://www.example.org/nodejs/message"
    assert site.callback.dialect == "nodejs"
    assert not site.callback.client_messages
    assert [note.partition(": ")[0] for note in made.notes] == ["allowed_origins"]


def test_without_any_setting_it_is_as_the_old_server_was() -> None:
    loaded, made = made_of("module.exports = {};")
    site = loaded.sites["default"]
    assert loaded.listen == ("tcp:8080:interface=127.0.0.1",)
    assert site.callback is not None
    assert site.callback.url == "http://localhost/nodejs/message"
    assert (loaded.nodejs_path, loaded.socketio_path) == ("/nodejs", "/socket.io")
    assert loaded.limits.max_body_size == 2**20
    assert loaded.log_level == "info"
    assert "basic_auth" not in made.toml


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        ({"port": 9000}, "tcp:9000:interface=127.0.0.1"),
        ({"port": "9000"}, "tcp:9000:interface=127.0.0.1"),
        ({"host": "0.0.0.0"}, "tcp:8080"),
        ({"host": ""}, "tcp:8080"),
        ({"host": "192.0.2.7"}, "tcp:8080:interface=192.0.2.7"),
        ({"host": "push.example.org"}, "tcp:8080:interface=push.example.org"),
        ({"host": "::1"}, r"tcp:8080:interface=\:\:1"),
        (
            {"scheme": "https", "sslKeyPath": "/k.pem", "sslCertPath": "/c.pem"},
            "ssl:8080:interface=127.0.0.1:privateKey=/k.pem:certKey=/c.pem",
        ),
        (
            {"scheme": "https", "host": "", "key": "/a:b", "cert": "/c", "sslCAPath": ["/ca"]},
            r"ssl:8080:privateKey=/a\:b:certKey=/c:extraCertChain=/ca",
        ),
    ],
)
def test_the_endpoint(settings: dict[str, object], endpoint: str) -> None:
    assert config(**settings).listen == (endpoint,)
    assert notes(**settings) == []


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        ({"port": 0}, "port: not the number of a port"),
        ({"port": "http"}, "port: not the number of a port"),
        ({"port": True}, "port: not the number of a port"),
        ({"host": "*"}, "host: not an address to listen on; 127.0.0.1 was taken"),
        ({"host": ["localhost"]}, "host: not a text that can be used"),
        ({"scheme": "gopher"}, "scheme: neither http nor https"),
    ],
)
def test_an_endpoint_that_is_none_is_the_default(settings: dict[str, object], noted: str) -> None:
    assert config(**settings).listen == ("tcp:8080:interface=127.0.0.1",)
    assert [noted in note for note in notes(**settings)] == [True]


def test_certificates_that_need_a_hand() -> None:
    text = f"""settings = {{serviceKey: '{KEY}', scheme: 'https',
      sslKeyPath: 'keys/key.pem',
      sslCertPath: dir + '/cert.pem',
      sslCAPath: ['/a.pem', '/b.pem'],
      sslPassPhrase: 's3cr3t'}};"""
    loaded, made = made_of(text)
    assert loaded.listen == (
        "ssl:8080:interface=127.0.0.1:privateKey=keys/key.pem:certKey=/path/to/certificate.pem"
        ":extraCertChain=/a.pem",
    )
    starts = [note[:32] for note in made.notes]
    assert "line 2, column 7: sslKeyPath: a " in starts
    assert "line 3, column 7: sslCertPath: c" in starts
    assert "line 3, column 7: sslCertPath: p" in starts
    assert "line 4, column 7: sslCAPath: onl" in starts
    assert "line 5, column 7: sslPassPhrase:" in starts
    assert "s3cr3t" not in made.toml


# --- Keys and limits -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("''", "serviceKey: there is none"),
        ("null", "serviceKey: there is none"),
        ("'sh0rt'", "serviceKey: it is too short"),
        ("'ünprintable-but-long-enough'", "serviceKey: it is too short, or not printable ASCII"),
        ("12345678901234567890", "serviceKey: it is too short, or not printable ASCII"),
        ("process.env.KEY", "serviceKey: cannot be read without running it"),
    ],
)
def test_a_key_of_no_use_is_replaced(value: str, why: str) -> None:
    text = f"settings = {{serviceKey: {value}}};"
    (first, made), (second, _) = made_of(text), made_of(text)
    keys = [loaded.sites["default"].keys[0].key for loaded in (first, second)]
    assert len(set(keys)) == 2
    assert min(map(len, keys)) > 40
    [note] = [note for note in made.notes if "serviceKey" in note]
    assert f"line 1, column 13: {why}" in note
    assert "Set the `key` of this file in Drupal, too" in note
    assert value.strip("'") not in note or not value.strip("'")


def test_a_short_key_is_kept_and_noted() -> None:
    text = json.dumps({"serviceKey": "sh0rt-key"})
    loaded, made = made_of(text)
    assert loaded.sites["default"].keys[0].key == "sh0rt-key"
    assert any("serviceKey: it is short" in note for note in made.notes)
    assert not any("sh0rt-key" in note for note in made.notes)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("1mb", 2**20),
        ("16mb", 16 * 2**20),
        ("1GB", 2**30),
        ("100kb", 100 * 2**10),
        ("1.5 mb", 3 * 2**19),
        ("5000b", 5000),
        ("5000", 5000),
        (5000, 5000),
    ],
)
def test_the_limit_of_bodies(value: object, size: int) -> None:
    assert config(bodyParserJsonLimit=value).limits.max_body_size == size
    assert notes(bodyParserJsonLimit=value) == []


@pytest.mark.parametrize("value", ["", "much", "1tb", 0, -1, True, "9" * 15 + "gb"])
def test_a_limit_that_is_none(value: object) -> None:
    assert config(bodyParserJsonLimit=value).limits.max_body_size == 2**20
    [note] = notes(bodyParserJsonLimit=value)
    assert "bodyParserJsonLimit: not a size" in note


@pytest.mark.parametrize(
    ("settings", "level"),
    [({"debug": True}, "debug"), ({"logLevel": 3}, "debug"), ({"logLevel": 2}, "info")],
)
def test_the_log_level(settings: dict[str, object], level: str) -> None:
    assert config(**settings).log_level == level
    assert notes(**settings) == []


# --- Paths and the callback ----------------------------------------------------------------


def test_paths_of_the_server() -> None:
    loaded = config(baseAuthPath="/push/nodejs/", resource="push.io")
    assert (loaded.nodejs_path, loaded.socketio_path) == ("/push/nodejs", "/push.io")


@pytest.mark.parametrize("path", ["", "/", "/a b/", "/api/", 5, "/a?b"])
def test_paths_that_are_none(path: object) -> None:
    loaded = config(baseAuthPath=path, resource=path)
    assert (loaded.nodejs_path, loaded.socketio_path) == ("/nodejs", "/socket.io")
    assert [note.split(": ")[1] for note in notes(baseAuthPath=path)] == ["baseAuthPath"]


@pytest.mark.parametrize(
    ("backend", "url"),
    [
        ({"host": "cms"}, "http://cms/nodejs/message"),
        ({"host": "cms", "port": 81}, "http://cms:81/nodejs/message"),
        ({"host": "cms", "port": "443", "scheme": "https"}, "https://cms/nodejs/message"),
        ({"host": "cms", "scheme": "https"}, "https://cms:80/nodejs/message"),
        ({"host": "::1"}, "http://[::1]/nodejs/message"),
        ({"basePath": "/site/"}, "http://localhost/site/nodejs/message"),
        ({"messagePath": "/nodejs/message"}, "http://localhost/nodejs/message"),
        (
            {"basePath": "/site", "messagePath": "/nodejs/message"},
            "http://localhost/site/nodejs/message",
        ),
        ({"basePath": "/?q="}, "http://localhost/?q=nodejs/message"),
        ({"basePath": ""}, "http://localhost/nodejs/message"),
    ],
)
def test_the_url_of_the_callback(backend: dict[str, object], url: str) -> None:
    assert callback(**backend).url == url


@pytest.mark.parametrize(
    ("backend", "origins"),
    [
        ({"host": "www.Example.org"}, ("http://www.example.org", "https://www.example.org")),
        ({"host": "www.example.org", "port": 81}, ("http://www.example.org:81",)),
        (
            {"host": "www.example.org", "port": 443, "scheme": "https"},
            ("http://www.example.org", "https://www.example.org"),
        ),
        ({"host": "8.8.8.8", "port": 81}, ("http://8.8.8.8:81",)),
        # Addresses that no visitor uses: pages of the push server's own host may connect.
        ({}, ()),
        ({"host": "localhost"}, ()),
        ({"host": "php"}, ()),
        ({"host": "127.0.0.1", "port": 81}, ()),
        ({"host": "10.0.0.7"}, ()),
        ({"host": "::1"}, ()),
    ],
)
def test_the_origins_of_the_pages(backend: dict[str, object], origins: tuple[str, ...]) -> None:
    loaded, made = made_of(json.dumps({"serviceKey": KEY, "backend": backend}))
    assert loaded.sites["default"].allowed_origins == origins
    assert sum(note.startswith("allowed_origins: ") for note in made.notes) == 1


@pytest.mark.parametrize(
    ("backend", "noted"),
    [
        ({"host": "a/b"}, "backend.host: not the name of a host"),
        ({"host": "me:pw@x"}, "backend.host: not the name of a host"),
        ({"port": 70000}, "backend.port: not the number of a port"),
        ({"basePath": "/a b/"}, "backend.basePath: the paths make no URL"),
        ({"unheard_of": 1}, "backend.unheard_of: not known; it was left out"),
        ("localhost", "backend: not an object; its default was taken"),
    ],
)
def test_a_backend_that_is_none(backend: Any, noted: str) -> None:
    found = config(backend=backend).sites["default"].callback
    assert found is not None
    assert found.url == "http://localhost/nodejs/message"
    assert [noted in note for note in notes(backend=backend)] == [True]


def test_certificates_of_the_backend_are_checked_as_they_were() -> None:
    assert callback(scheme="http").verify_tls
    assert callback(scheme="https", strictSSL=True).verify_tls
    assert not callback(scheme="https").verify_tls
    [note] = notes(backend={"scheme": "https", "strictSSL": False})
    assert "backend.strictSSL: not set" in note
    assert "better set verify_tls = true" in note


def test_basic_auth_goes_to_a_file_of_its_own() -> None:
    text = json.dumps({"serviceKey": KEY, "backend": {"httpAuth": "user:s3cr3t"}})
    loaded, made = made_of(text)
    found = loaded.sites["default"].callback
    assert found is not None
    assert found.basic_auth == ("user", "s3cr3t")
    assert made.basic_auth == "user:s3cr3t"
    assert "s3cr3t" not in made.toml + repr(made)


@pytest.mark.parametrize("value", ["s3cr3t", ":s3cr3t", "s3cr3t:\n", ["s3cr3t:x"], "s3cr3t:x "])
def test_basic_auth_that_is_none(value: object) -> None:
    made = made_of(json.dumps({"serviceKey": KEY, "backend": {"httpAuth": value}}))[1]
    assert made.basic_auth == ""
    assert any("backend.httpAuth: not a user:password" in note for note in made.notes)
    assert "s3cr3t" not in made.toml


def test_basic_auth_without_a_file() -> None:
    text = json.dumps({"serviceKey": KEY, "backend": {"httpAuth": "user:s3cr3t"}})
    loaded, made = made_of(text, auth_file="")
    assert made.basic_auth == ""
    assert any("name that in basic_auth_file" in note for note in made.notes)
    assert loaded.sites["default"].callback.basic_auth is None  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["clientsCanWriteToClients", "clientsCanWriteToChannels"])
def test_messages_of_clients(name: str) -> None:
    found = config(**{name: True}).sites["default"].callback
    assert found is not None
    assert found.client_messages
    assert any(f"{name}: messages of browsers now go to Drupal" in n for n in notes(**{name: True}))
    assert notes(**{name: False}) == []


# --- What has no counterpart ---------------------------------------------------------------


def test_extensions_are_noted_one_by_one() -> None:
    text = f"settings = {{serviceKey: '{KEY}', extensions: [\n'a.js',\nrequire('b')]}}"
    found = [note for note in made_of(text)[1].notes if "extensions" in note]
    assert [note.partition(" are not")[0] for note in found] == [
        "line 2, column 1: extensions.0: extensions",
        "line 3, column 1: extensions.1: extensions",
    ]
    assert len(notes(extensions="a.js")) == 1
    assert notes(extensions=[]) == notes(extensions="") == []


def test_routes_that_were_changed_are_noted() -> None:
    same = {
        "publishUrl": "/nodejs/publish",
        "kickUserUrl": "user/kick/:uid",
        "addUserToChannelUrl": "user/channel/add/:channel/:uid",
        "contentTokenUrl": "content/token",
    }
    assert notes(**same) == []
    [note] = notes(**same, logoutUserUrl="bye/:token")
    assert "logoutUserUrl: not carried over" in note


def test_what_is_not_needed_and_what_is_not_known() -> None:
    assert notes(jsEtag=True, transports=["flashsocket"], socketOptions={}, sslKeyPath="/k") == []
    [note] = notes(socketOptions={"pingInterval": 1})
    assert "socketOptions: not carried over" in note
    [note] = notes(**{"a\nb" + "c" * 100: 1})
    assert "not known; it was left out" in note
    assert "\n" not in note
    assert len(note) < 130


def test_statements_that_were_not_read_are_noted() -> None:
    made = made_of(f"const fs = require('fs');\nsettings = {{serviceKey: '{KEY}'}};")[1]
    assert any(note.startswith("line 1, column 1: this was not read") for note in made.notes)


def test_the_notes_have_an_end() -> None:
    found = notes(**{f"key{number}": 1 for number in range(1000)})
    assert len(found) == 100
    assert found[-1] == "and 901 more like these"


def test_the_notes_are_in_the_file() -> None:
    made = import_settings("settings = {extensions: ['a']}", auth_file="")
    comments = " ".join(
        line.lstrip("# -") for line in made.toml.splitlines() if line.startswith("#")
    )
    assert all(note in comments for note in made.notes)


# --- Which object --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "var x = {port: 1}; settings = {port: 9000};",
        "backendSettings = {port: 9000};\nx = {}",
        "x = {port: 1}; module.exports = {port: 9000}",
        "const config = {port: 9000};",
        "const config = {port: 9000};\nmodule.exports = config;",
    ],
)
def test_the_object_with_the_settings_is_found(text: str) -> None:
    assert made_of(text)[0].listen == ("tcp:9000:interface=127.0.0.1",)


@pytest.mark.parametrize("text", ["", "x = {}; y = {}", "settings = load();"])
def test_without_settings_nothing_is_made(text: str) -> None:
    with pytest.raises(JsFileError, match="line 1, column 1: there is no `settings"):
        import_settings(text, auth_file="")


# --- Anything ------------------------------------------------------------------------------

NAMES = [
    *("scheme", "host", "port", "serviceKey", "debug", "bodyParserJsonLimit", "baseAuthPath"),
    *("resource", "sslKeyPath", "sslCertPath", "sslCAPath", "sslPassPhrase", "key", "cert"),
    *("extensions", "transports", "logLevel", "clientsCanWriteToClients", "publishUrl", "backend"),
    *("basePath", "messagePath", "strictSSL", "httpAuth"),
]
VALUES = st.one_of(
    st.sampled_from(["https", "http", "::1", "/a/", "a:b", "1mb", 443, True, None]),
    st.text(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(), max_size=3),
)
SETTINGS = st.dictionaries(st.sampled_from(NAMES) | st.text(), VALUES, max_size=12)


@settings(deadline=None)
@given(SETTINGS, VALUES | SETTINGS)
def test_any_settings_make_a_file_that_the_server_takes(
    settings: dict[str, object], backend: object
) -> None:
    made_of(json.dumps({**settings, "backend": backend}))


@settings(deadline=None)
@given(st.text())
def test_any_key_is_kept_or_replaced(key: str) -> None:
    made = import_settings(json.dumps({"serviceKey": key}), auth_file="")
    kept = tomllib.loads(made.toml)["sites"]["default"]["key"] == key
    assert kept != any("a fresh key was made" in note for note in made.notes)


# --- The migration guide -------------------------------------------------------------------

GUIDE = (Path(__file__).parents[2] / "docs" / "drupal.md").read_text("utf-8")
SNIPPETS = re.findall(r"^```toml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_the_snippets_of_the_guide_are_valid(snippet: str) -> None:
    environ = {} if "key = " in snippet else {"TWISTED_PUSH_SITES__DEFAULT__KEY": KEY}
    assert load(snippet, environ=environ, read_file=str).sites


def test_the_guide_has_snippets() -> None:
    assert len(SNIPPETS) > 5
