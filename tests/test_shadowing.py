"""Folders of a user that hide our packages: one line says which, wherever our code runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import robustness_harness
from robustness_harness import HOME, PACKAGES, shadowed

COMMAND = "from robustness_harness import main; main()"
"""What the console script does."""


def python(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment,
    )  # fmt: skip


def place(folder, name, kind):
    """A package, or a module, of a name of ours; what is said to hide it."""
    if kind == "module":
        (folder / f"{name}.py").write_text("")
        return folder / f"{name}.py"
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    return folder / name


def hides(done, where, name):
    """The one line, exit code 2, and nothing else."""
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"harness: {where} hides the package {name!r} of robustness-harness")
    assert "rename it" in line
    return True


def test_ctrl_c_while_the_command_is_loaded_is_exit_code_130_and_no_traceback(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    done = python("-c", COMMAND, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (130, "")


def test_nothing_is_hidden_here():
    assert shadowed() == ""
    assert {Path(HOME, name).is_dir() for name in PACKAGES} == {True}


@pytest.mark.parametrize("kind", ["package", "module"])
@pytest.mark.parametrize("name", PACKAGES)
def test_the_command_with_a_folder_of_that_name_on_the_path(tmp_path, name, kind):
    where = place(tmp_path / "theirs", name, kind) if kind == "package" else None
    if kind == "module":
        (tmp_path / "theirs").mkdir()
        where = place(tmp_path / "theirs", name, kind)
    done = python("-c", COMMAND, "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path / "theirs"))
    assert hides(done, where, name)


@pytest.mark.parametrize("name", ["backends", "reports"])
def test_the_module_run_in_a_folder_that_holds_one(tmp_path, name):
    where = place(tmp_path, name, "package")
    assert hides(python("-m", "harness", "data", "digits", cwd=tmp_path), where, name)


def test_a_folder_without_init_file_is_told_or_harmless(tmp_path):
    """It hides an editable install, and no other."""
    (tmp_path / "reports").mkdir()
    done = python("-m", "harness", "data", "digits", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") or hides(done, tmp_path / "reports", "reports")


def test_a_folder_without_init_file_before_an_editable_install(tmp_path):
    """The finder of such an install is asked last, and here it is not asked at all."""
    (tmp_path / "home").mkdir()
    shutil.copy(robustness_harness.__file__, tmp_path / "home")
    (tmp_path / "theirs" / "backends").mkdir(parents=True)
    code = (
        f"import sys; sys.path[:0] = {[str(tmp_path / 'theirs'), str(tmp_path / 'home')]}; "
        "import robustness_harness; print(robustness_harness.shadowed())"
    )
    done = python("-I", "-S", "-c", code, cwd=tmp_path)
    where = tmp_path / "theirs" / "backends"
    assert done.stdout.startswith(f"{where} hides the package 'backends'"), done


def test_a_link_to_our_own_folder_hides_nothing(tmp_path):
    (tmp_path / "link").symlink_to(HOME)
    code = "from robustness_harness import shadowed; print(repr(shadowed()))"
    done = python("-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "link"))
    assert done.stdout == "''\n", done


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("backends", "from harness import registry; registry.backend('numpy')"),
        ("suites", "from harness.spec.reading import load_spec; load_spec('digits')"),
    ],
)
def test_a_script_that_lies_beside_one(tmp_path, name, code):
    where = place(tmp_path, name, "package")
    (tmp_path / "script.py").write_text(
        "from harness.errors import HarnessError\n"
        f"try:\n    {code}\nexcept HarnessError as error:\n    print(error)\n"
    )
    done = python("script.py", cwd=tmp_path)
    assert done.stdout.startswith(f"{where} hides the package {name!r} of "), done


def test_a_module_in_memory_counts_as_found(monkeypatch, tmp_path):
    import types

    made = types.ModuleType("reports")  # as a test double would be; it has no file
    monkeypatch.setitem(sys.modules, "reports", made)
    assert shadowed("reports").startswith("a module 'reports' in memory hides the package")
    assert shadowed("harness", "backends") == ""
