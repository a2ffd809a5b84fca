"""What a reload does not take."""

from __future__ import annotations

from attrs import evolve

from twisted_push.config.schema import CallbackConfig, Config

__all__ = ["needing_restart"]

_TOP = (
    *("listen", "backend_listen", "reuse_port", "engine", "state_dir", "durability"),
    *("log_level", "log_format", "debug_echo", "fast_path", "nodejs_path", "socketio_path"),
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
