"""Plain TCP, fast and lean: what costs little is done here, the rest by Autobahn and twisted.web.

It leans on private parts of Twisted and Autobahn, each named where it is used. When
the server starts, `check` tries them; with versions that differ, the plain path serves:
`twisted_push.transports.websocket` on twisted.web, which needs none of them. So it does on TLS, on
Unix sockets and behind HAProxy, and where ``fast_path`` is off.

Whoever serves asks `find_fast_path`, and imports nothing else from here.
"""

from twisted_push.transports.fast.find import find_fast_path

__all__ = ["find_fast_path"]
