"""Who may hear what."""

from django.contrib.auth.models import AbstractBaseUser

from tickets.models import Event


def channels_of(user: AbstractBaseUser) -> list[str]:
    """List the channels of a user. The channel ``user:ID`` comes from push.toml."""
    return [event.channel for event in Event.objects.all()]


def user_channel(user: AbstractBaseUser) -> str:
    """Name the channel of one user."""
    return f"user:{user.pk}"
