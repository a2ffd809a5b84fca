"""The configuration: its classes, and from the text of a file to one of them. No IO."""

from twisted_push.config.changes import needing_restart, reloaded_site
from twisted_push.config.endpoints import check_endpoint, is_tcp
from twisted_push.config.load import from_mapping, load
from twisted_push.config.schema import (
    SHORT_KEY,
    CallbackConfig,
    Config,
    KeyConfig,
    Limits,
    Mirror,
    Namespace,
    PresenceConfig,
    SiteConfig,
    SiteLimits,
)
from twisted_push.config.template import template

__all__ = [
    "SHORT_KEY",
    "CallbackConfig",
    "Config",
    "KeyConfig",
    "Limits",
    "Mirror",
    "Namespace",
    "PresenceConfig",
    "SiteConfig",
    "SiteLimits",
    "check_endpoint",
    "from_mapping",
    "is_tcp",
    "load",
    "needing_restart",
    "reloaded_site",
    "template",
]
