"""The verbs of one site: authorise, act, tell. A site has a node of its own, and shares nothing.

``node`` is the life of its clients, ``channels`` who receives what, ``backend`` what the CMS may
ask, ``context`` what these have in common.
"""

__all__ = ["backend", "channels", "context", "node"]
