"""The pages of the documentation, and what they link to."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ADDRESS = "https://github.com/robustness-harness/robustness-harness"
"""What pyproject.toml says; a test holds the two together."""


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name):
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def slug(heading):
    """The anchor of a heading, as GitHub and MyST make it."""
    words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return words.replace(" ", "-")


def prose(text):
    """A page without its code."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)
