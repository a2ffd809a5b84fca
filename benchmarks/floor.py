"""What the kernel costs: bare sockets in Python that do what the server does, and nothing else.

``python -m benchmarks.floor KIND`` prints its port; it ends with its standard input. KIND:

fan        upgrades; every line of its input is a number and a text: it sends the text to all
           connections, as so many frames in one send, and prints the CPU time in ns that the loop
           of sends took
websocket  answers the first thing that a connection says with an upgrade, the next with a
           connect reply; both always the same bytes
http       answers everything with the same HTTP response
"""

from __future__ import annotations

import select
import socket
import sys
import time

from twisted_push.bench.frames import plain

_UPGRADE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
_CONNECTED = plain(
    b'{"id":1,"connect":{"client":"00000000-0000-4000-8000-000000000000","version":"0.1.0",'
    b'"subs":{"broadcast":{}},"ping":25,"pong":true}}'
)
_PUBLISHED = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"result":{}}'
)
_ANSWERS = {"fan": (_UPGRADE,), "websocket": (_UPGRADE, _CONNECTED), "http": (_PUBLISHED,)}


def _fan(connections: list[socket.socket]) -> bool:
    """Send a line of the input to all; give whether there was one."""
    line = sys.stdin.buffer.readline()
    if line:
        times, _, text = line[:-1].partition(b" ")
        frame = plain(text) * int(times)
        before = time.process_time_ns()
        for each in connections:
            each.send(frame)
        print(time.process_time_ns() - before, flush=True)
    return bool(line)


def main(kind: str) -> None:
    """Serve until the input ends."""
    answers = _ANSWERS[kind]
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    steps: dict[int, int] = {}
    while True:
        for number, _ in poll.poll(-1, 4096):
            if number == listener.fileno():
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[accepted.fileno()] = accepted
                steps[accepted.fileno()] = 0
                poll.register(accepted, select.EPOLLIN)
            elif number == sys.stdin.fileno():
                if not _fan(list(connections.values())):
                    return
            elif connections[number].recv(65536):
                connections[number].send(answers[min(steps[number], len(answers) - 1)])
                steps[number] += 1
            else:
                poll.unregister(number)
                connections.pop(number).close()


if __name__ == "__main__":
    main(sys.argv[1])
