"""What the editor's page asks for: who this is, and a token for the page's channel."""

import time

import jwt
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from wagtail.models import Page

from live.api import editing_channel

TOKEN_SECONDS = 600
"""An editor whose rights end is out of the channel after so long. The page fetches new ones."""


def editing(request: HttpRequest, page_id: int) -> JsonResponse:
    """Let somebody who may edit the page into its channel. Wagtail has checked the login."""
    page = get_object_or_404(Page, pk=page_id)
    if not page.permissions_for_user(request.user).can_edit():
        raise PermissionDenied
    user, channel = str(request.user.pk), editing_channel(page_id)
    name = request.user.get_full_name() or request.user.get_username()
    answer = {
        "url": settings.PUSH_PUBLIC_URL,
        "user": user,
        "channel": channel,
        "connection": _signed(sub=user, info={"name": name}),
        "subscription": _signed(sub=user, channel=channel),
    }
    return JsonResponse(answer, headers={"Cache-Control": "no-store"})


def _signed(**claims: object) -> str:
    now = int(time.time())
    all_claims = {**claims, "iat": now, "exp": now + TOKEN_SECONDS}
    return jwt.encode(all_claims, settings.PUSH_TOKEN_SECRET, algorithm="HS256")
