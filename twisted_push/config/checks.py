"""Checks of a whole configuration: what no single value can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twisted_push.config.endpoints import is_tcp
from twisted_push.config.environment import fold
from twisted_push.config.names import KEY_HINT
from twisted_push.config.schema import Config, SiteConfig
from twisted_push.config.walk import Faults, join

__all__ = ["check", "check_site_names", "site_path"]

LATER = "not available in this version"


def check(config: Config, faults: Faults) -> None:
    """Note every fault between the values of ``config``."""
    _check_later(config, faults)
    _check_listen(config, faults)
    _check_paths(config, faults)
    _check_hosts(config.sites, faults)
    _check_secrets(config.sites, faults)
    for site in config.sites.values():
        path = site_path(site.name)
        _check_keys(site, path, faults)
        _check_callback(site, f"{path}.callback", faults)
        _check_namespaces(site, path, faults)
        _check_rights(site, config.sites, path, faults)


def site_path(name: str) -> str:
    """Give the dotted path of a site."""
    return join("sites", name)


def _check_later(config: Config, faults: Faults) -> None:
    """Refuse what the file may say one day and this version cannot do."""
    if config.engine == "redis":
        faults.add("engine", f"'redis' is {LATER}; use memory")


def _check_listen(config: Config, faults: Faults) -> None:
    if not config.listen:
        faults.add("listen", "at least one endpoint is needed")
    for name in ("listen", "backend_listen"):
        endpoints = getattr(config, name)
        for endpoint in _repeated(endpoints):
            faults.add(name, f"{endpoint!r} is given twice")
    for endpoint in set(config.listen) & set(config.backend_listen):
        faults.add(
            "backend_listen", f"{endpoint!r} is in listen already; leave this empty to share"
        )
    if config.reuse_port and not any(map(is_tcp, config.listen)):
        faults.add("reuse_port", "there is no tcp, tcp6, ssl or tls endpoint in listen")


def _check_paths(config: Config, faults: Faults) -> None:
    """Refuse paths of which one hides the other."""
    names = ("nodejs_path", "socketio_path")
    for inner, outer in (names[::-1], names):
        path, around = getattr(config, inner), getattr(config, outer)
        if path and around and f"{path}/".startswith(f"{around}/"):
            faults.add(inner, f"{path!r} is within {outer}")
            return


def _check_hosts(sites: Mapping[str, SiteConfig], faults: Faults) -> None:
    owners: dict[str, str] = {}
    for site in sites.values():
        path = f"{site_path(site.name)}.hosts"
        if len(sites) > 1 and not site.hosts and not faults.at(path):
            faults.add(path, "needed, because there are several sites")
        for host in _repeated(site.hosts):
            faults.add(path, f"{host!r} is given twice")
        for host in site.hosts:
            owner = owners.setdefault(host, site.name)
            if owner != site.name:
                faults.add(path, f"{host!r} belongs to {site_path(owner)} already")


def _check_secrets(sites: Mapping[str, SiteConfig], faults: Faults) -> None:
    """Refuse a secret that two sites share: it would open one site to the other's backend."""
    keys: dict[str, str] = {}
    tokens: dict[str, str] = {}
    for site in sites.values():
        path = site_path(site.name)
        for key in site.keys:
            owner = keys.setdefault(key.key, site.name)
            if key.key and owner != site.name:
                faults.add(f"{path}.key", f"{site_path(owner)} has the same key; each has its own")
        if site.token_secret:
            owner = tokens.setdefault(site.token_secret, site.name)
            if owner != site.name:
                message = f"{site_path(owner)} has the same secret; each has its own"
                faults.add(f"{path}.token_secret", message)


def _check_keys(site: SiteConfig, path: str, faults: Faults) -> None:
    if not site.keys and not faults.at(*(f"{path}.{name}" for name in ("key", "key_file", "keys"))):
        faults.add(f"{path}.key", f"needed; {KEY_HINT}")
    for name in _repeated(key.id for key in site.keys):
        faults.add(f"{path}.keys", f"the id {name!r} is given twice")
    for _ in _repeated(key.key for key in site.keys if key.key):
        faults.add(f"{path}.keys", "two of the keys are the same")


def _check_rights(
    site: SiteConfig, sites: Mapping[str, SiteConfig], path: str, faults: Faults
) -> None:
    """Refuse rights on sites that are not there, or on the site itself."""
    given = [(f"keys[{i}]", key.sites) for i, key in enumerate(site.keys)]
    given += [(f"mirrors[{i}]", mirror.sites) for i, mirror in enumerate(site.mirrors)]
    for part, named in given:
        here = f"{path}.{part}.sites"
        for index, name in enumerate(named):
            if name == site.name:
                faults.add(f"{here}[{index}]", f"{name!r} is this site itself")
            elif name != "*" and name not in sites:
                faults.add(f"{here}[{index}]", f"there is no site {name!r}")
        if part.startswith("mirrors") and not named and not faults.at(here):
            faults.add(here, 'needed: names of sites, or "*" for all others')


def _check_callback(site: SiteConfig, path: str, faults: Faults) -> None:
    callback = site.callback
    if callback is None:
        return
    if callback.dialect != "connect" and not faults.at(f"{path}.dialect"):
        for name in ("refresh_url", "subscribe_url", "sub_refresh_url", "publish_url", "rpc_url"):
            if getattr(callback, name):
                faults.add(f"{path}.{name}", 'needs dialect = "connect"')
    if callback.sub_refresh_url and not callback.subscribe_url:
        faults.add(f"{path}.sub_refresh_url", "needs a subscribe_url")
    if callback.refresh_url and not callback.url and not faults.at(f"{path}.url"):
        faults.add(f"{path}.refresh_url", "needs a url")


def _check_namespaces(site: SiteConfig, path: str, faults: Faults) -> None:
    seen: set[str] = set()
    for index, namespace in enumerate(site.namespaces):
        here = f"{path}.namespaces[{index}]"
        if namespace.prefix in seen and not faults.at(f"{here}.prefix"):
            faults.add(f"{here}.prefix", f"{namespace.prefix!r} is given twice")
        seen.add(namespace.prefix)
        if not namespace.history_size and not faults.at(f"{here}.history_size"):
            for name in ("recover", "client_history"):
                if getattr(namespace, name):
                    faults.add(f"{here}.{name}", "needs a history_size above 0")
        if namespace.recovery_mode == "cache" and not (
            namespace.recover or faults.at(f"{here}.recover")
        ):
            faults.add(f"{here}.recovery_mode", "'cache' needs recover = true")
        _check_cms(site, path, index, faults)


def _check_cms(site: SiteConfig, path: str, index: int, faults: Faults) -> None:
    """Refuse a namespace in which the CMS decides but is not asked."""
    for name, url in (("client_subscribe", "subscribe_url"), ("client_publish", "publish_url")):
        given = getattr(site.callback, url, "") or faults.at(f"{path}.callback.{url}")
        if getattr(site.namespaces[index], name) == "cms" and not given:
            faults.add(f"{path}.namespaces[{index}].{name}", f"'cms' needs callback.{url}")


def check_site_names(names: Iterable[str], faults: Faults) -> None:
    """Refuse names of sites that the environment could not tell apart."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(fold(name), name)
        if other != name:
            faults.add(site_path(name), f"too much like {site_path(other)}")


def _repeated(items: Iterable[str]) -> list[str]:
    """Give the items that are there more than once."""
    seen: set[str] = set()
    again: list[str] = []
    for item in items:
        if item in seen and item not in again:
            again.append(item)
        seen.add(item)
    return again
