"""How the site speaks to the push server."""

from functools import partial

from django.conf import settings
from django.db import transaction
from push_api import Publication, PushApi

push = PushApi(settings.PUSH_API_URL, settings.PUSH_KEY)


def after_commit(*publications: Publication) -> None:
    """Publish when the transaction has been committed; never, if it is rolled back.

    Outside of a transaction that is at once. A push server that is away is a line in the log: the
    data is stored all the same, so nobody is told that saving failed.
    """
    transaction.on_commit(partial(push.send, publications), robust=True)
