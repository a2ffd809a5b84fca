"""The app that ties Django to the push server: copy the folder."""

from django.apps import AppConfig


class LiveConfig(AppConfig):
    """Connects the logout."""

    name = "live"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import what listens to Django's signals."""
        from live import logout  # noqa: F401
