"""What a form must show before it may change anything, and how its fields are read."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from twisted_push.demo.endpoint import HttpError, Incoming
from twisted_push.demo.state import Sessions

__all__ = ["CSRF_FIELD", "read_form", "text_field"]

CSRF_FIELD = "csrf"
"""The name of the hidden field in each form of ``templates/``."""

_MAX_FIELDS = 16


def read_form(incoming: Incoming, sessions: Sessions) -> Mapping[str, str]:
    """Return the fields of a form that was filled in on a page of ours.

    :raises HttpError: 403 for a form that came from elsewhere, 415 or 400 for what is no form.
    """
    _check_origin(incoming)
    if incoming.content_type != "application/x-www-form-urlencoded":
        raise HttpError(415, "This address takes forms only.")
    try:
        pairs = parse_qsl(
            incoming.body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(incoming.body),
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise HttpError(400, "The form could not be read.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise HttpError(400, "The form has a field twice.")
    token = fields.get(CSRF_FIELD, "")
    if not incoming.cookie or not sessions.csrf_matches(incoming.cookie, token):
        raise HttpError(403, "This form is out of date. Go back, reload the page, and try again.")
    return fields


def text_field(fields: Mapping[str, str], name: str, *, maximum: int) -> str:
    """Return a field that must say something, trimmed, with plain line ends.

    :raises HttpError: 400 or 422.
    """
    text = fields.get(name, "").replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise HttpError(422, f"Please fill in the {name}.")
    if len(text) > maximum:
        raise HttpError(422, f"The {name} is too long: at most {maximum} characters, please.")
    if any(ord(c) < 0x20 and c not in "\n\t" for c in text):
        raise HttpError(400, f"The {name} holds control characters.")
    return text


def _check_origin(incoming: Incoming) -> None:
    """Compare the Origin header, which browsers put on every form, with our own address."""
    origin = urlsplit(incoming.header("Origin") or "")
    host = incoming.header("Host") or ""
    if origin.scheme not in ("http", "https") or origin.netloc.lower() != host.lower():
        raise HttpError(403, "This form was sent from another site.")
