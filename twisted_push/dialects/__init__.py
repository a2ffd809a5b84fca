"""Families of wire formats over the same node: what clients send becomes its verbs.

``work`` is what the dialects have in common.
"""

__all__ = ["centrifugal", "nodejs", "work"]
