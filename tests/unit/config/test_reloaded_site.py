"""What a reload makes of a running site."""

from __future__ import annotations

from tests.unit.config.reading import KEY, OTHER_KEY, read, site
from twisted_push.config import Config, reloaded_site


def two(first: str, second: str) -> Config:
    return read(site("hosts = ['a']", "a", first) + site("hosts = ['b']", "b", second))


def test_it_takes_keys_limits_and_mirrors() -> None:
    old = read(site("", "a")).sites["a"]
    text = "hosts = ['a']\nlimits = {max_connections = 5}\nmirrors = [{sites = ['b']}]"
    new = read(site(text, "a", OTHER_KEY) + site("hosts = ['b']", "b"))
    found = reloaded_site(old, new)
    assert [key.key for key in found.keys] == [OTHER_KEY]
    assert found.limits.max_connections == 5
    assert found.mirrors[0].sites == ("b",)
    assert found.hosts == ()  # Needs a restart.


def test_a_site_that_is_gone_keeps_no_key_that_is_anothers_now() -> None:
    """It serves until the restart; until then one key must not open two sites."""
    old = two(KEY, OTHER_KEY).sites["a"]
    assert reloaded_site(old, read(site("", "b", KEY))).keys == ()
    assert reloaded_site(old, read(site("", "b", OTHER_KEY))).keys == old.keys
