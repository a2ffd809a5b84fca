"""The app that ties Wagtail to the push server: copy the folder."""

from django.apps import AppConfig


class LiveConfig(AppConfig):
    """Connects the signals."""

    name = "live"

    def ready(self) -> None:
        """Import what listens to Wagtail's signals."""
        from live import signals  # noqa: F401
