"""Settings of the documentation: MyST pages, the furo theme, no network."""

import tomllib
from pathlib import Path

with open(Path(__file__).parents[1] / "pyproject.toml", "rb") as _file:
    _project = tomllib.load(_file)["project"]

project = "twisted_push"
author = _project["authors"][0]["name"]
project_copyright = author
version = release = _project["version"]

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

# PHP without an opening tag, as in most examples.
highlight_options = {"php": {"startinline": True}}

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sourcelink = False
