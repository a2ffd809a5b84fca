"""For operators: health, metrics, logs."""

__all__ = ["health", "logs", "metrics"]
