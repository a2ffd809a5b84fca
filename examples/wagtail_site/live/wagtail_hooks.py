"""What is added to Wagtail's admin."""

from django.conf import settings
from django.templatetags.static import static
from django.urls import URLPattern, path
from django.utils.html import format_html
from wagtail import hooks

from live.views import editing


@hooks.register("register_admin_urls")
def urls() -> list[URLPattern]:
    """Add the view; Wagtail lets in only who may use the admin."""
    return [path("live/editing/<int:page_id>/", editing, name="live-editing")]


@hooks.register("insert_editor_js")
def script() -> str:
    """Add the scripts to the page of the editor."""
    return format_html(
        '<script src="{}/push.js"></script><script src="{}"></script>',
        settings.PUSH_PUBLIC_URL,
        static("live/editors.js"),
    )
