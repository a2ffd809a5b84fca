"""Offers of permessage-deflate (RFC 7692): which is taken.

Autobahn refuses the connection for an offer that it finds at fault, even where it would take none
or another; the standard has it declined. So Autobahn is shown none but the one that is taken.
"""

from __future__ import annotations

import re

__all__ = ["taken_offer"]

_EXTENSION = "permessage-deflate"
_PARAMETER = re.compile(
    r"(?:client|server)_no_context_takeover"
    r'|client_max_window_bits(?:[ \t]*=[ \t]*("?)(?:[89]|1[0-5])\1)?'
)
"""What may stand in an offer that is taken. One that would have us use a smaller window is not."""

_FORGET = "server_no_context_takeover"


def taken_offer(header: str) -> str:
    """Give the first offer of a header that is taken, with all that matters; empty: there is none.

    It is one that lets a frame that refers to no earlier one serve all. How a client would compress
    does not matter: whatever is allowed is read.
    """
    for offer in header.lower().split(","):
        extension, *parameters = (part.strip(" \t") for part in offer.split(";"))
        names = {each.partition("=")[0].rstrip(" \t") for each in parameters}
        if (
            extension == _EXTENSION
            and all(_PARAMETER.fullmatch(each) for each in parameters)
            and len(names) == len(parameters)
        ):
            return f"{_EXTENSION}; {_FORGET}" if _FORGET in names else _EXTENSION
    return ""
