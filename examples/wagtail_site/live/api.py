"""How the site speaks to the push server, and the names of its channels."""

from functools import partial

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from push_api import Publication, PushApi
from wagtail.models import Page

push = PushApi(settings.PUSH_API_URL, settings.PUSH_KEY)


def page_channel(page_id: int) -> str:
    """Name the channel of those who look at a page. Everybody may hear it."""
    return f"page:{page_id}"


def editing_channel(page_id: int) -> str:
    """Name the channel of those who edit a page. It takes a token to be in it."""
    return f"editing:{page_id}"


def stamp(page: Page) -> int:
    """Tell when the page became what it is, in milliseconds since the epoch.

    A page has it in ``data-live``, and a message in ``changed``: so the browser knows whether the
    page that it has, perhaps from a cache, is the one that is meant.
    """
    changed = page.last_published_at if page.live else timezone.now()
    return int((changed or timezone.now()).timestamp() * 1000)


def after_commit(channel: str, data: object) -> None:
    """Publish when the transaction has been committed; never, if it is rolled back."""
    transaction.on_commit(partial(push.send, [Publication(channel, data)]), robust=True)
