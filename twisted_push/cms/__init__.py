"""The callback to the CMS: who a client is and which channels it gets.

``gate`` is the way in. It chooses between signed tokens (``jwt``) and asking the CMS
(``grants``: kept answers, one question per token), in one of two dialects (``connect``,
``nodejs``) over one guarded HTTP exchange (``exchange``, ``requests``, ``connections``,
``turns``). In the dialect ``connect`` the CMS can also decide what a client may do: ``decisions``.
In the dialect ``nodejs`` the server has more to say to the CMS: ``messages``, ``reports``. In any
dialect the ``hook`` is told who is online.
"""

__all__ = [
    "answers",
    "connect",
    "connections",
    "decisions",
    "exchange",
    "gate",
    "grants",
    "hook",
    "jwt",
    "messages",
    "nodejs",
    "reports",
    "requests",
    "retryafter",
    "turns",
]
