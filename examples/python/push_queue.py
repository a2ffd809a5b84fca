"""A WSGI middleware that sends what a request published when the request has ended well.

    application = PushQueue(application, PushApi("http://127.0.0.1:8080", key))

and anywhere in the code that serves a request:

    enqueue("article:1", {"title": "Hello"})

All publications of a request go in one batch, after the last byte of the answer, so no visitor
waits for the push server. If the view raises, or answers with an error (a status from 400 on), none
is sent. It needs no framework: Django, Flask, Pyramid and plain WSGI are all the same to it.
Standard library alone: copy this file and ``push_api.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from push_api import Publication, PushApi

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["PushQueue", "enqueue"]

MAX_WAITING = 1000
"""Publications of one request; more are an error in the view."""

_current: ContextVar[_Request | None] = ContextVar("push_queue", default=None)


def enqueue(channel: str, data: Any) -> None:
    """Send ``data`` to ``channel`` when this request has ended well.

    Raises RuntimeError outside of a request (use ``PushApi.publish`` there) and for more than
    MAX_WAITING; TypeError or ValueError for data that JSON cannot say.
    """
    request = _current.get()
    if request is None:
        raise RuntimeError("enqueue: no request is served by PushQueue here")
    if len(request.waiting) >= MAX_WAITING:
        raise RuntimeError(f"enqueue: more than {MAX_WAITING} publications in one request")
    request.waiting.append(Publication(channel, data))


class PushQueue:
    """The middleware: a WSGI application around another one."""

    def __init__(self, application: WSGIApplication, push: PushApi) -> None:
        self._application = application
        self._push = push

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = _Request(self._push, start_response)
        request.begin(self._application, environ)
        return request


class _Request:
    """One request: the answer's parts on their way to the server, and what waits to be sent.

    A WSGI server iterates over it and then calls ``close``, also when the visitor has hung up: by
    then the view's work is done, so that is no reason to send nothing.
    """

    def __init__(self, push: PushApi, start_response: StartResponse) -> None:
        self.waiting: list[Publication] = []
        self._push = push
        self._start_response = start_response
        self._failed = True  # Until a good answer has begun.
        self._parts: Iterable[bytes] = ()

    def begin(self, application: WSGIApplication, environ: WSGIEnvironment) -> None:
        """Call the application."""
        _current.set(self)
        try:
            self._parts = application(environ, self._start)
        except BaseException:
            _current.set(None)
            raise

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        # The last word counts: an application may begin anew with an error page.
        self._failed = not status.startswith(("2", "3"))
        return self._start_response(status, headers, exc_info)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._parts
        except Exception:
            self._failed = True
            raise

    def close(self) -> None:
        """End the request, and send what waits if it has ended well."""
        try:
            close = getattr(self._parts, "close", None)
            if close is not None:
                close()
        except Exception:
            self._failed = True
            raise
        finally:
            _current.set(None)
            if not self._failed:
                self._push.send(self.waiting)
