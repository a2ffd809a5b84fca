"""A push server for content management systems, on Twisted and Autobahn."""

__all__: list[str] = []
