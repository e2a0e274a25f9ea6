"""What another package brings by entry points: found by name, imported when used, told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_spec import tiny_spec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).parent / "third_party"
"""A package with one thing of every kind, as its author would write it."""
ATTACK = "[harness.attacks]\n{} = their_package.attack:Dimming\n"


def install(site, project="their-package", entries=None, module=None):
    """The package as an installer leaves it in a folder of packages.

    Args:
        site: The folder.
        project: What the package is called.
        entries: Its entry points, in place of those of its ``pyproject.toml``.
        module: The text of each of its modules, in place of its own.
    """
    declared = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    if entries is None:
        entries = "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in found.items())
            for group, found in declared["entry-points"].items()
        )
    about = site / f"{project.replace('-', '_')}-{declared['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project}\nVersion: {declared['version']}\n"
    )
    (about / "entry_points.txt").write_text(entries)
    shutil.copytree(PACKAGE / "their_package", site / "their_package", dirs_exist_ok=True)
    if module is not None:
        for path in (site / "their_package").glob("[!_]*.py"):
            path.write_text(module)


@pytest.fixture
def command(tmp_path):
    """Runs the command in a process that finds the packages of a folder."""
    site = tmp_path / "site"

    def run(*arguments):
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    run.site, run.results = site, tmp_path / "results"
    return run


@pytest.fixture
def harness(command, tmp_path):
    """Runs the command on the text of a spec."""

    def run(spec, *arguments, tests="clean or under or deletion"):
        (tmp_path / "s.toml").write_text(spec)
        return command("-m", "harness", "run", "s.toml", "-k", tests, *arguments)

    run.site, run.results = command.site, command.results
    return run


def test_what_another_package_has_works_from_a_spec_and_is_on_the_page(harness):
    install(harness.site)
    spec = tiny_spec(
        backends=["numpy", "theirs"],
        attacks="[attacks.dimming]\nepsilons = [0.1, 0.2]\nstrength = 0.5",
        saliency='methods = ["gradient", "doubled"]',
    ).replace('name = "digits"', 'name = "copies"')
    spec = spec.replace("hidden = [16]", 'architecture = "pyramid"\nwidest = 16')
    tests = "clean or under or deletion or few-images or finite-logits or not-flat"
    done = harness(spec, tests=tests)
    assert done.returncode == 1, done.stdout + done.stderr  # as their check fails
    run = json.loads((harness.results / "run.json").read_text())
    found = {(r["backend"], r["check"], r["epsilon"]): r for r in run["records"]}
    for backend in ("numpy", "theirs"):
        clean, dimmed = found[backend, "clean", None], found[backend, "dimming", 0.2]
        assert dimmed["total"] == clean["total"] == 180
        assert 0 < dimmed["correct"] <= 180
        assert found[backend, "conformance/finite-logits", None]["status"] == "passed"
        assert found[backend, "validity/few-images", None]["status"] == "failed"
        assert found[backend, "validity/few-images", None]["reason"].startswith("180 images are")
        assert found[backend, "saliency-sanity/gradient/not-flat", None]["status"] == "passed"
        assert (backend, "saliency/doubled/deletion", None) in found
    # The same arithmetic, so the same model.
    assert found["theirs", "clean", None]["correct"] == found["numpy", "clean", None]["correct"]
    assert run["versions"]["their-package"] == "1.2"
    assert run["versions"]["theirs"] == "3.4"
    model = run["spec"]["models"]["mlp"]
    assert (model["architecture"], model["widest"], model["depth"]) == ("pyramid", 16, 2)
    assert run["spec"]["attacks"]["dimming"]["options"]["strength"] == 0.5
    page = (harness.results / "report.html").read_text()
    assert page.index('<section id="accuracy"') < page.index('<section id="hardest"')
    section = re.search(r'<section id="hardest".*?</section>', page, re.DOTALL)[0]
    assert "The hardest test" in section
    lowest = min(r["accuracy"] for r in run["records"] if r["accuracy"] is not None)
    assert f"{100 * lowest:.1f}\u202f%" in section
    for shown in ("dimming", "their-package", "few images", "finite logits", "not flat", "theirs"):
        assert shown in page


def test_its_backend_is_chosen_by_name(harness):
    install(harness.site)
    done = harness(tiny_spec(), "--backend", "theirs", tests="clean")
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((harness.results / "run.json").read_text())
    assert {record["backend"] for record in run["records"]} == {"theirs"}
    assert run["versions"]["their-package"] == "1.2"


def test_its_networks_are_wrapped_and_its_package_goes_into_the_run(command):
    install(command.site)
    done = command(
        "-c",
        "import harness, numpy as np\n"
        "from their_package.backend import Matrix\n"
        "model = harness.wrap(Matrix(np.eye(4, 3)))\n"
        "x, y = np.eye(4, dtype='float32')[:3], [0, 1, 2]\n"
        "run = harness.evaluate(model, x, y, 'dimming', [0.5])\n"
        "print(run.records[0].backend, run.records[0].accuracy)\n"
        "print(run.versions['their-package'], run.versions['theirs'])\n"
        "harness.wrap(object())\n",
    )
    assert done.stdout.split() == ["theirs", "1.0", "1.2", "3.4"], done.stderr
    assert "object: not a network of a known framework" in done.stderr


def test_its_checks_are_tests_of_an_author(command, tmp_path):
    install(command.site)
    (tmp_path / "test_mine.py").write_text(
        "import numpy as np\n"
        "from harness.checks.conformance import Evidence\n"
        "from harness.protocol import UNIT\n"
        "from harness.registry import backend\n"
        "from harness.testing import parametrize_with_checks\n"
        "from their_package.backend import Matrix\n"
        "model = backend('theirs').wrap(Matrix(np.eye(4, 3)), UNIT)\n"
        "case = Evidence(model, np.eye(4, dtype='float32')[:3], np.arange(3))\n"
        "@parametrize_with_checks([case])\n"
        "def test_it(evidence, check):\n"
        "    check(evidence)\n"
    )
    done = command("-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "test_mine.py")
    assert "PASSED test_mine.py::test_it[finite-logits]" in done.stdout


def test_its_architecture_is_built_by_name(command):
    install(command.site)
    done = command(
        "-c",
        "from harness.networks.families import ImageKind, architecture_of\n"
        "made = architecture_of('pyramid', {'widest': 8}, ImageKind((6, 6), 10))\n"
        "print([layer.width for layer in made.layers if hasattr(layer, 'width')])\n",
    )
    assert done.stdout.strip() == "[8, 4, 10]", done.stderr


def test_its_certifier_is_made_by_name(command):
    install(command.site)
    done = command(
        "-c",
        "from harness.certification import make_certifier\n"
        "print(make_certifier('cautious', options={'least': 0.1}).least)\n"
        "make_certifier('cautious', options={'lest': 0.1})\n",
    )
    assert done.stdout.strip() == "0.1", done.stderr
    assert "lest: cautious has no such option; did you mean least?" in done.stderr


def test_a_name_that_two_packages_have_is_an_error_that_names_both(harness):
    install(harness.site)
    install(harness.site, "another", ATTACK.format("dimming"))
    done = harness(tiny_spec(attacks="[attacks.dimming]\nepsilons = [0.1]"))
    assert done.returncode == 2
    assert "dimming: " in done.stderr
    assert "another 1.2" in done.stderr
    assert "their-package 1.2" in done.stderr
    assert "each have an attack of this name" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("entries", "kind"),
    [
        (ATTACK.format("fgsm"), "an attack"),
        ("[harness.backends]\nnumpy = their_package.backend:TheirBackend\n", "a backend"),
    ],
)
def test_a_name_of_the_harness_itself_cannot_be_taken(harness, entries, kind):
    install(harness.site, entries=entries)
    done = harness(tiny_spec())
    assert done.returncode == 2
    assert f"robustness-harness and their-package 1.2 each have {kind}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_that_does_not_import_is_one_line_and_only_if_it_is_used(harness):
    install(harness.site, module="raise ImportError('no such thing')")
    done = harness(tiny_spec(attacks="[attacks.dimming]\nepsilons = [0.1]"))
    assert done.returncode == 2
    line = "the attack of their-package 1.2 does not import (ImportError: no such thing)"
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    done = harness(tiny_spec(), "--backend", "theirs")
    assert done.returncode == 2
    assert "backend theirs: the backend of their-package 1.2 does not import" in done.stderr
    assert "Traceback" not in done.stderr
    assert harness(tiny_spec()).returncode == 0
    page = (harness.results / "report.html").read_text()
    assert "This section of their-package 1.2 is missing: hardest: the section of" in page


def test_a_check_that_does_not_import_is_an_error_of_its_own(harness):
    install(harness.site, module="raise ImportError('no such thing')")
    done = harness(tiny_spec(), tests="few-images or clean")
    assert done.returncode == 1
    run = json.loads((harness.results / "run.json").read_text())
    found = {r["check"]: r for r in run["records"]}
    assert found["clean"]["status"] == "passed"
    assert found["validity/few-images"]["status"] == "error"
    assert (
        "the check of their-package 1.2 does not import" in found["validity/few-images"]["reason"]
    )
