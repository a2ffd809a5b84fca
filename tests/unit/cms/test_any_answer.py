"""Whatever a CMS answers, there is a grant or one of three errors, and at most one line."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.support import Outcome, World, asked, world
from twisted_push.cms.connect import ConnectDialect
from twisted_push.cms.grants import Dialect
from twisted_push.cms.nodejs import NodejsDialect
from twisted_push.errors import CmsUnavailable, Disconnect, Refused
from twisted_push.model import Grant

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["0", "1", "true", "", "2", 10**30, -1, 2**64])
)
values = st.recursive(
    scalars,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)
    ),
    max_leaves=12,
)


def shaped(**fields: Any) -> Any:
    """Objects with some of these fields, which hold what they should or anything."""
    return st.fixed_dictionaries({}, optional={k: v | values for k, v in fields.items()})


channels = st.lists(st.text(max_size=5), max_size=4)
connect_answers = shaped(
    result=shaped(
        user=st.text(max_size=5),
        expire_at=st.integers(),
        info=values,
        data=values,
        channels=channels,
        subs=st.dictionaries(st.text(max_size=5), shaped(info=values, data=values), max_size=3),
        meta=values,
        presence_to=channels,
    ),
    error=shaped(code=st.integers(), message=st.text(max_size=5)),
    disconnect=shaped(code=st.integers(0, 6000), reason=st.text(max_size=5)),
)
nodejs_answers = shaped(
    nodejsValidAuthToken=st.sampled_from([True, False, 1, "1"]),
    uid=st.integers() | st.text(max_size=5),
    channels=channels | st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=3),
    presenceUids=st.lists(st.integers(), max_size=3),
    contentTokens=st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=3),
    error=values,
    **{"pass": st.just("secret-hash"), "serviceKey": st.just("secret-key")},
)
texts = st.builds(json.dumps, values | connect_answers | nodejs_answers, ensure_ascii=st.booleans())


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """JSON texts with a few bytes changed."""
    text = bytearray(draw(texts).encode("utf-8", "surrogatepass"))
    for place in draw(st.lists(st.integers(0, max(0, len(text) - 1)), max_size=3)):
        text[place : place + 1] = draw(st.binary(max_size=2))
    return bytes(text)


answers = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | mangled() | st.binary()


def dialect(name: str, w: World) -> Dialect:
    if name == "connect":
        return ConnectDialect(w.exchange, ())
    return NodejsDialect(w.exchange, "service-key")


@settings(deadline=None, max_examples=300)
@given(answers)
def test_any_answer_to_connect(answer: bytes) -> None:
    check("connect", answer)


@settings(deadline=None, max_examples=300)
@given(answers)
def test_any_answer_to_nodejs(answer: bytes) -> None:
    check("nodejs", answer)


def check(name: str, answer: bytes) -> None:
    w = world(answer)
    outcome = Outcome(Deferred.fromCoroutine(dialect(name, w).ask(asked())))
    assert outcome.done
    if outcome.error is None:
        assert isinstance(outcome.value, Grant)
        assert w.stats.callbacks == {"ok": 1}
        assert type(outcome.value.user) is str
        assert all(type(channel) is str for channel in outcome.value.channels)
        if name == "nodejs":
            assert "secret-" not in repr(outcome.value)
            assert outcome.value.raw is None
        for text in (outcome.value.info, outcome.value.data, outcome.value.raw):
            assert text is None or (b"\n" not in text and json.loads(text) is not None)
    else:
        assert isinstance(outcome.error, Refused | Disconnect | CmsUnavailable)
        assert sum(w.stats.callbacks.values()) == 1
        assert "ok" not in w.stats.callbacks
    assert w.stats.callbacks_in_flight == 0
    assert w.clock.getDelayedCalls() == []


@settings(deadline=None)
@given(
    data=values.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="replace")),
    token=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30),
)
def test_any_question_of_drupal_s_dialect_holds_our_word(data: bytes, token: str) -> None:
    w = world(b"{}")
    Outcome(Deferred.fromCoroutine(dialect("nodejs", w).ask(asked(token, data=data))))
    form = w.cms.asked[0].form
    message = json.loads(form["messageJson"])
    assert form["serviceKey"] == "service-key"
    assert message["authToken"] == token
    assert message["messageType"] == "authenticate"
    assert message["clientId"] == "client-1"
