"""The WSGI application, with the queue around it: `enqueue` works in every view."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
django = get_wsgi_application()

# Only now, as these read the settings.
from live.api import push  # noqa: E402
from push_queue import PushQueue  # noqa: E402

application = PushQueue(django, push)
