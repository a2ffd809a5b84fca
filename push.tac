"""The server as a Twisted application: ``TWISTED_PUSH_CONFIG=push.toml twistd -ny push.tac``.

The same service as ``twistd push --config push.toml``, for those who start Twisted from a
``.tac`` file. The path of the configuration file comes from the environment.
"""

import os

from twisted.application.service import Application
from twisted.python.usage import UsageError

from twisted_push.service import Options, makeService

path = os.environ.get("TWISTED_PUSH_CONFIG")
if not path:
    raise SystemExit("push.tac: set TWISTED_PUSH_CONFIG to the path of the configuration file")

options = Options()
try:
    options.parseOptions(["--config", path])
except UsageError as error:
    raise SystemExit(f"push.tac: {error}") from None

application = Application("push")
makeService(options).setServiceParent(application)
