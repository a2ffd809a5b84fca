"""Whatever a file or the environment holds, the outcome is a Config or ConfigErrors."""

from __future__ import annotations

import datetime
from contextlib import suppress

from attrs import fields
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_push.config import (
    CallbackConfig,
    Config,
    KeyConfig,
    Limits,
    Namespace,
    SiteConfig,
    from_mapping,
    load,
)
from twisted_push.errors import ConfigErrors

NAMES = sorted(
    {
        name
        for cls in (CallbackConfig, Config, KeyConfig, Limits, Namespace, SiteConfig)
        for attribute in fields(cls)
        for name in (attribute.name, f"{attribute.name}_file")
    }
)
GOOD = [
    *("a-key-that-is-long-enough", "tcp:80", "10s", "64KiB", "memory", "info", "deny", "*"),
    *("http://cms/", "https://example.org", "user:{user}", "10.0.0.0/8", "default", "nodejs"),
]
names = st.sampled_from(NAMES) | st.text(max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(GOOD)
    | st.sampled_from([datetime.datetime(2011, 8, 22), datetime.time(1), 10**4000])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=20,
)
sites = st.dictionaries(
    st.sampled_from(["default", "a", "A"]) | st.text(max_size=5),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=8),
    max_size=3,
)
mappings = st.dictionaries(names, values, max_size=6) | st.fixed_dictionaries(
    {"sites": sites | values}, optional={"limits": values, "listen": values}
)
parts = st.sampled_from([name.upper() for name in NAMES]) | st.text("ABC_", max_size=6)
environments = st.dictionaries(
    st.lists(parts, min_size=1, max_size=4).map(lambda found: "TWISTED_PUSH_" + "__".join(found)),
    st.text(max_size=20) | st.sampled_from(GOOD),
    max_size=4,
)


def read_file(name: str) -> str:
    """Fail in one of the ways in which a file can fail, or give something."""
    if len(name) % 3 == 0:
        raise OSError
    if len(name) % 3 == 1:
        raise ValueError
    return name


@settings(max_examples=400, deadline=None)
@given(mappings, environments)
def test_any_mapping_gives_a_config_or_its_faults(
    raw: dict[str, object], environ: dict[str, str]
) -> None:
    try:
        config = from_mapping(raw, environ=environ, read_file=read_file)
    except ConfigErrors as faults:
        lines = [str(each) for each in faults.errors]
    else:
        lines = []
        assert config.sites
        assert all(site.keys and site.keys[0].key for site in config.sites.values())
    assert all(line.isprintable() and len(line) < 1000 for line in lines)


@settings(deadline=None)
@given(st.text() | st.text(alphabet="[]{}=\"'#\n\\,.ab1-:T_ "))
def test_any_text_gives_a_config_or_its_faults(text: str) -> None:
    with suppress(ConfigErrors):
        load(text, environ={}, read_file=read_file)
