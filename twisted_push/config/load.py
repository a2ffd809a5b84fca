"""From the text of a file and the environment to a `Config`, or to all their faults at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from attrs import evolve

from twisted_push.config.checks import check, check_site_names, site_path
from twisted_push.config.environment import overlay
from twisted_push.config.schema import Config, KeyConfig, SiteConfig
from twisted_push.config.walk import Faults, Walker
from twisted_push.errors import ConfigError, ConfigErrors

__all__ = ["from_mapping", "load"]

_SITE_NAME = re.compile(r"[A-Za-z0-9](?:[._-]?[A-Za-z0-9])*")
_MAX_SITE_NAME = 64
_PLACE = re.compile(r"(.*) \(at (line [0-9]+, column [0-9]+|end of document)\)", re.DOTALL)


def load(text: str, *, environ: Mapping[str, str], read_file: Callable[[str], str]) -> Config:
    """Give the configuration in ``text`` (TOML) with the settings of ``environ`` laid over it.

    ``read_file`` gives the text of a secret's file, or raises OSError or ValueError. Raises
    `ConfigErrors` with every fault; no message shows a secret.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigErrors((ConfigError("", _toml_fault(error)),)) from None
    return from_mapping(raw, environ=environ, read_file=read_file)


def _toml_fault(error: Exception) -> str:
    """Give the message for a file that is no TOML, with its place in front."""
    if not isinstance(error, tomllib.TOMLDecodeError):
        return "the file is no TOML that can be read: a number or a nesting is too large"
    match = _PLACE.fullmatch(str(error))
    what, place = match.groups() if match else (str(error), "")
    return f"{place}: {what}" if place else what


def from_mapping(
    raw: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    read_file: Callable[[str], str],
) -> Config:
    """Give the configuration in a mapping, as a TOML parser makes it. Otherwise like `load`."""
    faults = Faults()
    table = overlay(raw, environ, faults)
    walker = Walker(read_file, faults)
    config = walker.build(Config, table, "", also=("sites",))
    # Without any site the faults of the default one say what is missing.
    sites = walker.table(table.get("sites", {}), "sites") or {"default": {}}
    check_site_names(sites, faults)
    config = evolve(
        config,
        sites=MappingProxyType({name: _site(walker, faults, name, sites[name]) for name in sites}),
    )
    check(config, faults)
    if found := faults.all():
        raise ConfigErrors(found)
    return config


def _site(walker: Walker, faults: Faults, name: str, raw: object) -> SiteConfig:
    """Give one site; its single ``key`` becomes the only one of its ``keys``."""
    path = site_path(name)
    if not _SITE_NAME.fullmatch(name) or len(name) > _MAX_SITE_NAME:
        allowed = f"at most {_MAX_SITE_NAME} letters and digits, with single . - _ between them"
        faults.add(path, f"not valid as the name of a site; must be {allowed}")
    table = walker.table(raw, path)
    single = {key: table[key] for key in ("key", "key_file") if key in table}
    others = {key: value for key, value in table.items() if key not in single}
    site = walker.build(SiteConfig, others, path, also=("key", "key_file"))
    key = walker.build(KeyConfig, single, path)
    keys = site.keys
    for index, each in enumerate(keys):
        here = f"{path}.keys[{index}]"
        if not each.key and not faults.at(f"{here}.key", f"{here}.key_file"):
            faults.add(f"{here}.key", "needed")
    if key.key and "keys" in table:
        faults.add(f"{path}.keys", "given twice: keep either keys or the single key")
    elif key.key:
        keys = (key,)
    callback = site.callback
    if callback is not None:
        first = keys[0].key if keys else ""
        asked = callback.url or callback.refresh_url or callback.decides
        callback = evolve(callback, service_key=first) if asked else None
    return evolve(site, name=name, keys=keys, callback=callback)
