"""The demo CMS as a web site: which address does what, and what every answer carries.

A newcomer can read the package in this order: this module, then ``cms`` (what each address does),
``callback`` (what the push server asks), ``api`` (what the push server is told), ``desk`` (what
they share), ``state`` and ``chat`` (what there is to know).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request
from twisted.web.iweb import IAgent
from twisted.web.server import Site

from twisted_push.demo.api import PushApi
from twisted_push.demo.callback import CALLBACK_PATH, RPC_PATH, Callbacks
from twisted_push.demo.cms import DemoCms
from twisted_push.demo.desk import Desk
from twisted_push.demo.endpoint import (
    LOOPBACK_NAMES,
    Answer,
    DemoRequest,
    HttpError,
    Incoming,
    Route,
    Router,
    View,
)
from twisted_push.demo.pages import Pages, PushAddress
from twisted_push.demo.state import FIRST_ARTICLE, STRANGER, Sessions

__all__ = ["CALLBACK_PATH", "make_demo_site"]

IDLE_TIMEOUT = 60.0
"""Seconds after which a silent HTTP connection is closed."""

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class DemoSite(Site):
    """A site without an access log: open pages ask often, and would bury what matters."""

    noisy = False

    def __init__(self, router: Router, clock: IReactorTime) -> None:
        super().__init__(
            router,
            requestFactory=DemoRequest,
            parsePOSTFormSubmission=False,
            reactor=clock,
            timeout=IDLE_TIMEOUT,
        )

    def log(self, request: Request) -> None:
        """Write nothing."""


def make_demo_site(
    *,
    api_url: Callable[[], str],
    api_key: str,
    push_url: Callable[[], str],
    agent: IAgent,
    clock: IReactorTime,
    host_names: tuple[str, ...] = LOOPBACK_NAMES,
) -> Site:
    """Build the demo CMS.

    Both addresses are asked for when they are needed, so that the ports may be known only after
    this site was made.

    :param api_url: returns the push server's API, like ``http://127.0.0.1:8080/api``.
    :param api_key: the service key for it.
    :param push_url: returns the push server as browsers see it, like ``http://127.0.0.1:8080``.
    :param agent: makes the requests to the API.
    :param clock: the reactor; its ``seconds()`` are those of the epoch.
    :param host_names: the Host names (without port) under which pages are served.
    """

    def push_address() -> PushAddress:
        return PushAddress(push_url())

    pages = Pages(push_address)
    desk = Desk(
        api=PushApi(agent=agent, clock=clock, url=api_url, key=api_key),
        clock=clock,
        sessions=Sessions(),
    )
    cms = DemoCms(
        desk=desk,
        pages=pages,
        article=attrs.evolve(FIRST_ARTICLE, saved_at=round(clock.seconds(), 3)),
    )
    router = Router(
        {**_routes(cms), **_static_routes()},
        on_error=lambda error, incoming: _error_answer(pages, desk, error, incoming),
        common_headers=lambda: _common_headers(push_address()),
        host_names=host_names,
    )
    return DemoSite(router, clock)


def _routes(cms: DemoCms) -> dict[str, Route]:
    callbacks = Callbacks(cms.desk)
    return {
        "/": Route({"GET": cms.home}),
        "/login": Route({"POST": cms.login}),
        "/logout": Route({"POST": cms.logout}),
        "/article": Route({"POST": cms.save}),
        "/article.json": Route({"GET": cms.article_json}),
        "/chat": Route({"POST": cms.say}),
        "/chat.json": Route({"GET": cms.chat_json}),
        "/message": Route({"POST": cms.message}),
        "/people": Route({"GET": cms.people}),
        "/people.json": Route({"GET": cms.people_json}),
        "/log": Route({"GET": cms.log}),
        "/log.json": Route({"GET": cms.log_json}),
        "/kick": Route({"POST": cms.kick}),
        CALLBACK_PATH: Route({"POST": callbacks.connect}, any_host=True),
        RPC_PATH: Route({"POST": callbacks.rpc}, any_host=True),
    }


def _static_routes() -> dict[str, Route]:
    """Read the scripts, styles and pictures into memory, once."""
    routes = {}
    for entry in (files("twisted_push.demo") / "static").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in _CONTENT_TYPES:
            view = _static_view(entry.read_bytes(), _CONTENT_TYPES[suffix])
            routes[f"/static/{entry.name}"] = Route({"GET": view})
    return routes


def _static_view(body: bytes, content_type: str) -> View:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = (("ETag", tag), ("Cache-Control", "no-cache"))

    async def view(incoming: Incoming) -> Answer:
        if tag in incoming.headers.get("if-none-match", ()):
            return Answer(status=304, headers=headers)
        return Answer(body=body, content_type=content_type, headers=headers)

    return view


def _error_answer(pages: Pages, desk: Desk, error: HttpError, incoming: Incoming) -> Answer:
    if error.status == 403 and incoming.method == "POST":
        session = desk.session(incoming)
        who = session.user.name if session is not None else STRANGER
        desk.note("warning", "access", who, f"was refused at {incoming.path}: {error.message}")
    if incoming.wants_json or incoming.path in (CALLBACK_PATH, RPC_PATH):
        notice = {"level": "bad", "text": error.message}
        return Answer.json({"notice": notice}, status=error.status)
    return Answer(status=error.status, body=pages.error(error.status, error.message))


def _common_headers(push: PushAddress) -> tuple[tuple[str, str], ...]:
    """Return what every answer carries.

    ``Referrer-Policy`` is not ``no-referrer``, because browsers then send ``Origin: null`` with
    our own forms.
    """
    policy = (
        "default-src 'self'",
        f"script-src 'self' {push.script}",
        f"connect-src 'self' {' '.join(push.origins)}",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
    return (
        ("Content-Security-Policy", "; ".join(policy)),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    )
