"""Families of wire formats over the same node: what clients send becomes its verbs."""

__all__ = ["centrifugal"]
