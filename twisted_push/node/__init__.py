"""The verbs of one site: authorise, act, tell. A site has a node of its own, and shares nothing.

``node`` is the life of its clients, ``channels`` who receives what, ``backend`` what the CMS may
ask, ``arrivals`` what it takes from those who are on their way, ``context`` what these have in
common.
"""

__all__ = ["arrivals", "backend", "channels", "context", "node"]
