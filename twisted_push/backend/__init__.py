"""How CMSes act on their site: the HTTP API."""

__all__ = ["api", "requests"]
