"""Events with seats, and who has one."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from push_api import Publication


class Event(models.Model):
    """Something to go to."""

    title = models.CharField(max_length=100)
    seats_left = models.IntegerField()
    changes = models.PositiveIntegerField(default=0)
    """Counts what was published, so that an older state never replaces a newer one."""

    class Meta:
        """Nobody gets a seat that is not there: the database sees to it."""

        constraints = (
            models.CheckConstraint(condition=Q(seats_left__gte=0), name="seats_left_not_negative"),
        )

    def __str__(self) -> str:
        """Give the title."""
        return self.title

    @property
    def channel(self) -> str:
        """The channel that everybody who looks at the event is in."""
        return f"event:{self.pk}"

    def take_seat(self) -> None:
        """Take one seat. Raises IntegrityError if none is left."""
        Event.objects.filter(pk=self.pk).update(
            seats_left=F("seats_left") - 1, changes=F("changes") + 1
        )
        self.refresh_from_db()

    def publication(self) -> Publication:
        """Say how it stands now."""
        return Publication(self.channel, {"seats_left": self.seats_left}, version=self.changes)


class Reservation(models.Model):
    """A seat of somebody."""

    event = models.ForeignKey(Event, models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        """Say whose it is."""
        return f"{self.user} at {self.event}"
