"""A Drupal in memory: it answers ``authenticate``, and keeps a table of who is online."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

from twisted.web.server import Request

from tests.unit.cms.support import MemoryCms

Message = dict[str, Any]

REPORTS = ("userOnline", "userOffline")


class Drupal(MemoryCms):
    """A CMS of the dialect ``nodejs``.

    The token of a user is the uid, with anything behind a dash. ``lists`` has who may see a user.
    While it ``hangs`` it keeps questions open, until `answer_oldest` or the asker gives up. Of the
    users in ``refused`` it takes no report. While it ``fails`` it answers 503, after it did what
    was asked if it is ``late``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[str, list[str]] = {}
        self.online: set[str] = set()
        self.told: list[tuple[str, str]] = []
        self.refused: set[str] = set()
        self.hangs = self.fails = self.late = False
        self.most_at_once = 0
        self._held: dict[Request, Message] = {}

    @property
    def held(self) -> list[Message]:
        """The questions that are open, oldest first."""
        self.agent.flush()
        assert list(self._held) == self._open
        return list(self._held.values())

    def render_POST(self, request: Request) -> bytes | int:
        assert request.content is not None
        [text] = parse_qs(request.content.read().decode())["messageJson"]
        request.content.seek(0)
        message: Message = json.loads(text)
        if self.hangs:
            self.answer = None
            self._hold(request, message)
        else:
            self.answer = self._answer_to(message)
        return super().render_POST(request)

    def answer_oldest(self) -> None:
        self.agent.flush()
        self.reply(self._answer_to(self._held.pop(self._open[0])))

    def _hold(self, request: Request, message: Message) -> None:
        self._held[request] = message
        request.notifyFinish().addErrback(lambda _: self._held.pop(request))
        reports = [m["uid"] for m in self._held.values() if m["messageType"] in REPORTS]
        assert max(Counter(reports).values(), default=0) <= 1, "two messages of one user at once"
        self.most_at_once = max(self.most_at_once, len(reports))

    def _answer_to(self, message: Message) -> Message:
        down = self.fails or message.get("uid") in self.refused
        self.code = 503 if down else 200
        if not down or self.late:
            return self._do(message)
        return {}

    def _do(self, message: Message) -> Message:
        kind = message["messageType"]
        if kind == "authenticate":
            uid = message["authToken"].partition("-")[0]
            return {
                "nodejsValidAuthToken": True,
                "uid": uid,
                "presenceUids": self.lists.get(uid, []),
                "contentTokens": [],
            }
        uid = message["uid"]
        self.told.append((uid, kind.removeprefix("user").lower()))
        if kind == "userOnline":
            self.online.add(uid)
        else:
            self.online.discard(uid)
        return {"status": "success"}
