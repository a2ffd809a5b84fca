"""What a reload takes, and what it does not."""

from __future__ import annotations

from attrs import evolve

from twisted_push.config.schema import CallbackConfig, Config, SiteConfig

__all__ = ["needing_restart", "reloaded_site"]

_TOP = (
    *("listen", "backend_listen", "reuse_port", "engine", "state_dir", "durability"),
    *("log_level", "log_format", "debug_echo", "fast_path", "compression"),
    *("nodejs_path", "socketio_path"),
)
_LIMITS = ("send_buffer", "unacknowledged_timeout")
_SITE = (
    *("hosts", "broadcast_channel", "user_channel", "anonymous", "token_secret"),
    *("callback", "presence"),
)


def needing_restart(old: Config, new: Config) -> list[str]:
    """Give the dotted paths of what changed and needs a restart."""
    changed = [name for name in _TOP if getattr(old, name) != getattr(new, name)]
    for name in _LIMITS:
        if getattr(old.limits, name) != getattr(new.limits, name):
            changed.append(f"limits.{name}")
    if set(old.sites) != set(new.sites):
        changed.append("sites")
    for name in set(old.sites) & set(new.sites):
        before, after = old.sites[name], new.sites[name]
        changed += [
            f"sites.{name}.{part}"
            for part in _SITE
            if _without_key(getattr(before, part)) != _without_key(getattr(after, part))
        ]
    return changed


def _without_key(setting: object) -> object:
    """Give a setting without the service key that a callback holds but does not send."""
    if isinstance(setting, CallbackConfig) and setting.dialect == "connect":
        return evolve(setting, service_key="")
    return setting


def reloaded_site(old: SiteConfig, config: Config) -> SiteConfig:
    """Give a running site with what a reload may change.

    One that is not there any more serves until the restart, without keys that are another's now.
    """
    new = config.sites.get(old.name) or _without_keys_of_others(old, config)
    return evolve(
        old,
        keys=new.keys,
        allowed_origins=new.allowed_origins,
        namespaces=new.namespaces,
        content_token_ttl=new.content_token_ttl,
        limits=new.limits,
        mirrors=new.mirrors,
    )


def _without_keys_of_others(site: SiteConfig, config: Config) -> SiteConfig:
    taken = {key.key for each in config.sites.values() for key in each.keys}
    return evolve(site, keys=tuple(key for key in site.keys if key.key not in taken))
