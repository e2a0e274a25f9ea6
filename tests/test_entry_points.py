"""What another package brings by entry points: found by name, imported when used, told."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tiny_spec import tiny_spec

MODULE = """
from dataclasses import dataclass

from harness.data import digits


@dataclass(frozen=True)
class Dimming:
    strength: float = 1.0
    name: str = "dimming"
    norm: str = "linf"
    requires: frozenset = frozenset()

    def perturb(self, model, x, y, epsilons, *, index):
        return (model.xp.maximum(x - self.strength * e, 0.0 * x) for e in epsilons)


class Copies:
    def prepare(self):
        return []

    def load(self):
        return digits.load()


def doubled(model, x, y, index):
    return 2.0 * x


def broken(*_):
    raise ImportError("never")


copies = Copies()
"""
ENTRIES = """
[harness.attacks]
dimming = their_module:Dimming
[harness.datasets]
copies = their_module:copies
[harness.saliency]
doubled = their_module:doubled
"""


def install(site, package, entries, module=MODULE):
    """A package as an installer leaves it in a folder of packages."""
    about = site / f"{package.replace('-', '_')}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(entries)
    (site / "their_module.py").write_text(module)


@pytest.fixture
def harness(tmp_path):
    """Runs the command in a process that finds the packages of a folder, and reads its run."""
    site = tmp_path / "site"

    def run(spec):
        (tmp_path / "s.toml").write_text(spec)
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
        return subprocess.run(
            [sys.executable, "-m", "harness", "run", "s.toml", "-k", "clean or under or deletion"],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    run.site, run.results = site, tmp_path / "results"
    return run


def test_an_attack_a_dataset_and_a_method_of_another_package_work_from_a_spec(harness):
    install(harness.site, "their-package", ENTRIES)
    spec = tiny_spec(
        attacks="[attacks.dimming]\nepsilons = [0.1, 0.2]\nstrength = 0.5",
        saliency='methods = ["gradient", "doubled"]',
    ).replace('name = "digits"', 'name = "copies"')
    done = harness(spec)
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((harness.results / "run.json").read_text())
    found = {(r["check"], r["epsilon"]): r for r in run["records"]}
    clean, dimmed = found["clean", None], found["dimming", 0.2]
    assert dimmed["total"] == clean["total"] == 180
    assert 0 < dimmed["correct"] <= 180
    assert ("saliency/doubled/deletion", None) in found
    assert run["versions"]["their-package"] == "1.2"
    assert run["spec"]["attacks"]["dimming"]["options"]["strength"] == 0.5
    page = (harness.results / "report.html").read_text()
    assert "dimming" in page
    assert "their-package" in page


def test_a_name_that_two_packages_have_is_an_error_that_names_both(harness):
    install(harness.site, "their-package", ENTRIES)
    install(harness.site, "another", "[harness.attacks]\ndimming = their_module:Dimming\n")
    done = harness(tiny_spec(attacks="[attacks.dimming]\nepsilons = [0.1]"))
    assert done.returncode == 2
    assert "dimming: " in done.stderr
    assert "another 1.2" in done.stderr
    assert "their-package 1.2" in done.stderr
    assert "each have an attack of this name" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_of_the_harness_itself_cannot_be_taken(harness):
    install(harness.site, "their-package", "[harness.attacks]\nfgsm = their_module:Dimming\n")
    done = harness(tiny_spec())
    assert done.returncode == 2
    assert "robustness-harness and their-package 1.2 each have an attack" in done.stderr


def test_a_package_that_does_not_import_is_one_line_and_only_if_it_is_used(harness):
    install(harness.site, "their-package", ENTRIES, module="raise ImportError('no such thing')")
    done = harness(tiny_spec(attacks="[attacks.dimming]\nepsilons = [0.1]"))
    assert done.returncode == 2
    line = "the attack of their-package 1.2 does not import (ImportError: no such thing)"
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert harness(tiny_spec()).returncode == 0
