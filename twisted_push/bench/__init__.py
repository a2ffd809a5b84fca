"""Measures a running server: ``python -m twisted_push.bench``."""

__all__: list[str] = []
