"""The connect callback: the push server asks who a visitor is and which channels they get.

The question and the answers are those of section 7 of the client protocol ("connect").  Anybody
may ask, because only a page that we rendered knows a token, and the answer tells its holder
nothing that the page does not.
"""

from __future__ import annotations

import json

from twisted.logger import Logger

from twisted_push.demo.endpoint import Answer, HttpError, Incoming
from twisted_push.demo.state import Sessions

__all__ = ["CALLBACK_PATH", "answer_connect"]

CALLBACK_PATH = "/push/connect"
"""Where the push server asks."""

INVALID_TOKEN = 3500
"""The close code after which a page stays away."""

_log = Logger()


async def answer_connect(incoming: Incoming, sessions: Sessions) -> Answer:
    """Answer one question of the push server.

    :raises HttpError: for what is no question; a token that is not (or no longer) known is
        none of those, it is answered with a ``disconnect``.
    """
    if incoming.content_type != "application/json":
        raise HttpError(415, "The connect callback takes JSON only.")
    try:
        question = json.loads(incoming.body)
    except (ValueError, RecursionError):
        raise HttpError(400, "The connect callback could not read that.") from None
    if not isinstance(question, dict):
        raise HttpError(400, "The connect callback takes a JSON object.")
    token = question.get("token")
    session = sessions.by_token(token) if isinstance(token, str) and token.isascii() else None
    if session is None:
        _log.info("connect callback: refused a token that belongs to no session")
        return Answer.json({"disconnect": {"code": INVALID_TOKEN, "reason": "invalid token"}})
    user = session.user
    _log.info("connect callback: {user} may connect", user=user.id)
    return Answer.json(
        {
            "result": {
                "user": user.id,
                "info": {"name": user.name},
                "channels": list(user.channels),
            }
        }
    )
