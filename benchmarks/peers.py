"""Those that the server is compared with: other servers, and one send(2) in C for each client.

Each is a process on the server's core that gives what it is told to all its clients. Who is not
installed is named, and left out.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.c_programs import compiler, program
from twisted_push.bench import process
from twisted_push.bench.crowds import HELLO, READY
from twisted_push.bench.process import SERVER_CORE, BenchError, Child
from twisted_push.bench.publisher import Publisher, message
from twisted_push.bench.server import CHANNEL, Server, free_port

__all__ = [
    "FLOOR",
    "NODE",
    "PYTHON_FLOOR",
    "Floor",
    "Ours",
    "Peer",
    "missing",
    "present",
    "running_peer",
]

FLOOR = "C send(2)"
PYTHON_FLOOR = "Python send()"
"""The same loop in Python: what a server in Python cannot do without."""
NODE = {"ws": "ws", "Socket.IO": "socketio", "uWebSockets.js": "uws"}
"""The peers on Node.js, and their programs."""
NCHAN = "Nchan"

_FOLDER = Path(__file__).parent / "peers"
_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules")
_SYSTEM = ("/usr/sbin", "/usr/local/sbin")
"""Where servers are that an ordinary user's PATH does not have on Debian."""
_INSTALL = "run `make bench-peers`"


class Peer(Protocol):
    """One that takes part in a fan-out."""

    url: str
    """Where its clients connect."""
    hello: str
    ready: str

    def cpu(self) -> int:
        """Give the CPU time that it has used, in ns."""

    def memory(self) -> int:
        """Give its resident memory in KiB, without garbage."""

    def settle(self) -> None:
        """Wait until it does next to nothing."""

    def publish(self, size: int, burst: int) -> int | None:
        """Give messages to all clients.

        Gives the CPU time that this took, in ns, if it is known already.
        """


class Ours:
    """Our server."""

    hello = HELLO
    ready = READY

    def __init__(self, server: Server) -> None:
        self.url = f"ws://127.0.0.1:{server.port}/connection/websocket"
        self.cpu = server.cpu
        self.memory = server.memory
        self.settle = server.settle
        self._publisher = Publisher(f"http://127.0.0.1:{server.api_port}", server.key)

    def publish(self, size: int, burst: int) -> int | None:
        """Publish through the API."""
        self._publisher.publish(CHANNEL, size, burst)
        return None


class _Http:
    """A peer that is told over HTTP."""

    def __init__(
        self, pid: int, port: int, *, path: str = "/", hello: str = "", ready: str = ""
    ) -> None:
        self.url = f"ws://127.0.0.1:{port}{path}"
        self.hello = hello
        self.ready = ready
        self._pid = pid
        self._collects = path != "/sub"
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def cpu(self) -> int:
        return process.cpu(self._pid)

    def memory(self) -> int:
        if self._collects:
            self._post("/gc", b"")
        return process.memory(self._pid)

    def settle(self) -> None:
        process.settle(self._pid)

    def publish(self, size: int, burst: int) -> int | None:
        text = json.dumps(message(size, time.monotonic_ns()), separators=(",", ":"))
        for _ in range(burst):
            self._post("/publish", text.encode())
        return None

    def _post(self, path: str, body: bytes) -> None:
        self._connection.request("POST", path, body)
        response = self._connection.getresponse()
        response.read()
        # Each of them has a patience of its own with those who keep a connection.
        self._connection.close()
        if response.status >= 300:
            raise BenchError(f"a peer answers {response.status}")


class Floor:
    """One send to each connection, in C or Python; what else it does is not counted."""

    hello = ready = ""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.url = f"ws://127.0.0.1:{child.hear()}/"
        self.cpu = child.cpu
        self.memory = child.memory
        self.settle = child.settle

    def publish(self, size: int, burst: int) -> int | None:
        """Send as many frames in one send as there are messages."""
        text = json.dumps(message(size, time.monotonic_ns()), separators=(",", ":"))
        used: int = self._child.ask(f"{burst} {text}")
        return used


def present() -> list[str]:
    """Give those that can take part."""
    return [name for name in (FLOOR, PYTHON_FLOOR, *NODE, NCHAN) if name not in missing()]


def missing() -> dict[str, str]:
    """Give those that are not installed, and what to do about it."""
    found = {}
    if compiler() is None:
        found[FLOOR] = "there is no C compiler (cc)"
    for name, script in NODE.items():
        package = re.search(r'from "(?!\.|node:)(.+)"', (_FOLDER / f"{script}.mjs").read_text())
        if shutil.which("node") is None:
            found[name] = "there is no Node.js (node)"
        elif package and not (_FOLDER / "node_modules" / package[1]).is_dir():
            found[name] = f"{package[1]} is not installed: {_INSTALL}"
    if _nginx() is None or _nchan() is None:
        found[NCHAN] = "install nginx with its module Nchan (Debian: libnginx-mod-nchan)"
    return found


def _nginx() -> str | None:
    folders = (os.environ.get("PATH", os.defpath), *_SYSTEM)
    return shutil.which("nginx", path=os.pathsep.join(folders))


def _nchan() -> str | None:
    modules = (Path(folder, "ngx_nchan_module.so") for folder in _MODULES)
    return next((str(module) for module in modules if module.exists()), None)


@contextlib.contextmanager
def running_peer(name: str) -> Iterator[Peer]:
    """Run a peer that is not missing."""
    if name == FLOOR:
        with Child([program("floor")], SERVER_CORE) as child:
            yield Floor(child)
    elif name == PYTHON_FLOOR:
        with Child([sys.executable, "-m", "benchmarks.floor", "fan"], SERVER_CORE) as child:
            yield Floor(child)
    elif name == NCHAN:
        with _running_nchan() as nchan:
            yield nchan
    else:
        command = ["node", "--expose-gc", str(_FOLDER / f"{NODE[name]}.mjs")]
        with Child(command, SERVER_CORE) as child:
            if name == "Socket.IO":
                path = "/socket.io/?EIO=4&transport=websocket"
                yield _Http(child.pid, child.hear(), path=path, hello="40", ready="40{")
            else:
                yield _Http(child.pid, child.hear())


@contextlib.contextmanager
def _running_nchan() -> Iterator[Peer]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="benchmark-nchan-") as folder:
        os.chmod(folder, 0o755)
        text = (_FOLDER / "nginx.conf").read_text("utf-8")
        config = Path(folder, "nginx.conf")
        config.write_text(text.format(module=_nchan(), folder=folder, port=port), "utf-8")
        command = [_nginx() or "nginx", "-p", folder, "-c", str(config)]
        with Child(command, SERVER_CORE, talks=False) as child:
            yield _Http(_worker(child), port, path="/sub")


def _worker(master: Child) -> int:
    """Give the process of nginx's worker, when it is there."""
    deadline = time.monotonic() + process.PATIENCE
    while time.monotonic() < deadline:
        master.check()
        children = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text("ascii")
        if children:
            return int(children.split()[0])
        time.sleep(0.05)
    raise BenchError(f"nginx has no worker: {master.last_words()}")
