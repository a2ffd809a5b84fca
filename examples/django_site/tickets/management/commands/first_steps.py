"""`manage.py first_steps`: something to look at."""

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

from tickets.models import Event


class Command(BaseCommand):
    """Make two users and an event."""

    help = "Makes the users alice and bob (their names are their passwords), and an event."

    def handle(self, *args: object, **options: object) -> None:
        """Do it. What is there already stays."""
        users = get_user_model().objects
        for name in ("alice", "bob"):
            if not users.filter(username=name).exists():
                users.create_user(name, password=name)
        Event.objects.get_or_create(title="An evening with Twisted", defaults={"seats_left": 3})
        self.stdout.write("Log in as alice or bob.")
