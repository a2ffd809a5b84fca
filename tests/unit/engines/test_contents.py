"""Content tokens in the engine: what goes wrong while one is kept."""

from __future__ import annotations

import math
from typing import Any

import pytest

from twisted_push.engines.contents import ContentTokens
from twisted_push.engines.journal.records import fact_row
from twisted_push.model import ContentToken


class Strict:
    """Notes nothing, but takes no text that cannot be written."""

    def put(self, *fact: Any) -> None:
        fact_row(*fact)

    def drop(self, *_: Any, over: bool = False) -> None:
        pass


@pytest.mark.parametrize("known", [True, False])
def test_a_token_that_cannot_be_noted_changes_nothing(known: bool) -> None:
    contents = ContentTokens(Strict())
    if known:
        contents.put(b"t", ContentToken("a", 60.0), 10, 0.0)
    with pytest.raises(ValueError, match="surrogates"):
        contents.put(b"t", ContentToken("\ud800", 60.0), 10, 0.0)
    assert (contents.known("a", 0.0), contents.channels()) == (known, known)
    held = contents.claim(b"t", "a", b"h", "u", 0.0)
    assert (held is not None) is known
    contents.forget(user="u")
    contents.expire(math.inf)
    assert contents.channels() == 0
