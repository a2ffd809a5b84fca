"""For the templates of pages: `{% load live %}`.

`{% live_page %}` in the head has the browser follow the page, and what is in an element with the
attribute `data-live="{{ page|stamp }}"` is replaced when the page has been published anew.
"""

from django import template
from django.conf import settings
from django.templatetags.static import static

from live import api

register = template.Library()
register.filter("stamp", api.stamp)


@register.inclusion_tag("live/scripts.html", takes_context=True)
def live_page(context: template.Context) -> dict[str, object]:
    """Give the scripts. A preview is a draft: it follows nothing."""
    if getattr(context["request"], "is_preview", False):
        return {}
    return {
        "push_url": settings.PUSH_PUBLIC_URL,
        "channel": api.page_channel(context["page"].pk),
        "script": static("live/page.js"),
    }
