"""The memory engine's journal: an SQLite file from which it goes on after a restart."""

from twisted_push.engines.journal.journal import Journal

__all__ = ["Journal"]
