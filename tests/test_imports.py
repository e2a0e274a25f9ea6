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

FRAMEWORKS = {
    "torch", "tensorflow", "keras", "jax", "flax", "equinox", "array_api_compat", "onnxruntime"
}  # fmt: skip

WEB = {"fastapi", "starlette", "uvicorn"}
"""Of the extra ``serve``."""
ON_FASTAPI = {f"harness.serve.{name}" for name in ("api", "routes", "server", "service", "strict")}
"""The modules that need it."""
ON_OPTUNA = {f"harness.search.{name}" for name in ("search", "study")}
"""Those that need the extra ``search``."""


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
    # What is built on FastAPI, or on Optuna, loads where that is installed.
    code = (
        "import harness, importlib, importlib.util, pkgutil\n"
        f"left = [] if importlib.util.find_spec('fastapi') else {sorted(ON_FASTAPI)}\n"
        f"left += [] if importlib.util.find_spec('optuna') else {sorted(ON_OPTUNA)}\n"
        "for found in pkgutil.walk_packages(harness.__path__, 'harness.'):\n"
        "    if found.name not in left:\n"
        "        importlib.import_module(found.name)"
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
    assert {"reports", "jinja2"} <= loaded
    assert not loaded & (FRAMEWORKS | {"backends", "suites", "sklearn"})


@pytest.mark.parametrize("path", files(harness), ids=name_of)
def test_the_engine_imports_no_framework_nor_what_builds_on_it(path):
    """Not inside functions either; only a command may draw reports, and ``DOORS``."""
    doors = {file for _, _, file in DOORS}
    allowed = {"reports"} if path.name == "cli_report.py" or name_of(path) in doors else set()
    assert not packages(path) & (FRAMEWORKS | {"backends", "suites", "reports"} - allowed)


@pytest.mark.parametrize("path", files(harness), ids=name_of)
def test_what_needs_a_web_framework_is_in_the_room_that_serves(path):
    module = ".".join(path.relative_to(Path(harness.__path__[0]).parent).with_suffix("").parts)
    assert module in ON_FASTAPI or not packages(path) & WEB


def test_the_command_loads_without_a_web_framework():
    assert not loaded_by("import harness.cli") & WEB


def framework_of(path):
    """The framework that a file in backends/ is of: ``keras`` of ``keras_wrapped.py``."""
    return path.stem.partition("_")[0]


@pytest.mark.parametrize("path", files(backends), ids=name_of)
def test_a_backend_knows_the_protocol_and_no_more(path):
    found = imports(path)
    ours = {name for name in found if name.partition(".")[0] in ("harness", "reports", "suites")}
    modules = {".".join(name.split(".")[:2]) for name in ours}
    assert modules <= {"harness.protocol", "harness.errors"}
    others = {name for name in found if name.partition(".")[0] == "backends"} - {"backends"}
    # Black boxes of any framework are built on that of functions.
    files_of_own = (f"backends.{framework_of(path)}_", "backends.callable_backend")
    assert all(name.startswith(files_of_own) for name in others)


@pytest.mark.parametrize("path", files(backends), ids=name_of)
def test_a_backend_imports_its_own_framework_alone(path):
    own = {
        "torch": {"torch", "array_api_compat"}, "keras": {"keras", "tensorflow"},
        "jax": {"jax", "flax", "equinox"}, "onnx": {"onnxruntime"}, "sklearn": {"sklearn"},
    }.get(framework_of(path), set())  # fmt: skip
    assert packages(path) & (FRAMEWORKS | {"sklearn"}) <= own
    siblings = [other for other in files(backends) if framework_of(other) == framework_of(path)]
    assert own <= set().union(*map(packages, siblings))  # so that the names above are right


@pytest.mark.parametrize("path", files(reports), ids=name_of)
def test_the_report_reads_runs_and_measures_nothing(path):
    assert not packages(path) & (FRAMEWORKS | {"backends", "suites", "pytest"})


# What the harness is timed against, in suites/speed, is in the frameworks' own words.
@pytest.mark.parametrize(
    "path", [path for path in files(suites) if path.parent.name != "speed"], ids=name_of
)
def test_the_suites_know_the_engine_alone(path):
    assert not packages(path) & (FRAMEWORKS | {"backends", "reports"})


# The house: a room is a package or a module directly in harness/, or backends/ or reports/.

FLOORS = (
    {"errors", "interruption"},
    {"factory", "files", "making", "names", "progress", "terminal", "protocol"},
    {"registry", "maths", "spec", "backends"},
    {"attacks", "certification", "cli_options", "data", "executors", "networks", "results"},
    {"saliency", "training", "gate"},
    {"checks", "search"},
    {"evaluation", "reports"},
    {
        "__init__",
        "cli_baseline",
        "cli_evaluate",
        "cli_export",
        "cli_init",
        "cli_list",
        "cli_report",
        "cli_reproduce",
        "cli_run",
        "serve",
        "testing",
    },
    {"cli"},
    {"__main__"},
)
"""From the ground up: a room imports only rooms below its floor."""


DOORS = {("results", "reports", "results/page.py")}
"""The imports that run up, and the file of each: ``Run.report`` draws a run that somebody has in
hand, and there is nothing else in that file; it is imported when it is called, and no sooner."""


def room_of(module):
    """The room that a module is in; None of what is none of ours."""
    first, _, rest = module.partition(".")
    if first in ("backends", "reports"):
        return first
    name = rest.partition(".")[0]
    if first != "harness":
        return None
    return name if name in set().union(*FLOORS) else "__init__"


def rooms_imported(path):
    """The rooms that a file imports; ``from harness import registry`` is of that room alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (room_of(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "harness":
            yield from (room_of(f"harness.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield room_of(node.module)


def arrows():
    """Every import of one room by another, as (room, imported room), with a file that has it."""
    found = {}
    for package in (harness, backends, reports):
        home = Path(next(iter(package.__path__))).parent
        for path in files(package):
            own = room_of(".".join(path.relative_to(home).with_suffix("").parts))
            found |= {(own, room): name_of(path) for room in rooms_imported(path)}
    return {(own, room): file for (own, room), file in found.items() if room not in (None, own)}


def test_every_room_is_on_a_floor():
    rooms = {room_of(f"harness.{path.stem}") for path in Path(harness.__path__[0]).glob("*.py")}
    rooms |= {path.parent.name for path in Path(harness.__path__[0]).glob("*/__init__.py")}
    assert rooms | {"backends", "reports"} == set().union(*FLOORS)
    assert sum(map(len, FLOORS)) == len(set().union(*FLOORS))
    assert len(FLOORS) <= 10


def test_no_arrow_runs_up_or_along_a_floor():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found = arrows()
    assert len(found) > 50
    up = {(*pair, file) for pair, file in found.items() if floor[pair[0]] <= floor[pair[1]]}
    assert up == DOORS
