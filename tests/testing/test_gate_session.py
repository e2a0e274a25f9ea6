"""``pytest suites --baseline``: the suites on a tiny spec end with the gate."""

from __future__ import annotations

import importlib

import pytest
import sklearn.datasets  # noqa: F401  # an inner session forgets what it was first to import
from tiny_spec import tiny_spec

import harness.evaluation.benchmark
import harness.results.summary
from harness import registry
from harness.attacks.fgsm import FGSM
from harness.checks.conformance import CHECKS
from harness.gate import store
from harness.results.run import Run
from harness.spec.reading import suites_folder

# Above all torch, which cannot be imported a second time.
registry.import_together({"torch"})

pytest_plugins = ["pytester"]
SUITES = suites_folder()
QUICK = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider")
FILES = [SUITES / f"test_{name}.py" for name in ("clean", "attacks", "conformance")]


@pytest.fixture(scope="module", autouse=True)
def torchs_compiler():
    """Training imports it late. Forgotten by an inner session, it cannot be imported again, and
    whatever trains in this process later on fails."""
    if not registry.missing("torch"):
        importlib.import_module("torch._dynamo")


@pytest.fixture
def suites(pytester):
    """Run some suites on a tiny spec; gives pytest's own result."""

    def run(*arguments, files=FILES, **changes):
        spec = pytester.makefile(".toml", tiny=tiny_spec(saliency="methods = []", **changes))
        return pytester.runpytest_inprocess(
            *files, "-c", SUITES / "pytest.ini", "--rootdir", SUITES, *QUICK, "--spec", spec,
            *arguments,
        )  # fmt: skip

    return run


@pytest.fixture
def accepted(suites, pytester):
    """A baseline of the tiny spec."""
    assert suites().ret == pytest.ExitCode.OK
    return store.accept(Run.load(pytester.path / "results"), pytester.path / "baselines")


@pytest.mark.usefixtures("accepted")
@pytest.mark.parametrize("processes", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_an_unchanged_model_passes(suites, processes):
    if processes:
        pytest.importorskip("xdist")
    result = suites("--baseline", "baselines", *processes)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "*robustness gate: *baselines*",
            "compared: * checks of 1 model, *",
            "numpy mlp: the baseline's model, *",
            "passed: * unch*",
        ]
    )


@pytest.mark.usefixtures("accepted")
def test_checks_that_vanished_fail_the_session_by_name(suites):
    result = suites("--baseline", "baselines", files=FILES[:2])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1 + 3)
    result.stdout.fnmatch_lines(
        ["vanished*", "  numpy mlp conformance/dtypes *", f"failed: {len(CHECKS)} vanished*"]
    )


@pytest.mark.usefixtures("accepted")
def test_a_weakened_attack_fails_the_session_by_name(suites, monkeypatch):
    # The same class with the same options, or the gate would call it another attack.
    perturb = FGSM.perturb

    def weak(self, model, x, y, epsilons, *, index):
        return perturb(self, model, x, y, [epsilon / 3 for epsilon in epsilons], index=index)

    monkeypatch.setattr(FGSM, "perturb", weak)
    result = suites("--baseline", "baselines", fgsm=(0.0, 1.0))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1 + 3 + len(CHECKS))
    result.stdout.fnmatch_lines(["improved implausibly*", "  numpy mlp fgsm eps=0.1 *"])


@pytest.mark.usefixtures("accepted")
def test_a_backend_that_is_missing_fails_unless_another_is_named(suites):
    result = suites("--baseline", "baselines", "--backend", "numpy")
    assert result.ret == pytest.ExitCode.OK
    result = suites("--baseline", "baselines", backends=("torch",))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    # Where torch is not installed, nothing at all was measured.
    without = "failed: the run measured nothing: torch mlp clean was skipped"
    gone = ["vanished*", "  numpy mlp clean *"]
    result.stdout.fnmatch_lines([without] if registry.missing("torch") else gone)


@pytest.mark.usefixtures("accepted")
def test_wrong_requests_are_one_line_before_anything_is_measured(suites, pytester):
    (pytester.path / "results" / "run.json").unlink()
    for arguments, words in (
        (("--baseline", "nowhere"), "there is no baseline"),
        (("--baseline", "baselines", "-k", "clean"), "leave -k out"),
        (("--baseline", "baselines", "--spec", "digits"), "of the spec 'tiny', not 'digits'"),
    ):
        result = suites(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        (line,) = [line for line in result.stderr.lines if line.strip()]
        assert words in line
    assert not (pytester.path / "results" / "run.json").exists()


@pytest.mark.usefixtures("accepted")
def test_other_data_is_a_usage_error_when_the_data_is_known(suites, monkeypatch):
    load = harness.evaluation.benchmark.load_dataset

    def other(*asked):
        dataset = load(*asked)
        object.__setattr__(dataset, "sha256", "0" * 64)
        return dataset

    monkeypatch.setattr(harness.evaluation.benchmark, "load_dataset", other)
    result = suites("--baseline", "baselines")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*baselines: incomparable: the data differ (*"])


def test_a_seed_of_the_command_line_is_the_runs(suites, pytester):
    assert suites("--seed", "5").ret == pytest.ExitCode.OK
    assert Run.load(pytester.path / "results").spec["seed"] == 5
    result = suites("--seed", "-5")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
