"""Makes a configuration of a settings file of the Node server of Drupal's nodejs module.

Names, defaults and meanings of the settings: spec drupal-nodejs, section 6. What cannot be carried
over, and what is different now, becomes a note. Notes name keys and places; they never show a
value.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import textwrap
from collections.abc import Iterable, Sequence

from attrs import field, frozen
from twisted.internet.endpoints import quoteStringArgument

from twisted_push.config import KeyConfig, names
from twisted_push.jsfile import Path, Place, read
from twisted_push.nodejsconfig.old import TAKEN, OldSettings, find

__all__ = ["Imported", "import_settings"]

MAX_NOTES = 100
_KEY_BYTES = 32
_MIB = 2**20

_NOT_NEEDED = ("transports", "jsMinification", "jsEtag", "websocketSwfLocation")
_FOR_TLS = ("sslKeyPath", "sslCertPath", "sslCAPath", "sslPassPhrase", "key", "cert")
_ROUTES = {
    "publishUrl": "publish",
    "kickUserUrl": "user/kick/:",
    "logoutUserUrl": "user/logout/:",
    "addUserToChannelUrl": "user/channel/add/:/:",
    "removeUserFromChannelUrl": "user/channel/remove/:/:",
    "addChannelUrl": "channel/add/:",
    "checkChannelUrl": "channel/check/:",
    "removeChannelUrl": "channel/remove/:",
    "setUserPresenceListUrl": "user/presence-list/:/:",
    "addAuthTokenToChannelUrl": "authtoken/channel/add/:/:",
    "removeAuthTokenFromChannelUrl": "authtoken/channel/remove/:/:",
    "removeAuthTokenToChannelUrl": "authtoken/channel/remove/:/:",
    "toggleDebugUrl": "debug/toggle",
    "contentTokenUrl": "content/token",
    "publishMessageToContentChannelUrl": "content/token/message",
    "getContentTokenUsersUrl": "content/token/users",
}
"""The routes as they are by default, without the names of their parameters."""

_PARAMETER = re.compile(r":\w+")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) *(b|kb|mb|gb)?", re.ASCII | re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_UNITS = {"": 1, "b": 1, "kb": 2**10, "mb": _MIB, "gb": 2**30}
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})", re.ASCII)


@frozen
class Imported:
    """What was made of a settings file: a configuration, and what to know about it.

    ``basic_auth`` is the ``user:password`` that belongs into a file of its own; empty for none.
    """

    toml: str = field(repr=False)
    notes: tuple[str, ...]
    basic_auth: str = field(repr=False)


def import_settings(text: str, *, auth_file: str) -> Imported:
    """Make a configuration of the text of a settings file. Raises `JsFileError`.

    ``auth_file`` is the name of the file that will hold ``basic_auth``; empty: there will be none.
    """
    file = read(text)
    old = OldSettings(find(file))
    basic_auth = _basic_auth(old, auth_file)
    tables = (
        ("", _top(old)),
        ("limits", _limits(old)),
        ("sites.default", _site(old)),
        ("sites.default.callback", _callback(old, auth_file if basic_auth else "")),
    )
    _note_the_rest(old, file.unread)
    notes = old.notes[:MAX_NOTES]
    if len(old.notes) > MAX_NOTES:
        notes += (f"and {len(old.notes) - MAX_NOTES} more like these",)
    return Imported(_toml(tables, notes), notes, basic_auth)


# --- The new ones --------------------------------------------------------------------------


def _top(old: OldSettings) -> list[str]:
    lines = [f"listen = [{_quoted(_endpoint(old))}]"]
    for path, name in ((("baseAuthPath",), "nodejs_path"), (("resource",), "socketio_path")):
        default = {"nodejs_path": "/nodejs/", "socketio_path": "/socket.io"}[name]
        value = old.text(path, default)
        try:
            clean = names.url_path().read("/" + value.strip("/"))
        except ValueError:
            clean = ""
        if not clean:
            old.note(f"not a path that can be used; {name} has its default", path)
        elif clean != default.rstrip("/"):
            lines.append(f"{name} = {_quoted(clean)}")
    debug, level = old.get(("debug",)), old.get(("logLevel",))
    if debug or level in (3, "3"):
        lines.append('log_level = "debug"')
    return lines


def _endpoint(old: OldSettings) -> str:
    """Give the endpoint that the old server listened on."""
    secure = old.scheme(("scheme",)) == "https"
    parts = [f"{'ssl' if secure else 'tcp'}:{old.port(('port',), 8080)}"]
    interface = _interface(old)
    if interface:
        parts.append(f"interface={quoteStringArgument(interface)}")
    if secure:
        parts += _certificate(old)
    else:
        old.ignore(*_FOR_TLS)
    return ":".join(parts)


def _certificate(old: OldSettings) -> list[str]:
    """Give the arguments of an endpoint for TLS."""
    arguments = []
    for argument, paths, missing in (
        ("privateKey", (("sslKeyPath",), ("key",)), "/path/to/key.pem"),
        ("certKey", (("sslCertPath",), ("cert",)), "/path/to/certificate.pem"),
        ("extraCertChain", (("sslCAPath",),), ""),
    ):
        found = {path: name for path in paths if (name := _file_name(old, path))}
        path, name = next(iter(found.items()), (paths[0], missing))
        if not found and missing:
            old.note(f"put the right file into `listen` in the place of {missing}", path)
        elif name and not name.startswith("/"):
            old.note("a relative name: start the server in the folder that it belongs to", path)
        if name:
            arguments.append(f"{argument}={quoteStringArgument(name)}")
    if old.get(("sslPassPhrase",)):
        message = "not carried over: make a copy of the key without a passphrase (`openssl pkey`)"
        old.note(message, ("sslPassPhrase",))
    return arguments


def _file_name(old: OldSettings, path: Path) -> str:
    """Give the name of a file; of several in a list, the first. Empty if there is none."""
    value = old.get(path)
    if isinstance(value, list):
        if len(value) > 1:
            old.note("only the first of these files is read: put all into one", path)
        value = value[0] if value else ""
    if value is None or (isinstance(value, str) and value.isprintable()):
        return value or ""
    old.note("not the name of a file", path)
    return ""


def _interface(old: OldSettings) -> str:
    """Give the address to listen on; empty for all of IPv4."""
    host = old.text(("host",), "localhost")
    if host == "localhost":
        return "127.0.0.1"
    if host in ("", "0.0.0.0"):
        return ""
    if _is_address(host) or _HOST_NAME.fullmatch(host):
        return host
    old.note("not an address to listen on; 127.0.0.1 was taken", ("host",))
    return "127.0.0.1"


def _limits(old: OldSettings) -> list[str]:
    value = old.get(("bodyParserJsonLimit",))
    if value is None:
        return []
    match = _SIZE.fullmatch(str(value).strip())
    size = int(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else 0
    if not 0 < size < 2**50:
        old.note("not a size; max_body_size has its default", ("bodyParserJsonLimit",))
    elif size % _MIB:
        return [f"max_body_size = {size}"]
    elif size != _MIB:
        return [f'max_body_size = "{size // _MIB}MiB"']
    return []


def _site(old: OldSettings) -> list[str]:
    origins = _origins(old)
    listed = ", ".join(map(_quoted, origins or ["https://www.example.org"]))
    return [
        "# Drupal must have the same key: the service key in the settings of the nodejs module.",
        f"key = {_quoted(_key(old))}",
        "",
        "# The addresses of the site, as the address bar of the browser shows them.",
        f"{'' if origins else '# '}allowed_origins = [{listed}]",
    ]


def _key(old: OldSettings) -> str:
    """Give the service key, or a fresh one if it is of no use."""
    path = ("serviceKey",)
    why = "cannot be read without running it"
    if not old.unread(path):
        value = old.get(path)
        why = "it is too short, or not printable ASCII" if value else "there is none"
        try:
            if key := names.service_key().read(value or ""):
                if KeyConfig(key=key).short:
                    old.note("it is short: better set a longer one, here and in Drupal", path)
                return key
        except ValueError:
            pass
    old.note(f"{why}: a fresh key was made. Set the `key` of this file in Drupal, too", path)
    return secrets.token_urlsafe(_KEY_BYTES)


def _backend(old: OldSettings) -> tuple[str, str, int]:
    """Give scheme, host and port of Drupal."""
    scheme = old.scheme(("backend", "scheme"))
    host = old.text(("backend", "host"), "localhost")
    if not _is_address(host) and not _HOST_NAME.fullmatch(host):
        old.note(f"not the name of a host; {TAKEN}", ("backend", "host"))
        host = "localhost"
    return scheme, host, old.port(("backend", "port"), 80)


def _base(scheme: str, host: str, port: int) -> str:
    """Give the beginning of a URL, without the port if it is that of the scheme."""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port == _PORTS[scheme] else f":{port}")


def _origins(old: OldSettings) -> list[str]:
    """Give the origins of the site's pages, as far as the address of the backend tells them."""
    scheme, host, port = _backend(old)
    if not _is_public(host):
        old.note(
            "allowed_origins: pages may connect if they are of the host that the push server is "
            "reached by, at any port (the old server let every page connect). If the push server "
            "has a host name of its own, write down the addresses of the site"
        )
        return []
    old.note(
        "allowed_origins: only pages of these addresses may connect (the old server let every page "
        "connect). Add the others by which visitors reach the site, such as one without www"
    )
    found = [_base(scheme, host.lower(), port)]
    if port == _PORTS[scheme]:
        found = [_base(each, host.lower(), number) for each, number in _PORTS.items()]
    return found


def _is_public(host: str) -> bool:
    """Tell whether visitors may reach the site by this host, as far as its name tells."""
    if _is_address(host):
        return ipaddress.ip_address(host).is_global
    return "." in host


def _callback(old: OldSettings, auth_file: str) -> list[str]:
    base = _base(*_backend(old))
    path = old.text(("backend", "basePath"), "/")
    message = old.text(("backend", "messagePath"), "nodejs/message")
    joined = path + (message.lstrip("/") if path.endswith("/") else message)
    url = f"{base}/{joined.lstrip('/')}"
    try:
        names.callback_url().read(url)
    except ValueError:
        old.note("the paths make no URL; those of the module were taken", ("backend", "basePath"))
        url = f"{base}/nodejs/message"
    lines = [f"url = {_quoted(url)}", 'dialect = "nodejs"']
    if auth_file:
        lines.append(f"basic_auth_file = {_quoted(auth_file)}")
    if not old.get(("backend", "strictSSL")) and base.startswith("https:"):
        lines.append("verify_tls = false")
        why = "not set, so the certificate of Drupal is not checked, as before"
        old.note(f"{why}; better set verify_tls = true", ("backend", "strictSSL"))
    writers = ("clientsCanWriteToClients",), ("clientsCanWriteToChannels",)
    allowed = [writer for writer in writers if old.get(writer)]
    for writer in allowed:
        old.note(
            "messages of browsers now go to Drupal (hook_nodejs_message_callback), which decides "
            "what to send; no browser writes to another one directly",
            writer,
        )
    return [*lines, "client_messages = true"] if allowed else lines


def _basic_auth(old: OldSettings, auth_file: str) -> str:
    """Give ``user:password``, if there is one that can be used."""
    path = ("backend", "httpAuth")
    value = old.get(path)
    if not value:
        return ""
    try:
        user, password = names.basic_auth().read(value) or ("", "")
    except ValueError:
        user = password = ""
    if not user or user != user.lstrip() or password != password.rstrip():
        old.note("not a user:password that can be used; set basic_auth_file", path)
        return ""
    if not auth_file:
        old.note("put it into a file of its own, and name that in basic_auth_file", path)
        return ""
    return str(value)


# --- What is left --------------------------------------------------------------------------


def _note_the_rest(old: OldSettings, skipped: Sequence[Place]) -> None:
    """Note what has no counterpart, what is not known, and what was not read."""
    whole = old.get(("extensions",))
    for path in old.items(("extensions",)) or [("extensions",)] * bool(whole):
        old.note("extensions are not run: use the HTTP API, or Drupal's hooks", path)
    for name, default in _ROUTES.items():
        route = old.get((name,))
        if route is not None and _route(route) != default:
            old.note("not carried over: the routes have the names that Drupal calls", (name,))
    if old.get(("socketOptions",)):
        message = "not carried over: ping_interval and pong_timeout are under [limits]"
        old.note(message, ("socketOptions",))
    old.ignore(*_NOT_NEEDED)
    for path in old.leftovers():
        old.note("not known; it was left out", path)
    for place in skipped:
        old.note(f"{place}: this was not read; if it changes a setting, change it in this file")


def _route(value: object) -> str:
    """Give a route without what varies between the old servers."""
    text = _PARAMETER.sub(":", str(value)).strip("/")
    return text.removeprefix("nodejs/")


# --- Writing -------------------------------------------------------------------------------


def _toml(tables: Iterable[tuple[str, list[str]]], notes: Iterable[str]) -> str:
    """Give the text of the file: its notes as comments, then the tables."""
    lines = [
        "# The configuration of a twisted_push server (TOML), made of a settings file of the Node",
        "# server of Drupal's nodejs module. Keys that are not here have their defaults:",
        "# `twisted-push init -` shows them all. This file holds secrets.",
        "#",
        "# What to know about it:",
    ]
    for note in notes:
        lines += textwrap.wrap(
            note,
            width=100,
            initial_indent="# - ",
            subsequent_indent="#   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    for name, content in tables:
        if content:
            lines += ["", f"[{name}]"] if name else [""]
            lines += content
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Give a printable text as a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _is_address(host: str) -> bool:
    try:
        return not getattr(ipaddress.ip_address(host), "scope_id", None)
    except ValueError:
        return False
