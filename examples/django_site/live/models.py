"""The token of each session."""

import secrets

from django.db import models


class PushToken(models.Model):
    """What the pages of a session show to the push server.

    It is not the session's own key, because scripts can read it. One session has one token, so the
    push server asks once for all of its pages.
    """

    session_key = models.CharField(max_length=40, unique=True)
    token = models.CharField(max_length=64, unique=True, default=secrets.token_urlsafe)

    def __str__(self) -> str:
        """Do not show a secret."""
        return f"token {self.pk}"
