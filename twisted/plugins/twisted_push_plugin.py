"""Makes ``twistd push`` known. It holds the ServiceMaker and nothing else.

Every plugin is imported before twistd reads its options; one that imported the reactor would
break ``twistd --reactor``.
"""

from twisted.application.service import ServiceMaker

push = ServiceMaker(
    "push",
    "twisted_push.service",
    "A push server for content management systems.",
    "push",
)
