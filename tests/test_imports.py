"""Who imports whom: the engine knows no framework, and arrows between the folders point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import backends
import harness
import reports
import suites

FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "array_api_compat"}


def files(package):
    (folder,) = package.__path__
    return sorted(Path(folder).rglob("*.py"))


def name_of(path):
    return f"{path.parent.name}/{path.name}"


def imports(path):
    """Every module that a file imports, wherever in it; ``from a import b`` may be of a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(path):
    return {name.partition(".")[0] for name in imports(path)}


def loaded_by(code):
    """Top-level packages in memory after some code has run in a process of its own."""
    code = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_walk_finds_the_files():
    assert {path.name for path in files(backends)} >= {"torch_backend.py", "numpy_backend.py"}
    assert len(files(harness)) > 20
    assert packages(Path(__file__)) >= {"ast", "harness", "pytest"}


def test_the_whole_engine_loads_without_a_framework():
    code = (
        "import harness, importlib, pkgutil\n"
        "for found in pkgutil.walk_packages(harness.__path__, 'harness.'):\n"
        "    importlib.import_module(found.name)"
    )
    loaded = loaded_by(code)
    assert "harness" in loaded
    assert not loaded & (FRAMEWORKS | {"backends", "suites", "reports"})


def test_the_report_loads_without_a_framework():
    code = (
        "import reports, importlib, pkgutil\n"
        "for found in pkgutil.walk_packages(reports.__path__, 'reports.'):\n"
        "    importlib.import_module(found.name)"
    )
    loaded = loaded_by(code)
    assert {"reports", "matplotlib"} <= loaded
    assert not loaded & (FRAMEWORKS | {"backends", "suites", "sklearn"})


@pytest.mark.parametrize("path", files(harness), ids=name_of)
def test_the_engine_imports_no_framework_nor_what_builds_on_it(path):
    """Not inside functions either; only the command may draw reports."""
    allowed = {"reports"} if path.name == "cli.py" else set()
    assert not packages(path) & (FRAMEWORKS | {"backends", "suites", "reports"} - allowed)


@pytest.mark.parametrize("path", files(backends), ids=name_of)
def test_a_backend_knows_the_protocol_and_no_more(path):
    found = imports(path)
    ours = {name for name in found if name.partition(".")[0] in ("harness", "reports", "suites")}
    modules = {".".join(name.split(".")[:2]) for name in ours}
    assert modules <= {"harness.protocol", "harness.errors"}
    assert not any(name.startswith("backends") for name in found)


@pytest.mark.parametrize("path", files(backends), ids=name_of)
def test_a_backend_imports_its_own_framework_alone(path):
    own = {
        "torch_backend": {"torch", "array_api_compat"}, "keras_backend": {"keras", "tensorflow"},
    }.get(path.stem, set())  # fmt: skip
    assert packages(path) & FRAMEWORKS == own


@pytest.mark.parametrize("path", files(reports), ids=name_of)
def test_the_report_reads_runs_and_measures_nothing(path):
    assert not packages(path) & (FRAMEWORKS | {"backends", "suites", "pytest"})


# What the harness is timed against is in the frameworks' own words, or other libraries'.
@pytest.mark.parametrize(
    "path",
    [path for path in files(suites) if path.name not in ("plain_loops.py", "peers.py")],
    ids=name_of,
)
def test_the_suites_know_the_engine_alone(path):
    assert not packages(path) & (FRAMEWORKS | {"backends", "reports"})
