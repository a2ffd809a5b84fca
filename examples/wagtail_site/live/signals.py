"""What happens in Wagtail, told to the open pages."""

from django.db.models.signals import post_save
from django.dispatch import receiver
from wagtail.models import Page, PageLogEntry
from wagtail.signals import page_published, page_unpublished

from live.api import after_commit, editing_channel, page_channel, stamp

TOLD = {
    "wagtail.edit": "saved a draft of this page",
    "wagtail.publish": "published this page",
    "wagtail.unpublish": "unpublished this page",
    "wagtail.lock": "locked this page",
    "wagtail.unlock": "unlocked this page",
    "wagtail.delete": "deleted this page",
}
"""Entries of Wagtail's own log that other editors of the page hear of."""


@receiver([page_published, page_unpublished])
def tell_readers(instance: Page, **kwargs: object) -> None:
    """Say since when the page is another. What is in it, its readers get from the CMS.

    So a page that only some may see is shown to nobody else by this.
    """
    after_commit(page_channel(instance.pk), {"changed": stamp(instance)})


@receiver(post_save, sender=PageLogEntry)
def tell_editors(instance: PageLogEntry, created: bool, **kwargs: object) -> None:
    """Tell the other editors what one of them did, while their page is open."""
    if created and instance.action in TOLD:
        user = instance.user
        data = {
            "action": instance.action,
            "user": str(user.pk) if user else "",
            "name": user.get_username() if user else "The system",
            "words": TOLD[instance.action],
        }
        after_commit(editing_channel(instance.page_id), data)
