"""The connect callback: the push server asks who a token belongs to."""

import json
import time
from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from live.models import PushToken

channels_of = import_string(settings.PUSH_CHANNELS)


@csrf_exempt
@require_POST
def connect(request: HttpRequest) -> HttpResponse:
    """Answer with the user and the channels, or send the page away."""
    try:
        token = json.loads(request.body)["token"]
    except (ValueError, KeyError, TypeError):
        return HttpResponseBadRequest("This is no question of the push server.")
    is_text = isinstance(token, str) and token.isprintable()
    user = user_of(token) if is_text else AnonymousUser()
    if not user.is_authenticated:
        return JsonResponse({"disconnect": {"code": 3500, "reason": "invalid token"}})
    grant = {
        "user": str(user.pk),
        "channels": channels_of(user),
        "info": {"name": user.get_username()},
        # A password change or a block ends sessions without a logout: so ask again.
        "expire_at": int(time.time()) + settings.PUSH_GRANT_SECONDS,
    }
    return JsonResponse({"result": grant})


def user_of(token: str) -> AbstractBaseUser | AnonymousUser:
    """Find the user of the session that a token belongs to, if the session is still good."""
    found = PushToken.objects.filter(token=token).first()
    if found is None:
        return AnonymousUser()
    # Django's own check: the session is there, its password hash is right, the user is active.
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(found.session_key)
    user = get_user(request)
    if not user.is_authenticated:
        found.delete()
    return user
