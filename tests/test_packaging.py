"""What a package asks of an environment that is somebody else's, and the project's own ones."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "tox.ini").is_file(), reason="not in a checkout")
TESTED = ("torch", "keras", "onnx", "cluster", "search", "test")
"""The extras whose lowest versions are pinned."""


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_no_requirement_has_an_upper_bound(project):
    extras = project["optional-dependencies"].values()
    for requirement in [*project["dependencies"], *(one for extra in extras for one in extra)]:
        named, _, marker = requirement.partition(";")
        assert not re.search("[<~!]|==", named), requirement
        assert marker == "" or "python_version" in marker


def test_the_lowest_versions_are_those_of_the_package(project):
    wanted = list(project["dependencies"])
    for extra in TESTED:
        wanted += project["optional-dependencies"][extra]
    lowest = {re.sub(">=", "==", one.partition(";")[0].strip()) for one in wanted}
    assert set(pins("constraints-lowest.txt")) == lowest


def test_the_project_s_own_environments_share_one_file_of_upper_bounds():
    assert {re.split("<", line)[0] for line in pins("constraints.txt")} == {
        "torch", "tensorflow", "keras",
    }  # fmt: skip
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    assert tox["testenv"]["constraints"] == "{tox_root}/constraints.txt"
    own = {name for name in tox.sections() if "constraints" in tox[name]}
    assert own == {"testenv", "testenv:lowest"}
    installs = [
        line
        for name in ("Makefile", "CONTRIBUTING.md", ".github/workflows/robustness.yml")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if "pip install" in line and re.search(r"\.\[|matrix", line)
    ]
    assert len(installs) == 3
    assert all("--constraint constraints.txt" in line for line in installs)


def test_data_files_are_in_the_package(project):
    """Whatever lies beside the modules is in wheel and sdist, but for weights of others."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]
    for package, patterns in setuptools["package-data"].items():
        folder = ROOT / package
        packed = {path for pattern in patterns for path in folder.glob(pattern)}
        lying = {
            path for path in folder.rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc", ".safetensors")
            and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        }  # fmt: skip
        assert not lying - packed, package
        assert packed


def test_ci_passes_on_what_lies_beside_the_checkout():
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    passed = tox["testenv"]["pass_env"].split()
    said = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for variable in ("HARNESS_DATA_DIR", "HARNESS_MODELS_DIR"):
        assert variable in passed
        assert re.search(rf"^export .*\b{variable}\b", said, re.MULTILINE)


def test_ci_trains_small_networks_and_full_ones_are_asked_for():
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    full = [name for name in tox.sections() if "run mnist " in tox[name].get("commands", "")]
    assert full == ["testenv:full"]
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    ci = make.partition("\nci:")[2].partition("\n\n")[0]
    wanted = {
        "lint", "types", "base", "torch", "keras", "jax", "lowest", "browser", "peers", "models",
        "docs", "dist",
    }  # fmt: skip
    assert "{[testenv:mnist]commands}" in tox["testenv:models"]["commands"]
    assert set(tox["testenv:mnist"]["extras"].split(", ")) <= set(
        tox["testenv:models"]["extras"].split(", ")
    )
    assert set(re.findall(r"\w+", " ".join(re.findall(r"-e (\S+)", ci)))) == wanted
    assert "full" not in ci
