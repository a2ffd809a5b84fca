"""Where streams, presence and grants are kept. Each engine means the same: see `IEngine`."""

__all__ = ["memory"]
