"""A logout in Django is a logout at the push server: the open pages of the session are closed."""

import logging
from functools import partial

from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest
from push_api import PushError

from live.api import push
from live.models import PushToken

_log = logging.getLogger("push")


@receiver(user_logged_out)
def end_token(request: HttpRequest, **kwargs: object) -> None:
    """End the token of the session that is over. From then on the callback refuses it, too."""
    for found in PushToken.objects.filter(session_key=request.session.session_key):
        found.delete()
        transaction.on_commit(partial(_tell, found.token), robust=True)


def _tell(token: str) -> None:
    try:
        push.call("logout", {"token": token})
    except PushError as error:
        # Its pages stay until the grant ends: see PUSH_GRANT_SECONDS.
        _log.error("the push server was not told of a logout: %s", error)
