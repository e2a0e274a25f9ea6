"""The workflow for GitHub Actions: it asks for little, and its commands and files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from harness import registry
from harness.cli import app
from harness.gate import store
from harness.spec.reading import load_spec

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "robustness.yml"

pytestmark = pytest.mark.skipif(not WORKFLOW.is_file(), reason="not in a checkout")


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def job(workflow):
    (job,) = workflow["jobs"].values()
    return job


def commands(job, backend):
    """The commands of the steps, as words."""
    for step in job["steps"]:
        text = step.get("run", "")
        text = text.replace("${{ matrix.backend }}", backend)
        yield from (shlex.split(line) for line in text.splitlines() if line.strip())


def test_it_may_read_the_code_and_nothing_else(workflow, job):
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in job
    assert set(workflow[True]) == {"push", "pull_request", "workflow_dispatch"}  # YAML's "on"


def test_actions_are_pinned_to_a_major_version_and_of_one_publisher(job):
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert {name.partition("@")[0] for name in used} == {
        "actions/checkout", "actions/setup-python", "actions/cache", "actions/upload-artifact",
    }  # fmt: skip
    assert all(re.fullmatch(r"[\w/-]+@v\d+", name) for name in used)


def test_every_backend_is_measured_and_gated(job):
    matrix = job["strategy"]["matrix"]["include"]
    assert {entry["backend"] for entry in matrix} == set(registry.builders())
    assert job["strategy"]["fail-fast"] is False


def test_the_commands_and_their_options_exist(job):
    command = get_command(app)
    seen = []
    for words in commands(job, "numpy"):
        if words[0] != "harness":
            assert words[:4] == ["python", "-m", "pip", "install"]
            continue
        cut = words.index(">>") if ">>" in words else len(words)
        sub = command.commands[words[1]]
        context = sub.make_context(words[1], words[2:cut])  # refuses unknown options
        seen.append((words[1], context.params))
    assert [name for name, _ in seen] == ["run", "gate", "report"]
    run, gate, report = (params for _, params in seen)
    assert load_spec(run["spec"]).name == "digits"
    assert gate["run_folder"] == run["out"]
    # Some releases of typer give a tuple.
    assert list(gate["backend"]) == list(run["backend"]) == ["numpy"]
    assert gate["markdown"] == "-"
    assert list(report["run_folders"]) == [run["out"]]
    assert report["baseline"] == gate["baseline"]
    assert list(report["backend"]) == list(gate["backend"])
    baseline = store.read(ROOT / gate["baseline"])
    assert baseline.spec == "digits"
    assert {key[1] for key in baseline.keys} >= set(registry.builders())


def test_the_gate_and_the_report_do_not_depend_on_the_suites_passing(job):
    steps = {step.get("name"): step for step in job["steps"]}
    for name in ("Gate", "Report", "Keep the report"):
        assert steps[name]["if"] == "${{ !cancelled() }}"
    assert steps["Keep the report"]["with"]["path"] == "results"


def test_models_are_not_cached_across_changes_of_what_trains_them(job):
    (cache,) = [step["with"] for step in job["steps"] if "actions/cache@" in step.get("uses", "")]
    for part in ("constraints.txt", "harness/**/*.py", "backends/**/*.py", "suites/specs/*.toml"):
        assert part in cache["key"]
    assert job["env"]["HARNESS_CACHE_DIR"].endswith(cache["path"])


# The tests on every change

TESTS = WORKFLOW.with_name("tests.yml")


@pytest.fixture(scope="module")
def tests():
    return yaml.safe_load(TESTS.read_text(encoding="utf-8"))


def test_the_tests_run_on_every_pull_request_and_may_read_alone(tests):
    assert set(tests[True]) == {"push", "pull_request", "workflow_dispatch"}
    assert tests["permissions"] == {"contents": "read"}
    used = [
        step["uses"] for job in tests["jobs"].values() for step in job["steps"] if "uses" in step
    ]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", name) for name in used)


def test_they_run_on_each_python_and_in_environments_that_there_are(tests):
    matrix = tests["jobs"]["tests"]["strategy"]["matrix"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert matrix["python"] == re.findall(r"Python :: (3\.\d+)\"", project)
    environments = set(re.findall(r"^\[testenv:(\w+)\]", (ROOT / "tox.ini").read_text(), re.M))
    environments |= {"torch", "keras", "jax"}  # of the list of environments
    assert {*matrix["backend"], "lint", "types"} <= environments
    (style,) = (step["run"] for step in tests["jobs"]["style"]["steps"] if "tox run" in str(step))
    assert style == "tox run -e lint,types,docs,dist"
