"""Codecs: wire formats as pure functions of bytes and values."""

__all__ = ["centrifugal", "engineio", "nodejs", "socketio"]
