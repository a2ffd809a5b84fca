"""A small CMS to try the push server with: an article, a chat and a log, live in every open page.

It uses only what every CMS has: a callback that the push server asks about a visitor, and the
push server's HTTP API with a key.  Start reading in :mod:`twisted_push.demo.site`.
"""

__all__ = [
    "api",
    "callback",
    "chat",
    "cms",
    "desk",
    "endpoint",
    "forms",
    "pages",
    "settings",
    "site",
    "state",
    "wording",
]
