"""The callback to the CMS: who a client is and which channels it gets.

``gate`` is the way in. It chooses between signed tokens (``jwt``) and asking the CMS
(``grants``: kept answers, one question per token), in one of two dialects (``connect``,
``nodejs``) over one guarded HTTP exchange (``exchange``, ``connections``, ``turns``). In the
dialect ``nodejs`` the server has more to say to the CMS: ``messages``, ``reports``.
"""

__all__ = [
    "answers",
    "connect",
    "connections",
    "exchange",
    "gate",
    "grants",
    "jwt",
    "messages",
    "nodejs",
    "reports",
    "turns",
]
