"""The pages."""

from wagtail.admin.panels import FieldPanel
from wagtail.fields import RichTextField
from wagtail.models import Page


class ArticlePage(Page):
    """An article."""

    body = RichTextField(blank=True)

    content_panels = (*Page.content_panels, FieldPanel("body"))
