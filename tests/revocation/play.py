"""One random interleaving: pages, the CMS's answers, publications and revocations."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.revocation.judge import Cut, Gift, Judge, Violation
from tests.revocation.site import NativePage, NodejsPage, Page, Question, Site
from tests.unit.node.support import sign
from twisted_push.backend.calls import Call
from twisted_push.backend.calls import Site as RoutesSite
from twisted_push.backend.methods import Methods
from twisted_push.backend.nodejs import ROUTES
from twisted_push.errors import EngineUnavailable, Refused
from twisted_push.model import ServiceKey

__all__ = ["Play"]

SIGNED = [sign(sub="1", channels=["news:g", "plain"], n=number) for number in (1, 2)]
CHANNELS = ("news:g", "plain", "open:x", "cms:y", "token:z", "page")
CONTENT = tuple(f"content-token-{number}" for number in range(6))
KEY = ServiceKey("key", b"", frozenset({"publish", "manage", "read"}))
STEPS = 60

HELD = {"grant_put", "grant_forget", "revoke_token", "revoke_user", "overlay_set", "since"}
HELD |= {"history", "content_put", "content_claim", "content_forget", "publish"}
HELD |= {"channel_remove"}
"""What waits for the disk where there is a journal."""
FAR = {"grant_get", "grant_valid", "token_revoked", "overlays", "presence", "subscribe"}
"""What waits, too, where the engine is another process; it answers in any order."""


def _user_of(token: str) -> str:
    """Give the user of a token: ``1-3`` is the fourth token of user 1."""
    return "1" if token in SIGNED else token.partition("-")[0]


def _own(page: Page) -> str:
    return _user_of(page.token)


def _came_by(page: Page, token: str) -> bool:
    """Tell whether it is sure that a page stands on a token: it is told of no other yet."""
    return page.token == token and not page.refreshing


class Play:
    """A site and what happens to it, by the choices of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        random.seed(seed)  # The server's own jitter.
        self.log: list[str] = []
        self.judge = Judge()
        renewal = self.random.choice(["refresh", ""])
        self.site = Site(self.random.choice(["connect", "nodejs"]), self.judge.sent, renewal)
        self.cms = self.site.cms
        self.timeline = self.site.timeline
        self.engine = self.site.engine
        self.pages: list[Page] = []
        self.number = 0
        self.tokens = 3
        self.methods = Methods([self.site.node])
        self._failures: list[Failure] = []
        self.mode = self.random.choice(["memory", "journal", "far"])
        self.expiring = self.random.random() < 0.4
        self._start()

    def _start(self) -> None:
        Deferred.fromCoroutine(self.site.start())
        self.routes = RoutesSite(self.site.node)
        Deferred.fromCoroutine(self.routes.add_channel("plain"))
        for token in CONTENT:
            self._call("content_token", channel="page", token=token)
        for _ in range(self.random.randrange(5)):
            self._open()
        while self.cms.open:
            self._say(self.cms.take(0), "yes")
        if self.mode != "memory":
            self.engine.hold.update(HELD)
        if self.mode == "far":
            self.engine.hold.update(FAR)

    # --- Running -----------------------------------------------------------------------------

    def run(self) -> Judge:
        """Do it all. Raises Violation."""
        steps = [(each, weight) for weight, each in self._steps()]
        names, weights = zip(*steps, strict=True)
        for _ in range(STEPS):
            [step] = self.random.choices(names, weights)
            self.log.append(f"{self.timeline.now}: {step.__name__.strip('_')}")
            step()
            self.site.clock.advance(0.001)
        self._settle()
        before = self.timeline.tick()
        final = {channel: self._publish(channel) for channel in (*CHANNELS, "broadcast")}
        self._settle()
        for page in self.pages:
            self.judge.check_view(page, final, before)
        self._end()
        if self._failures:
            self._failures[0].raiseException()
        if self.judge.violations:
            expiring = ", grants with an end" if self.expiring else ""
            lines = [f"{self.mode}, {self.site.callback_dialect}{expiring}", *self.log]
            raise Violation("\n".join([*lines, *self.judge.violations]))
        return self.judge

    def _steps(self) -> list[tuple[int, Callable[[], None]]]:
        return [
            (12, self._open),
            (3, self._drop),
            (5, self._pause),
            (7, self._resume),
            (14, self._ask_for),
            (2, self._give_back),
            (2, self._look),
            (2, self._refresh),
            (20, self._answer),
            (12, self._publish_some),
            (2, self._kick),
            (3, self._kick_one),
            (2, self._logout),
            (7, self._take),
            (5, self._give),
            (3, self._route),
            (2, self._batch),
            (14 if self.mode != "memory" else 0, self._release),
            (8, self._turn),
        ]

    def _settle(self) -> None:
        """Have everything come to its end that is under way."""
        for page in self.pages:
            page.transport._polled = False
        for _ in range(60):
            self.engine.hold.clear()
            while self.engine.held:
                self.engine.release()
            while self.cms.open:
                self._say(self.cms.take(0), "yes")
            for page in self.pages:
                if page.open:
                    page.session.resume()
            self.site.clock.advance(0.001)
            if not (self.engine.held or self.cms.open):
                break
        self.site.advance(0.5)

    def _end(self) -> None:
        Deferred.fromCoroutine(self.site.end()).addErrback(self._failures.append)

    # --- Pages -------------------------------------------------------------------------------

    def _some_page(self, *kinds: type[Page], connected: bool = True) -> Any:
        found = [
            page
            for page in self.pages
            if page.open
            and isinstance(page, kinds or (Page,))
            and (page.connect_reply is not None or not connected)
        ]
        return self.random.choice(found) if found else None

    def _token(self, user: str | None = None) -> str:
        """Give a token that a page may have; now and then there are new ones, as after a login."""
        self.tokens += self.random.random() < 0.3
        if user is None:
            user = self.random.choice(["1", "1", "1", "2", ""])
        if user == "1" and self.random.random() < 0.2:
            return self.random.choice(SIGNED)
        return f"{user}-{self.random.randrange(self.tokens - 3, self.tokens)}"

    def _open(self) -> None:
        if len([page for page in self.pages if page.open]) >= 8:
            return
        token = self._token()
        polled = self.random.random() < 0.2
        page: Page
        if self.random.random() < 0.6:
            page = NativePage(self.site, token, polled, direct=self.random.random() < 0.5)
        else:
            page = NodejsPage(self.site, token, self.random.choice([4, 5]), polled)
        self.pages.append(page)
        if self.random.random() < 0.1:
            page.session.pause()
        at = self.timeline.tick() if self.site.context.share.free else inf
        self.judge.came(page, at)
        since = {}
        if self.random.random() < 0.5 and "news:g" in self.site.memory._streams.channels:
            epoch = self.site.memory._streams.channels["news:g"].stream.epoch
            since = {"news:g": {"recover": True, "offset": 0, "epoch": epoch}}
        if isinstance(page, NodejsPage) and self.random.random() < 0.5:
            page.with_content({"page": self.random.choice(CONTENT)})
            self.judge.asks(page, "page", at)
        page.connect(since)

    def _drop(self) -> None:
        page = self._some_page(connected=False)
        if page is not None:
            page.leave()

    def _pause(self) -> None:
        page = self._some_page(connected=False)
        if page is not None:
            page.session.pause()

    def _resume(self) -> None:
        page = self._some_page(connected=False)
        if page is not None:
            page.session.resume()

    def _ask_for(self) -> None:
        page = self._some_page()
        if page is None:
            return
        # Behind another command it is taken up later, as if it were asked then.
        waits = page.session.work is not None or not self.site.context.share.free
        at = inf if waits else self.timeline.tick()
        if isinstance(page, NodejsPage):
            self.judge.asks(page, "page", at)
            page.subscribe("page", self.random.choice(CONTENT))
            return
        channel = self.random.choice(["news:g", "open:x", "cms:y", "token:z", "page"])
        token = ""
        if channel == "token:z":
            token = sign(sub=_own(page), channel=channel)
        elif channel == "page":
            token = self.random.choice(CONTENT)
        self.judge.asks(page, channel, at, len(page.asked) + 1)
        page.subscribe(channel, token)
        if self.random.random() < 0.3:  # While it is being asked about, if it is.
            whom = {"client": page.session.client}
            cut = self._cut(f"{channel} taken from {whom}", lambda p: p is page, channel=channel)
            self._call("unsubscribe", cut, channel=channel, **whom)

    def _give_back(self) -> None:
        page = self._some_page(NativePage)
        if page is not None:
            page.send("unsubscribe", channel=self.random.choice(CHANNELS[2:]))

    def _look(self) -> None:
        page = self._some_page(NativePage)
        if page is not None:
            method = self.random.choice(["history", "presence", "presence_stats"])
            page.send(method, channel="news:g", **({"limit": -1} if method == "history" else {}))

    def _refresh(self) -> None:
        page = self._some_page(NativePage)
        if page is not None:
            page.refreshing += 1
            page.send("refresh", token=self._token(_own(page)))

    # --- The CMS answers ---------------------------------------------------------------------

    def _answer(self) -> None:
        if self.cms.open:
            question = self.cms.take(self.random.randrange(len(self.cms.open)))
            said = self.random.choices(["yes", "no", "away", "down"], [20, 1, 1, 1])[0]
            self._say(question, said)

    def _say(self, question: Question, said: str) -> None:
        if said == "down":
            question.answer({}, 503)
        elif self.site.callback_dialect == "nodejs":
            self._say_as_drupal(question, said)
        elif said == "away":
            question.answer({"disconnect": {"code": 4501, "reason": "go away"}})
        elif said == "no":
            question.answer({"error": {"code": 1000, "message": "no"}})
        elif question.path == "subscribe":
            question.answer({"result": {}})
        else:
            user = _user_of(question.said["token"])
            whole: dict[str, Any] = {
                "user": user,
                "channels": [f"q:{question.number}", "news:g", "plain"],
            }
            if question.path == "refresh" and self.random.random() < 0.5:
                whole = {}  # All is as it was.
            if self.expiring:
                end = int(self.site.clock.seconds()) + self.random.randrange(2, 9)
                whole["expire_at"] = end
            question.answer({"result": whole})

    def _say_as_drupal(self, question: Question, said: str) -> None:
        token = question.said["authToken"]
        channels = ["news:g", "plain", f"q:{question.number}"]
        question.answer(
            {
                "uid": _user_of(token) or 0,
                "authToken": token,
                "nodejsValidAuthToken": said == "yes",
                "channels": channels,
                "presenceUids": [],
                "contentTokens": [],
            }
        )

    # --- The CMS acts ------------------------------------------------------------------------

    def _call(self, method: str, what: Cut | Gift | None = None, **request: Any) -> None:
        """Call a method; what it does is done when it is answered."""
        body = json.dumps(request).encode()
        doing = self.methods.run(self.site.node, KEY, method, body)
        self._do(Deferred.fromCoroutine(doing), what)

    def _do(self, doing: Deferred[Any], what: Cut | Gift | None) -> None:
        def done(result: Any) -> None:
            if isinstance(what, Gift):
                what.at = self.timeline.tick()
            elif what is not None and result.get("status") != "failed":
                what.answered = self.timeline.tick()
                self.judge.counts["cuts"] += 1
                self.log.append(f"{what.answered}: answered: {what.name}")

        def failed(failure: Failure) -> None:
            if not failure.check(Refused, EngineUnavailable):
                self._failures.append(failure)

        doing.addCallbacks(done, failed)

    def _cut(self, name: str, means: Callable[[Page], bool], **options: Any) -> Cut:
        cut = Cut(name, means, begun=self.timeline.tick(), **options)
        self.judge.cuts.append(cut)
        self.log[-1] += f" ({name})"
        return cut

    def _publish_some(self) -> None:
        for _ in range(self.random.choice([1, 1, 1, 3])):
            self._publish(self.random.choice((*CHANNELS, "news:g", "plain", "broadcast", "user:1")))

    def _publish(self, channel: str) -> int:
        self.number += 1
        self._call("publish", channel=channel, data=self.number)
        return self.number

    def _kick(self) -> None:
        user = self.random.choice(["1", "2"])
        spared = {p.session.client for p in self.pages if self.random.random() < 0.15}
        cut = self._cut(
            f"kick {user}, not {spared}",
            lambda page: _own(page) == user and page.session.client not in spared,
            entry=True,
        )
        self._call("disconnect", cut, user=user, whitelist=sorted(spared))

    def _kick_one(self) -> None:
        page = self._some_page(connected=False)
        if page is None:
            return
        cut = self._cut(f"kick client {page.session.client}", lambda p: p is page, final=True)
        how = self.random.choice(["client", "session"])
        name = page.session.client if how == "client" else page.session.secret
        self._call("disconnect", cut, **{how: name})

    def _logout(self) -> None:
        if self.random.random() < 0.5:
            token = self._token()
            cut = self._cut(f"logout of {token}", lambda page: _came_by(page, token), final=True)
            self._call("logout", cut, token=token)
        else:
            user = self.random.choice(["1", "2"])
            cut = self._cut(f"logout of all of {user}", lambda page: _own(page) == user)
            self._call("logout", cut, user=user)

    def _whom(self) -> tuple[dict[str, str], Callable[[Page], bool]]:
        """Give a user, a client or a session: for a request, and which pages those are."""
        page = self._some_page(connected=False)
        how = self.random.choice(["user", "user", "client", "session"])
        if how == "user" or page is None:
            user = self.random.choice(["1", "2"])
            return {"user": user}, lambda p: _own(p) == user
        name = page.session.client if how == "client" else page.session.secret
        return {how: name}, lambda p: p is page

    def _take(self) -> None:
        whom, means = self._whom()
        channel = self.random.choice(CHANNELS)
        cut = self._cut(f"{channel} taken from {whom}", means, channel=channel)
        self._call("unsubscribe", cut, channel=channel, **whom)

    def _give(self) -> None:
        whom, means = self._whom()
        channel = self.random.choice(CHANNELS)
        gift = self.judge.gives(means, channel)
        since = {"recover_since": {"offset": 0, "epoch": ""}} if channel == "news:g" else {}
        self._call("subscribe", gift, channel=channel, **whom, **since)

    def _batch(self) -> None:
        whom, means = self._whom()
        cut = self._cut(f"plain taken from {whom} in a batch", means, channel="plain")
        publish = {"publish": {"channel": "plain", "data": -1}}
        commands = [publish, {"unsubscribe": {"channel": "plain", **whom}}, publish]
        self._call("batch", cut, commands=commands)

    def _route(self) -> None:
        """Use one of the routes of Drupal's module."""
        name = self.random.choice(["kick", "logout", "user", "token", "channel"])
        token = self._token()
        uid = _user_of(token) or "0"
        if name == "kick":
            cut = self._cut(f"kick {uid}", lambda p: (_own(p) or "0") == uid, entry=True)
            self._call_route("user/kick", cut, uid)
        elif name == "logout":
            cut = self._cut(f"logout of {token}", lambda p: _came_by(p, token), final=True)
            self._call_route("user/logout", cut, token)
        elif name == "user" and uid != "0":
            means = lambda p: (_own(p) or "0") == uid  # noqa: E731
            cut = self._cut(f"plain taken from user {uid}", means, channel="plain")
            self._call_route("user/channel/remove", cut, "plain", uid)
        elif name == "token":
            means = lambda p: (  # noqa: E731
                p.tokens == {token} and _came_by(p, token) and token not in SIGNED
            )
            cut = self._cut(f"plain taken of {token}", means, channel="plain", of_token=True)
            self._call_route("authtoken/channel/remove", cut, "plain", token)
        else:
            here = {p for p in self.pages if p.connect_reply is not None}
            cut = self._cut("plain removed", here.__contains__, channel="plain")
            Deferred.fromCoroutine(self.routes.add_channel("plain"))
            self._call_route("channel/remove", cut, "plain")

    def _call_route(self, name: str, cut: Cut, *params: str) -> None:
        call = Call(self.routes, params, b"{}", True)

        async def run() -> Any:
            return await ROUTES[tuple(name.split("/"))].run(call)

        self._do(Deferred.fromCoroutine(run()), cut)

    # --- Time --------------------------------------------------------------------------------

    def _release(self) -> None:
        """Have the engine answer: a journal the oldest call, another process any."""
        held = self.engine.held
        if held:
            index = self.random.randrange(len(held)) if self.mode == "far" else 0
            held.pop(index).release()

    def _turn(self) -> None:
        self.site.clock.advance(self.random.choice([0.0, 0.001, 0.25, 1.0]))
