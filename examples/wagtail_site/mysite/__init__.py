"""The site: its settings, its addresses, and the WSGI application."""

import sys
from pathlib import Path

# push_api and push_queue. In a project of your own, the two files are beside your apps.
sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))
