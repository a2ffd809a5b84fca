"""`manage.py first_steps`: something to look at."""

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from wagtail.models import Page, Site

from articles.models import ArticlePage


class Command(BaseCommand):
    """Make two editors and an article."""

    help = "Makes the editors alice and bob (their names are their passwords), and an article."

    def handle(self, *args: object, **options: object) -> None:
        """Do it. What is there already stays."""
        users = get_user_model().objects
        for name in ("alice", "bob"):
            if not users.filter(username=name).exists():
                users.create_superuser(name, password=name)
        if not ArticlePage.objects.exists():
            article = ArticlePage(title="First news", slug="news", body="<p>Hello.</p>")
            Page.get_first_root_node().add_child(instance=article)
            article.save_revision().publish()
            Site.objects.update(root_page=article)
        self.stdout.write("Log in as alice or bob at /admin/.")
