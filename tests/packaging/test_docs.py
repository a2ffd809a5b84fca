"""The reference pages name what there is: every key, in its section, and every metric."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import AttrsInstance, fields
from prometheus_client.core import CollectorRegistry
from prometheus_client.registry import Collector

from twisted_push.config import schema
from twisted_push.ops.metrics import SiteCollector

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS: dict[type[AttrsInstance], str] = {
    schema.Config: "Top level",
    schema.Limits: "`[limits]`",
    schema.SiteConfig: "`[sites.NAME]`",
    schema.KeyConfig: "`[[sites.NAME.keys]]`",
    schema.CallbackConfig: "`[sites.NAME.callback]`",
    schema.PresenceConfig: "`[sites.NAME.presence]`",
    schema.SiteLimits: "`[sites.NAME.limits]`",
    schema.Mirror: "`[[sites.NAME.mirrors]]`",
    schema.Namespace: "`[[sites.NAME.namespaces]]`",
}


def rows(text: str) -> set[str]:
    """Give what stands in the first column of the tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: str(cls.__name__))
def test_every_key_is_in_its_section(cls: type[AttrsInstance]) -> None:
    parts = re.split(r"^##+ ", (DOCS / "configuration.md").read_text("utf-8"), flags=re.MULTILINE)
    [section] = [part for part in parts if part.startswith(SECTIONS[cls])]
    keys = {
        key
        for attribute in fields(cls)
        if not {"table", "tables"} & set(attribute.metadata)
        for key in schema.keys_of(attribute)
    }
    assert keys - rows(section) == set()


def test_every_metric_is_in_the_table() -> None:
    registry = CollectorRegistry()
    collector: Collector = SiteCollector([])
    registry.register(collector)
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }
    assert names
    assert names - rows((DOCS / "operations.md").read_text("utf-8")) == set()


def test_tables_begin_on_a_line_of_their_own() -> None:
    broken = [
        f"{page.name}: {before}"
        for page in DOCS.glob("*.md")
        for before in re.findall(r"^(?!\|)(.*)\n\|[ -]*-\|", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert broken == []
