"""How browsers stay connected. A transport implements `ITransport` and feeds a `Receiver`."""

__all__ = ["door", "engineio", "stream", "websocket"]
