"""What every template may use."""

from django.conf import settings
from django.http import HttpRequest

from live.models import PushToken


def push(request: HttpRequest) -> dict[str, object]:
    """Give ``push_url``, and ``push_token`` for who is logged in. It is made when it is used."""

    def token() -> str:
        if not request.user.is_authenticated:
            return ""
        found, _ = PushToken.objects.get_or_create(session_key=request.session.session_key)
        return found.token

    return {"push_url": settings.PUSH_PUBLIC_URL, "push_token": token}
