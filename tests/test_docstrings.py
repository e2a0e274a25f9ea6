"""Docstrings that send the reader to the protocol send him to where the method is."""

import ast
import re
from pathlib import Path

import pytest

import backends
import harness
import harness.protocol as protocol

FILES = [
    path for package in (backends, harness) for path in Path(package.__path__[0]).rglob("*.py")
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_a_docstring_refers_to_is_there(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            for name in re.findall(r"^See ``protocol\.(\w+)``", ast.get_docstring(node) or ""):
                assert hasattr(getattr(protocol, name), node.name), f"{node.name}: not in {name}"
