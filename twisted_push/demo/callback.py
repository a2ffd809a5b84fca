"""What the push server asks: who a visitor is (``connect``), and what a page calls (``rpc``).

The questions and the answers are those of section 7 of the client protocol.  Anybody may ask who a
visitor is, because only a page that we rendered knows a token, and the answer tells its holder
nothing that the page does not.  A call is another thing: it is carried out for the session whose
mark it has, and that only the push server was told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.logger import Logger

from twisted_push.demo.desk import Desk
from twisted_push.demo.endpoint import Answer, HttpError, Incoming
from twisted_push.demo.state import CHAT_CHANNEL, STRANGER, Session

__all__ = ["CALLBACK_PATH", "RPC_PATH", "Callbacks"]

CALLBACK_PATH = "/push/connect"
RPC_PATH = "/push/rpc"
"""Where the push server asks."""

INVALID_TOKEN = 3500
"""The close code after which a page stays away."""

NO_SUCH_CALL = 4004
"""An error code of our own."""

TYPING_SECONDS = 1.0
"""The others are told of typing so often at most."""

_REFUSE = {"disconnect": {"code": INVALID_TOKEN, "reason": "invalid token"}}

_log = Logger()


@attrs.frozen
class Callbacks:
    """Answers the push server."""

    desk: Desk

    async def connect(self, incoming: Incoming) -> Answer:
        """Tell who somebody is.

        :raises HttpError: for what is no question; a token that is not (or no longer) known is
            none of those, it is answered with a ``disconnect``.
        """
        session = _found(self.desk.sessions.by_token, _question(incoming).get("token"))
        if session is None:
            _log.info("connect callback: refused a token that belongs to no session")
            self.desk.note("warning", "access", STRANGER, "came with a token of no session.")
            return Answer.json(_REFUSE)
        user = session.user
        _log.info("connect callback: {user} may connect", user=user.id)
        return Answer.json(
            {
                "result": {
                    "user": user.id,
                    "info": {"name": user.name},
                    "channels": list(user.channels),
                    "presence_to": list(user.seen_by),
                    "meta": {"session": session.mark},
                }
            }
        )

    async def rpc(self, incoming: Incoming) -> Answer:
        """Do what a page calls for.

        :raises HttpError: as above; a call without the mark of a session is closed.
        """
        question = _question(incoming)
        meta = question.get("meta")
        mark = meta.get("session") if isinstance(meta, dict) else None
        session = _found(self.desk.sessions.by_mark, mark)
        if session is None:
            _log.info("rpc callback: refused a call that belongs to no session")
            return Answer.json(_REFUSE)
        if question.get("method") != "typing":
            return Answer.json({"error": {"code": NO_SUCH_CALL, "message": "no such call"}})
        await self._typing(session)
        return Answer.json({"result": {}})

    async def _typing(self, session: Session) -> None:
        now = self.desk.clock.seconds()
        if now - session.typed_at < TYPING_SECONDS:
            return
        session.typed_at = now
        user = session.user
        typing = {"type": "typing", "user": user.id, "name": user.name}
        # It is over in a moment: nobody who comes later wants to hear of it.
        await self.desk.publish(CHAT_CHANNEL, typing, keep=False)


def _question(incoming: Incoming) -> Mapping[str, Any]:
    if incoming.content_type != "application/json":
        raise HttpError(415, "The callbacks take JSON only.")
    try:
        question = json.loads(incoming.body)
    except (ValueError, RecursionError):
        raise HttpError(400, "The callback could not read that.") from None
    if not isinstance(question, dict):
        raise HttpError(400, "The callbacks take a JSON object.")
    return question


def _found(find: Callable[[str], Session | None], secret: object) -> Session | None:
    return find(secret) if isinstance(secret, str) and secret.isascii() else None
