"""What a project is judged by from outside: address, citation, hooks, action, image, sdist."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.spec.__main__ import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "tox.ini").is_file(), reason="not in a checkout")


def document(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def told_options(command):
    """What ``harness COMMAND --help`` lists."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", command, "--help"], capture_output=True, text=True,
        check=True, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "PATH": ""}, cwd=ROOT,
    )  # fmt: skip
    return set(re.findall(r"--[a-z]+", done.stdout))


def test_the_citation_is_of_this_project(project):
    citation = document("CITATION.cff")
    assert citation["title"] == project["name"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == project["urls"]["Repository"]
    assert [one["name"] for one in citation["authors"]] == [a["name"] for a in project["authors"]]
    assert set(citation["keywords"]) == set(project["keywords"])


def test_a_bare_installation_brings_what_evaluating_judging_and_gating_need(project):
    bare = {re.split("[><=;]", one)[0].strip() for one in project["dependencies"]}
    assert bare >= {"pytest", "pytest-benchmark", "numpy", "pandas", "jinja2", "matplotlib"}
    extras = project["optional-dependencies"]
    assert not bare & {re.split("[><=;]", one)[0] for one in extras["search"]}
    assert "search" in extras["all"][0]
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"install .*--editable '\.\[all\]'", make)


# The hook


def test_the_hook_says_what_is_wrong_with_a_spec(tmp_path, capsys):
    good = ROOT / "suites" / "specs" / "digits.toml"
    bad = tmp_path / "robustness.toml"
    bad.write_text('name = "x"\n[attacks.pgd]\nepsilon = [0.1]\n')
    assert main([str(good)]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([str(bad), str(good)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "attacks.pgd.epsilon: unknown key; did you mean epsilons?" in err


def test_hooks_call_what_is_there():
    hooks = {hook["id"]: hook for hook in document(".pre-commit-hooks.yaml")}
    assert re.search(hooks["harness-spec"]["files"], "sub/robustness.toml")
    assert not re.search(hooks["harness-spec"]["files"], "robustness.toml.orig")
    assert hooks["harness-spec"]["entry"].split()[:3] == ["python", "-m", "harness.spec"]
    assert hooks["harness-gate"]["entry"] == "harness gate"
    assert {one for one in hooks["harness-gate"]["args"] if one[0] == "-"} <= told_options("gate")
    assert all(hook["language"] == "python" for hook in hooks.values())


# The action


def test_the_action_calls_commands_with_options_that_there_are():
    steps = document("action.yml")["runs"]["steps"]
    commands = "\n".join(step.get("run", "") for step in steps)
    called = re.findall(r"harness (\w+)( .*)", commands)
    assert [command for command, _ in called] == ["run", "gate", "report"]
    for command, arguments in called:
        assert set(re.findall(r"(--[a-z]+)", arguments)) <= told_options(command)


def test_inputs_of_the_action_are_all_used_and_never_part_of_a_command():
    action = document("action.yml")
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    for name in action["inputs"]:
        assert f"inputs.{name}" in text.partition("\nruns:")[2], name
    used = set(re.findall(r"inputs\.([\w-]+)", text))
    assert used == set(action["inputs"])
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), step["name"]
        assert step.get("shell", "bash") == "bash"


STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$1" in gate) echo "| table |" > "$OUT/gate.md"; exit "$GATE" ;; esac
"""
"""Stands in for a program: it writes down how it was called."""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, as the action does")
@pytest.mark.parametrize("verdict", [0, 1, 2])
def test_the_steps_of_the_action_run_gate_and_comment(tmp_path, verdict):
    (tmp_path / "bin").mkdir()
    for name in ("harness", "gh", "python"):
        (tmp_path / "bin" / name).write_text(STUB)
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_ACTION_PATH": "/action",
        "EXTRAS": "torch,onnx", "INSTALL": "", "SPEC": "a b.toml", "OUT": str(tmp_path),
        "ARGUMENTS": "--backend torch", "BASELINE": "base", "GATE": str(verdict), "NUMBER": "7",
        "REPOSITORY": "o/r", "GH_TOKEN": "",
    }  # fmt: skip
    codes = {}
    for step in document("action.yml")["runs"]["steps"]:
        if "run" in step:
            assert set(step.get("env", ())) <= set(environment)
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            codes[step["name"]] = subprocess.run(command, env=environment, check=False).returncode
    assert codes == {"Install": 0, "Measure": 0, "Gate": verdict, "Comment": 0}
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "python -m pip install /action[torch,onnx]"
    assert calls[1] == f"harness run a b.toml --out {tmp_path} --backend torch"
    assert calls[2].startswith(f"harness gate {tmp_path} --baseline base --markdown")
    assert calls[3] == f"harness report {tmp_path} --baseline base"
    assert calls[4].startswith("gh pr comment 7 --repo o/r --body-file")
    assert (tmp_path / "summary").read_text() == "| table |\n"


def test_the_documented_step_has_inputs_that_there_are():
    page = (ROOT / "docs" / "engineer.md").read_text(encoding="utf-8")
    workflow = next(
        found for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        if "jobs" in (found := yaml.safe_load(block))
    )  # fmt: skip
    (step,) = [
        one for one in workflow["jobs"]["robustness"]["steps"]
        if one["uses"].startswith("robustness-harness/")
    ]  # fmt: skip
    assert set(step["with"]) <= set(document("action.yml")["inputs"])


# The image


def test_what_the_dockerfile_copies_is_there_and_is_not_ignored():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    let = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
            assert re.search(rf"^!{re.escape(name)}(/\*\*)?$", let, re.MULTILINE), name
    assert not re.search(r":latest|^FROM \w+$", text, re.MULTILINE)
    assert re.search(r"^USER [1-9]\d*$", text, re.MULTILINE)


def test_extras_that_the_dockerfile_installs_are_there(project):
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


# The sdist


def test_what_an_sdist_lacks_is_found():
    spec = importlib.util.spec_from_file_location("check_sdist", ROOT / ".ci" / "check_sdist.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    packed = ["name-1", "name-1/a.py", "name-1/tests/b.py", "name-1/PKG-INFO"]
    assert module.missing(["a.py", "tests/b.py"], packed) == []
    assert module.missing(["a.py", "docs/c.md", "b.py"], packed) == ["b.py", "docs/c.md"]


# Templates


def test_issue_templates_are_forms_with_labels_and_ids():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = [path for path in folder.glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 3
    for path in forms:
        form = document(path.relative_to(ROOT))
        assert form["name"]
        assert form["description"]
        fields = [part for part in form["body"] if part["type"] != "markdown"]
        assert len({part["id"] for part in fields}) == len(fields)
        assert all(part["attributes"]["label"] for part in fields)
