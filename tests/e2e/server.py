"""The real server as a process on loopback, and what a test wants to do with it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import jwt

ROOT = Path(__file__).resolve().parents[2]
KEY = "an-api-key-of-the-e2e-tests"
TOKEN_SECRET = "a-token-secret-of-the-e2e-tests-only"
PATIENCE = 15.0
"""Seconds after which what was to happen counts as not happening."""

SERVE = "import sys; from twisted_push.cli import main; sys.exit(main(sys.argv[1:]))"
TWISTD = "from twisted.scripts.twistd import run; run()"
# Runs the command in its arguments, and has the kernel end it when this process ends. A shell that
# runs the tests in the background has them, and what they run, ignore SIGINT.
_BOUND = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, 9); "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
)

T = TypeVar("T")

_spawner = ThreadPoolExecutor(1)
"""Starts the servers: a process is bound to the thread that starts it, and this one stays."""

DEFAULT_LIMITS = {
    "stale_close_delay": "10s",
    "ping_interval": "25s",
    "shutdown_timeout": "1s",
}
NAMESPACES = """
[[sites.default.namespaces]]
prefix = "chat:"
history_size = 100
history_ttl = "10m"
recover = true
presence = true
join_leave = true
client_subscribe = "anyone"
client_publish = "subscriber"
client_history = true
client_presence = true

[[sites.default.namespaces]]
prefix = "news"
history_size = 10
history_ttl = "10m"
recover = true
presence = true

[[sites.default.namespaces]]
prefix = "latest:"
history_size = 1
history_ttl = "10m"
recover = true
recovery_mode = "cache"
client_subscribe = "anyone"

[[sites.default.namespaces]]
prefix = "open:"
client_subscribe = "anyone"
client_publish = "anyone"

[[sites.default.namespaces]]
prefix = "signed:"
client_subscribe = "token"
"""


class ApiError(Exception):
    """The API answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bound(command: Sequence[str]) -> list[str]:
    """Give the command that runs ``command`` as a process that ends with this one."""
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *command]


def eventually(what: str, probe: Callable[[], T], timeout: float = PATIENCE) -> T:
    """Ask ``probe`` until it gives something true, and give that."""
    end = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)


def in_thread(function: Callable[[], T]) -> T:
    """Call a function in a thread of its own, where no other event loop runs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def jwt_for(user: str, **claims: object) -> str:
    """Sign a connection token, valid for an hour."""
    now = int(time.time())
    payload: dict[str, Any] = {"sub": user, "iat": now, "exp": now + 3600, **claims}
    return jwt.encode(payload, TOKEN_SECRET, algorithm="HS256")


def _toml(value: object) -> str:
    # JSON's texts, numbers, booleans and lists of these are TOML's.
    return json.dumps(value)


def config_text(
    *,
    port: int,
    callback: str = "",
    top: Mapping[str, object] | None = None,
    limits: Mapping[str, object] | None = None,
    site: Mapping[str, object] | None = None,
    callback_options: Mapping[str, object] | None = None,
    namespaces: str = NAMESPACES,
) -> str:
    """Write a configuration; what is given goes over the defaults of these tests."""
    listen = [f"tcp:{port}:interface=127.0.0.1"]
    tables: dict[str, Mapping[str, object]] = {
        "": {"listen": listen, **(top or {})},
        "limits": {**DEFAULT_LIMITS, **(limits or {})},
        "sites.default": {
            "key": KEY,
            "token_secret": TOKEN_SECRET,
            "allowed_origins": ["https://www.example.org"],
            **(site or {}),
        },
    }
    if callback:
        tables["sites.default.callback"] = {
            "url": callback,
            "dialect": "connect",
            "timeout": "5s",
            **(callback_options or {}),
        }
    parts = []
    for name, values in tables.items():
        parts += [f"[{name}]"] if name else []
        parts += [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "\n".join(parts) + "\n" + namespaces


class PushServer:
    """One server: ``start`` it, ask it, ``stop`` it. Its log is kept over restarts.

    ``command`` makes the command line of the server from the name of its configuration file.
    """

    def __init__(
        self,
        folder: Path,
        config: str,
        port: int,
        *,
        command: Callable[[str], Sequence[str]] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = port
        self.config_path = folder / "push.toml"
        self.log_path = folder / "server.log"
        self.write_config(config)
        self.log_path.touch()
        self._command = command or serve_command
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None

    # -- Life -------------------------------------------------------------------------------

    def write_config(self, config: str) -> None:
        """Put another configuration in place, for the next start or SIGHUP."""
        self.config_path.write_text(config, "utf-8")

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process, and wait for nothing."""
        assert self._process is None
        with self.log_path.open("ab") as log:
            self._process = _spawner.submit(
                subprocess.Popen[bytes],
                bound(self._command(str(self.config_path))),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment(**self._environ),
            ).result()
        return self._process

    def start(self) -> Self:
        """Start the process and wait until it is ready."""
        process = self.launch()

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the server ended with {process.returncode}:\n{self.log}")
            return self.get("/ready")[0] == 200

        try:
            eventually("the server is ready", ready)
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.log}") from None
        return self

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end of the process; give its return code."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self._process = None
        return code

    def stop(self) -> None:
        """Ask the process to end; it must do so soon and cleanly."""
        self.signal(signal.SIGTERM)
        try:
            code = self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server does not end:\n{self.log}") from None
        assert code in (0, 143, -signal.SIGTERM), f"ended with {code}:\n{self.log}"
        assert "Traceback" not in self.log, self.log

    def restart(self) -> None:
        """Stop and start again, on the same port."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End the process at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, *numbers: signal.Signals) -> None:
        """Send the process signals."""
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended:\n{self.log}"
        for number in numbers:
            self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        if kind is None and self._process.poll() is None:
            self.stop()
        else:
            self.kill()

    # -- What can be seen of it -------------------------------------------------------------

    @property
    def log(self) -> str:
        """All that the server has written."""
        return self.log_path.read_text("utf-8", errors="replace")

    def log_mark(self) -> int:
        """Give a place in the log, for `log_since`."""
        return len(self.log)

    def log_since(self, mark: int) -> list[str]:
        """Give the lines that were written since a place in the log."""
        return [line for line in self.log[mark:].splitlines() if line.strip()]

    def memory(self, field: str = "VmHWM") -> int:
        """Give the bytes of memory that the process has (VmRSS) or at most had (VmHWM)."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found
        return int(found[1]) * 1024

    # -- HTTP -------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        """Where WebSocket clients of the native protocol connect."""
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def get(self, path: str) -> tuple[int, str]:
        """Give the status and the body of an address; status 0 if nobody answers."""
        return http("GET", self.url + path)

    def call(self, method: str, params: object, *, key: str = KEY) -> tuple[int, Any]:
        """Give the status and the JSON that an API request is answered with."""
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        body = params if isinstance(params, bytes) else json.dumps(params).encode()
        status, text = http("POST", f"{self.url}/api/{method}", body, headers)
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def api(self, method: str, **params: object) -> Any:
        """Give the result of an API request; raise `ApiError` for an error."""
        status, answer = self.call(method, params)
        if isinstance(answer, dict) and "error" in answer:
            raise ApiError(answer["error"]["code"], answer["error"]["message"])
        assert status == 200, (status, answer)
        assert set(answer) == {"result"}, answer
        return answer["result"]

    def publish(self, channel: str, data: object) -> Any:
        """Publish to a channel; give the API's result."""
        return self.api("publish", channel=channel, data=data)


def serve_command(config: str) -> list[str]:
    """Give the command line of ``twisted-push serve``."""
    return [sys.executable, "-c", SERVE, "serve", "--config", config]


def environment(**more: str) -> dict[str, str]:
    """Give the environment of a process that is to run the code of this tree.

    With PLAIN_PATH in ours, its WebSockets are on the plain path.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TWISTED_PUSH", "NOTIFY_", "LISTEN_", "CREDENTIALS_"))
    }
    path = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH", "")]))
    if "PLAIN_PATH" in inherited:
        more = {"TWISTED_PUSH_FAST_PATH": "false", **more}
    return {**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **more}


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
) -> tuple[int, str]:
    """Make an HTTP request, past every proxy; status 0 if nobody answers."""
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)
    try:
        with _direct.open(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8", "replace")
    except OSError:
        return 0, ""


def make_server(
    folder: Path,
    *,
    callback: str = "",
    command: Callable[[str], Sequence[str]] | None = None,
    environ: Mapping[str, str] | None = None,
    **config: Any,
) -> PushServer:
    """Make a server that is not started yet, on a free port. ``config`` is `config_text`'s."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    text = config_text(port=port, callback=callback, **config)
    return PushServer(folder, text, port, command=command, environ=environ)


@contextmanager
def log_is_quiet(server: PushServer, lines: int = 1) -> Iterator[None]:
    """Check that what happens inside costs at most so many log lines, and no traceback."""
    mark = server.log_mark()
    yield
    written = server.log_since(mark)
    assert not any("Traceback" in line for line in written), "\n".join(written)
    assert len(written) <= lines, "\n".join(written)


class Dialogue:
    """A process that prints JSON objects, one a line, and takes commands likewise."""

    def __init__(self, command: Sequence[str], cwd: Path) -> None:
        self._stderr: list[str] = []
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            bound(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment(),
            encoding="utf-8",
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _read_errors(self, stream: IO[str]) -> None:
        self._stderr.extend(stream)

    def tell(self, **command: object) -> None:
        """Give the process a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Give the process a command, and wait for its outcome: ``done`` or ``failed``."""
        start = len(self.events)
        self.tell(do=do, **arguments)
        return self.wait("done", "failed", after=start, do=do)

    def wait(
        self, *names: str, after: int = 0, timeout: float = PATIENCE, **fields: object
    ) -> dict[str, Any]:
        """Give the first event of a name with these fields, from the event ``after`` on."""

        def fits(event: Mapping[str, object]) -> bool:
            return event["event"] in names and all(
                event.get(name) == value for name, value in fields.items()
            )

        def find() -> dict[str, Any] | None:
            return next((event for event in self.events[after:] if fits(event)), None)

        with self._news:
            self._news.wait_for(lambda: find() or self._ended, timeout)
            found = find()
            if found is not None:
                return found
            events = "\n".join(map(json.dumps, self.events))
            errors = "".join(self._stderr)
            raise AssertionError(f"no {'/'.join(names)} {fields} among:\n{events}\n{errors}")

    def named(self, name: str) -> list[dict[str, Any]]:
        """Give the events of a name so far."""
        with self._news:
            return [event for event in self.events if event["event"] == name]

    def end(self) -> None:
        """End the process, by closing its input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(5)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.end()
