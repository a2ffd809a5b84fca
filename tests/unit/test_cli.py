"""The command line, against a small HTTP server of the standard library."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from twisted.scripts import twistd

from twisted_push.cli import main
from twisted_push.configfile import read_config

KEY = "a-key-that-is-long-enough"
OTHER_KEY = "another-key-of-good-length"
TOKEN = "t0ken-0f-a-page"


class Answers(HTTPServer):
    """Answers every request alike, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.answer = b'{"result": {}}'
        self.asked: list[tuple[str, str | None, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def body(self) -> bytes:
        """The body of the only request."""
        [(_, _, body)] = self.asked
        return body

    def result(self, result: object) -> None:
        self.answer = json.dumps({"result": result}).encode()


class Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["X-API-Key"], body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answers]:
    answers = Answers()
    thread = threading.Thread(target=answers.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield answers
    answers.shutdown()
    answers.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("TWISTED_PUSH_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ask(server: Answers, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command against the server, with the key in the environment."""
    monkeypatch.setenv("TWISTED_PUSH_KEY", KEY)
    monkeypatch.setenv("TWISTED_PUSH_URL", server.url)
    return lambda *arguments: main(arguments)


def give_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def config_file(text: str) -> str:
    Path("push.toml").write_text(text, encoding="utf-8")
    return "push.toml"


Capture = pytest.CaptureFixture[str]

# --- Asking the server ---------------------------------------------------------------------


def test_publish_sends_the_json_byte_for_byte(
    ask: Callable[..., int], server: Answers, capsys: Capture
) -> None:
    server.result({"offset": 12, "epoch": "xyz", "recipients": 3})
    data = '{"price": 1.10,  "big": 123456789012345678901234567890, "ä": "\\u00e4"}'
    assert ask("publish", "news", data) == 0
    assert server.asked == [
        ("/api/publish", KEY, f'{{"channel":"news","data":{data}}}'.encode()),
    ]
    assert capsys.readouterr() == (
        "published to news, to 3 clients here, at offset 12 of xyz\n",
        "",
    )


def test_publish_reads_the_standard_input(
    ask: Callable[..., int],
    server: Answers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    server.result({"recipients": 1})
    give_input(monkeypatch, b'["\xc3\xa4"]\n')
    assert ask("publish", 'with "quotes"', "-") == 0
    assert server.body == b'{"channel":"with \\"quotes\\"","data":["\xc3\xa4"]\n}'
    assert "to 1 client here" in capsys.readouterr().out


@pytest.mark.parametrize("data", ["{", "NaN", '1}, "channel": {', "", "'x'", '"\udcff"'])
def test_publish_sends_nothing_that_is_no_json(
    ask: Callable[..., int], server: Answers, capsys: Capture, data: str
) -> None:
    assert ask("publish", "news", data) == 1
    assert server.asked == []
    assert capsys.readouterr().err.startswith("twisted-push: this is no JSON: ")


def test_broadcast_is_a_message_with_subject_and_body(
    ask: Callable[..., int], server: Answers, capsys: Capture
) -> None:
    server.result({"recipients": 2})
    assert ask("broadcast", "Hällo") == 0
    sent = {"channel": "broadcast", "data": {"subject": "Message", "body": "Hällo"}}
    assert json.loads(server.body) == sent
    assert capsys.readouterr().out == "published to broadcast, to 2 clients here\n"


def test_broadcast_goes_to_the_channel_of_the_site(
    ask: Callable[..., int], server: Answers
) -> None:
    path = config_file(f'[sites.a]\nkey = "{OTHER_KEY}"\nbroadcast_channel = "all"')
    assert ask("broadcast", "x", "--config", path) == 0
    assert ask("broadcast", "x", "--config", path, "--channel", "some", "--subject", "s") == 0
    first, second = (json.loads(body) for _, _, body in server.asked)
    assert first["channel"] == "all"
    assert (second["channel"], second["data"]["subject"]) == ("some", "s")
    assert {key for _, key, _ in server.asked} == {OTHER_KEY}


def test_kick(ask: Callable[..., int], server: Answers, capsys: Capture) -> None:
    assert ask("kick", "alice") == 0
    assert server.asked == [("/api/disconnect", KEY, b'{"user":"alice"}')]
    assert capsys.readouterr().out == "alice: all connections closed\n"


def test_logout_of_a_token_that_only_the_standard_input_shows(
    ask: Callable[..., int],
    server: Answers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    give_input(monkeypatch, TOKEN.encode() + b"\n")
    assert ask("logout", "-") == 0
    assert server.asked == [("/api/logout", KEY, f'{{"token":"{TOKEN}"}}'.encode())]
    assert TOKEN not in capsys.readouterr().out


def test_logout_of_a_token_or_of_a_user(
    ask: Callable[..., int], server: Answers, capsys: Capture
) -> None:
    assert ask("logout", TOKEN) == 0
    assert ask("logout", "--user", "alice") == 0
    assert [json.loads(body) for _, _, body in server.asked] == [
        {"token": TOKEN},
        {"user": "alice"},
    ]
    assert ask("logout") == 1
    assert ask("logout", TOKEN, "--user", "alice") == 1
    assert len(server.asked) == 2
    assert "either a TOKEN or --user" in capsys.readouterr().err


def test_channels_are_a_table(ask: Callable[..., int], server: Answers, capsys: Capture) -> None:
    server.result({"channels": {"news": {"num_clients": 12}, "chat:1": {"num_clients": 3}}})
    assert ask("channels", "--pattern", "*") == 0
    assert server.body == b'{"pattern":"*"}'
    assert capsys.readouterr().out == "CHANNEL  CLIENTS\nchat:1         3\nnews          12\n"


def test_users_are_a_table(ask: Callable[..., int], server: Answers, capsys: Capture) -> None:
    server.result({"users": {"alice": {"num_clients": 2}, "": {"num_clients": 1}}})
    assert ask("users") == 0
    assert server.asked == [("/api/users", KEY, b"{}")]
    assert capsys.readouterr().out == (
        "USER         CLIENTS\n(anonymous)        1\nalice              2\n"
    )


def test_connections_are_a_table(ask: Callable[..., int], server: Answers, capsys: Capture) -> None:
    connection = {
        "client": "c1",
        "user": "al\x1b[31mice",
        "transport": "websocket",
        "channels": ["news", "chat:1"],
        "connected_since": 1313990400.5,
    }
    server.result({"connections": [connection, {"client": "c2", "connected_since": 1e300}]})
    assert ask("connections") == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["CLIENT", "USER", "TRANSPORT", "SINCE", "CHANNELS"]
    assert "al\\x1b[31mice" in first
    assert "2011-08-2" in first
    assert first.endswith("news chat:1")
    assert second.startswith("c2      (anonymous)")


def test_info_is_a_table(ask: Callable[..., int], server: Answers, capsys: Capture) -> None:
    node = {"uid": "u", "name": "push-1", "version": "0.1.0", "num_clients": 5, "uptime": 93784}
    server.result({"nodes": [node]})
    assert ask("info") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["NODE", "VERSION", "CLIENTS", "USERS", "CHANNELS", "UPTIME"]
    assert row.split() == ["push-1", "0.1.0", "5", "0", "0", "1", "day,", "2:03:04"]


@pytest.mark.parametrize("command", ["channels", "users", "connections", "info"])
def test_nothing_to_list_is_said(
    ask: Callable[..., int], server: Answers, capsys: Capture, command: str
) -> None:
    assert ask(command) == 0
    assert capsys.readouterr().out.startswith(("no", "nobody"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", "a", "1", "--json"],
        ["--json", "publish", "a", "1"],
        ["broadcast", "a", "--json"],
        ["kick", "a", "--json"],
        ["logout", "a", "--json"],
        ["users", "--json"],
        ["channels", "--json"],
        ["connections", "--json"],
        ["info", "--json"],
    ],
)
def test_json_prints_the_result_as_it_came(
    ask: Callable[..., int],
    server: Answers,
    capsysbinary: pytest.CaptureFixture[bytes],
    arguments: list[str],
) -> None:
    server.answer = '{"result": {"big":  1.10, "ä": "\\u00e4"}}'.encode()
    assert ask(*arguments) == 0
    assert capsysbinary.readouterr().out == '{"big":  1.10, "ä": "\\u00e4"}\n'.encode()


def test_the_url_may_have_a_path(server: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWISTED_PUSH_KEY", KEY)
    assert main(["users", "--url", f"{server.url}/push/"]) == 0
    assert main(["--url", f"{server.url}/push", "users"]) == 0
    assert [path for path, _, _ in server.asked] == ["/push/api/users"] * 2


# --- Where the key comes from --------------------------------------------------------------


def test_the_key_comes_from_the_file_that_is_named(
    ask: Callable[..., int], server: Answers
) -> None:
    Path("secret").write_text(OTHER_KEY + "\n", encoding="utf-8")
    path = config_file('[sites.a]\nkey_file = "secret"')
    assert ask("users", "--config", path) == 0
    assert server.asked[0][1] == OTHER_KEY


def test_the_key_comes_from_the_file_of_the_environment_last(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWISTED_PUSH_CONFIG", config_file(f'[sites.a]\nkey = "{OTHER_KEY}"'))
    assert main(["users", "--url", server.url]) == 0
    monkeypatch.setenv("TWISTED_PUSH_KEY", KEY)
    assert main(["users", "--url", server.url]) == 0
    assert [key for _, key, _ in server.asked] == [OTHER_KEY, KEY]


def test_one_of_several_sites_is_chosen(
    ask: Callable[..., int], server: Answers, capsys: Capture
) -> None:
    path = config_file(
        f'[sites.a]\nkey = "{KEY}"\nhosts = ["a"]\n[sites.b]\nkey = "{OTHER_KEY}"\nhosts = ["b"]'
    )
    assert ask("users", "--config", path) == 1
    assert ask("users", "--config", path, "--site", "c") == 1
    assert ask("users", "--site", "b") == 1
    assert server.asked == []
    assert capsys.readouterr().err.splitlines() == [
        "twisted-push: there are several sites: give --site with one of a, b",
        "twisted-push: there is no such site: give --site with one of a, b",
        "twisted-push: --site needs the configuration file: give --config FILE",
    ]
    assert ask("users", "--config", path, "--site", "b") == 0
    assert server.asked[0][1] == OTHER_KEY


def test_the_key_with_the_scope_is_chosen(ask: Callable[..., int], server: Answers) -> None:
    path = config_file(
        f'[[sites.a.keys]]\nid = "r"\nkey = "{KEY}"\nscopes = ["read"]\n'
        f'[[sites.a.keys]]\nid = "p"\nkey = "{OTHER_KEY}"\nscopes = ["publish"]'
    )
    assert ask("users", "--config", path) == 0
    assert ask("publish", "a", "1", "--config", path) == 0
    assert [key for _, key, _ in server.asked] == [KEY, OTHER_KEY]


def test_without_any_key_nothing_is_asked(server: Answers, capsys: Capture) -> None:
    assert main(["users", "--url", server.url]) == 1
    assert server.asked == []
    assert "set TWISTED_PUSH_KEY, or give --config FILE" in capsys.readouterr().err


def test_no_option_takes_a_key(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["users", "--key", KEY])
    assert ended.value.code == 2


# --- What can go wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, b"Unauthorized"), "{url} refuses the key (401): no site there has it"),
        (
            (200, b'{"error": {"code": 102, "message": "unknown\\nchannel"}}'),
            "error 102: unknown channel",
        ),
        ((400, b'{"error": {"code": 107, "message": "bad request"}}'), "error 107: bad request"),
        ((503, b""), "{url} cannot do it now (503); try again later"),
        ((404, b"<html>"), "{url} is no push server, or not its backend port (404 Not Found)"),
        ((302, b""), "{url} is no push server, or not its backend port (302 Found)"),
        ((200, b"<html>"), "{url} is no push server, or not its backend port (200 OK)"),
        ((200, b"{}"), "{url} is no push server, or not its backend port (200 OK)"),
        ((200, b"[]"), "{url} is no push server, or not its backend port (200 OK)"),
        ((200, b'{"result": []}'), "{url} gives a result that is no object"),
    ],
)
def test_an_answer_that_is_no_success_is_one_line(
    ask: Callable[..., int],
    server: Answers,
    capsys: Capture,
    reply: tuple[int, bytes],
    message: str,
) -> None:
    server.status, server.answer = reply
    assert ask("info") == 1
    shown = capsys.readouterr()
    assert shown == ("", f"twisted-push: {message.format(url=server.url)}\n")
    assert KEY not in shown.err


def test_a_server_that_is_not_there(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Answers()
    gone.server_close()
    monkeypatch.setenv("TWISTED_PUSH_KEY", KEY)
    assert main(["info", "--url", gone.url]) == 1
    assert capsys.readouterr().err == (
        f"twisted-push: cannot reach {gone.url}: Connection refused\n"
    )


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://localhost", "http://", "http://x:y", "http://[x", "http://x?a=b"],
)
def test_a_url_that_is_none(capsys: Capture, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TWISTED_PUSH_KEY", KEY)
    monkeypatch.setenv("TWISTED_PUSH_URL", "nonsense")
    assert main(["info", "--url", url]) == 1
    assert "URL" in capsys.readouterr().err


def test_credentials_in_a_url_are_not_shown(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWISTED_PUSH_KEY", KEY)
    assert main(["info", "--url", "http://me:s3cr3t@x"]) == 1
    assert "s3cr3t" not in capsys.readouterr().err


@pytest.mark.parametrize("key", ["line\nbreak-and-enough-letters", "€uro-and-enough-letters"])
def test_a_key_that_no_header_can_hold(
    server: Answers, capsys: Capture, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("TWISTED_PUSH_KEY", key)
    assert main(["info", "--url", server.url]) == 1
    assert "cannot be sent" in capsys.readouterr().err
    assert server.asked == []


@pytest.mark.parametrize(
    "arguments", [["broadcast", "\udcff"], ["kick", "\udcff"], ["publish", "\udcff", "1"]]
)
def test_arguments_that_are_not_utf8(
    ask: Callable[..., int], server: Answers, capsys: Capture, arguments: list[str]
) -> None:
    assert ask(*arguments) == 1
    assert capsys.readouterr().err == "twisted-push: only UTF-8 text can be sent\n"
    assert server.asked == []


# --- The server and its file ---------------------------------------------------------------


def test_init_writes_a_file_for_its_owner_alone(capsys: Capture) -> None:
    assert main(["init"]) == 0
    assert stat.S_IMODE(Path("push.toml").stat().st_mode) == 0o600
    assert "push.toml: written" in capsys.readouterr().out
    assert main(["check-config", "push.toml"]) == 0
    assert capsys.readouterr().out == "push.toml: ok\n"


def test_init_never_overwrites(capsys: Capture) -> None:
    Path("mine.toml").write_text("precious", encoding="utf-8")
    assert main(["init", "mine.toml"]) == 1
    assert Path("mine.toml").read_text(encoding="utf-8") == "precious"
    assert capsys.readouterr().err == (
        "twisted-push: mine.toml is there already; it was left as it is\n"
    )


def test_init_where_nothing_can_be_written(capsys: Capture) -> None:
    assert main(["init", "no/such/folder.toml"]) == 1
    assert "No such file or directory" in capsys.readouterr().err


def test_init_prints(capsys: Capture) -> None:
    assert main(["init", "-"]) == 0
    assert list(read_config(config_file(capsys.readouterr().out)).sites) == ["default"]
    assert os.listdir() == ["push.toml"]


def test_check_config_reports_all_faults(capsys: Capture) -> None:
    path = config_file('log_level = "loud"\n[sites.default.callback]\ntimeuot = "5s"')
    assert main(["check-config", path]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "log_level: 'loud' is not valid; must be debug | info | warn | error | critical",
        "sites.default.callback.timeuot: unknown key; did you mean timeout?",
        "sites.default.key: needed; `twisted-push init` writes a file with a good one",
    ]


def test_check_config_of_a_file_that_is_not_there(capsys: Capture) -> None:
    assert main(["check-config", "nowhere.toml"]) == 1
    assert capsys.readouterr().err == ("nowhere.toml: cannot be read: No such file or directory\n")


# --- The settings of the old server --------------------------------------------------------

OLD = """settings = {
  port: 9000,
  serviceKey: 'the-service-key-of-the-site',
  backend: {host: 'cms', httpAuth: 'user:s3cr3t'},
  extensions: ['a.js'],
};
"""


def old_file(text: str | bytes = OLD) -> str:
    Path("nodejs.config.js").write_bytes(text.encode() if isinstance(text, str) else text)
    return "nodejs.config.js"


def test_settings_of_the_old_server_are_imported(capsys: Capture) -> None:
    assert main(["import-nodejs-config", old_file()]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "push.toml.basic-auth: written",
        "push.toml: written",
        "check it, then start with: twisted-push serve --config push.toml",
    ]
    notes = shown.err.splitlines()
    assert all(line.startswith("note: ") for line in notes)
    assert notes[-1].startswith("note: line 5, column 16: extensions.0: ")
    assert "s3cr3t" not in shown.out + shown.err
    for name in ("push.toml", "push.toml.basic-auth"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
    assert main(["check-config", "push.toml"]) == 0
    config = read_config("push.toml")
    assert config.listen == ("tcp:9000:interface=127.0.0.1",)
    callback = config.sites["default"].callback
    assert callback is not None
    assert (callback.url, callback.basic_auth) == ("http://cms/nodejs/message", ("user", "s3cr3t"))


def test_imported_settings_may_go_elsewhere(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    assert main(["import-nodejs-config", old_file(), "--output", "etc/site.toml"]) == 0
    assert sorted(os.listdir("etc")) == ["site.toml", "site.toml.basic-auth"]
    callback = read_config("etc/site.toml").sites["default"].callback
    assert callback is not None
    assert callback.basic_auth == ("user", "s3cr3t")


def test_imported_settings_are_printed(capsys: Capture) -> None:
    assert main(["import-nodejs-config", old_file(), "--output", "-"]) == 0
    shown = capsys.readouterr()
    assert os.listdir() == ["nodejs.config.js"]
    assert "backend.httpAuth: put it into a file of its own" in shown.err
    assert "s3cr3t" not in shown.out + shown.err
    assert list(read_config(config_file(shown.out)).sites) == ["default"]


@pytest.mark.parametrize("name", ["push.toml", "push.toml.basic-auth"])
def test_an_import_never_overwrites_and_leaves_nothing_half_done(
    capsys: Capture, name: str
) -> None:
    Path(name).write_text("precious", encoding="utf-8")
    assert main(["import-nodejs-config", old_file()]) == 1
    assert sorted(os.listdir()) == ["nodejs.config.js", name]
    assert Path(name).read_text(encoding="utf-8") == "precious"
    assert capsys.readouterr() == (
        "",
        f"twisted-push: {name} is there already; it was left as it is\n",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"settings = {\n a: 1 b: 2}", "line 2, column 7: a comma or a closing bracket is missing"),
        (b"", "line 1, column 1: there is no `settings = {"),
        (b"\xff", "cannot be read: it is not UTF-8 text"),
        (b" " * (2**20 + 1), "it is larger than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(
    capsys: Capture, content: bytes, message: str
) -> None:
    assert main(["import-nodejs-config", old_file(content)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith(f"twisted-push: nodejs.config.js: {message}")
    assert os.listdir() == ["nodejs.config.js"]


def test_an_import_of_no_file(capsys: Capture) -> None:
    assert main(["import-nodejs-config", "nowhere.js"]) == 1
    assert capsys.readouterr().err == (
        "twisted-push: nowhere.js: cannot be read: No such file or directory\n"
    )


# --- Serving -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "passed_on"),
    [
        (["serve"], []),
        (["serve", "--demo"], ["--demo"]),
        (
            ["serve", "--config", "a.toml", "--listen", "tcp:1", "--listen", "tcp:2"],
            ["--config", "a.toml", "--listen", "tcp:1", "--listen", "tcp:2"],
        ),
    ],
)
def test_serve_becomes_twistd(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], passed_on: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWISTED_PUSH_SITES__DEFAULT__KEY", "0123456789abcdef")
    (tmp_path / "a.toml").touch()
    seen: list[list[str]] = []
    monkeypatch.setattr(twistd, "run", lambda: seen.append(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["twisted-push", *arguments])
    assert main() == 0
    assert seen == [["--nodaemon", "--pidfile=", "push", *passed_on]]


def test_serve_tells_faults_of_its_file_plainly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.setattr(twistd, "run", lambda: pytest.fail("it must not start"))
    path = tmp_path / "push.toml"
    path.write_text("x", encoding="utf-8")
    assert main(["serve", "--config", str(path)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: ")


def test_version_and_missing_command(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("twisted-push ")
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2


def test_a_reader_that_leaves_gets_no_traceback(server: Answers) -> None:
    """As in ``twisted-push users | head -1``, with a table that no pipe can hold."""
    server.result({"users": {f"user-{number}": {"num_clients": 1} for number in range(50_000)}})
    environ = os.environ | {"TWISTED_PUSH_KEY": KEY, "TWISTED_PUSH_URL": server.url}
    code = "import sys; from twisted_push.cli import main; sys.exit(main(['users']))"
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=root,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().split() == [b"USER", b"CLIENTS"]
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def test_the_command_line_needs_no_reactor() -> None:
    code = (
        "import sys; import twisted_push.cli\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)
