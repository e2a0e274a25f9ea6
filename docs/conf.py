"""The site of the documentation: Sphinx with myst-nb and furo; ``tox -e docs`` builds it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import tomllib

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import generated  # noqa: E402  # lies beside this file

_about = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _about["name"]
author = _about["authors"][0]["name"]
project_copyright = author
release = _about["version"]
html_title = f"{project} {release}"
REPOSITORY = _about["urls"]["Repository"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns: list[str] = []
html_theme = "furo"
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}
html_show_sourcelink = False

myst_heading_anchors = 3
# Notebooks are text (jupytext), and are executed each time; a cell that raises fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 60
nb_merge_streams = True

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def _fill(app: Any, page: str, source: list[str]) -> None:
    source[0] = generated.filled(source[0], page, f"{REPOSITORY}/blob/main")


def _escape(app: Any, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A shape, ``(n, *shape)``, begins no emphasis."""
    lines[:] = [re.sub(r"\*shape\b(?!\*)", r"\\*shape", line) for line in lines]


def setup(app: Any) -> dict[str, bool]:
    """Generated parts, and links to files of the repository, are put in as pages are read."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _escape)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
