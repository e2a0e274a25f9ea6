"""In an environment that is somebody else's, the plugin breaks, slows and touches nothing."""

from __future__ import annotations

import sys

import pytest
from tiny_spec import tiny_spec

from harness.results.run import Run
from harness.spec.reading import suites_folder

pytest_plugins = ["pytester"]
SUITES = suites_folder()
OPTIONS = ("spec", "backend", "seed", "results", "baseline", "retrain")
UNLOADED = """
import sys

def test_nothing_of_the_harness_is_at_work(pytestconfig):
    ours = {"harness", "backends", "suites", "reports", "robustness_harness", "numpy", "rich"}
    assert not ours & {name.partition(".")[0] for name in sys.modules}
    plugins = dict(pytestconfig.pluginmanager.list_name_plugin())
    assert [name for name in plugins if "robustness" in name] == ["robustness-harness"]
    hooks = {name for name in dir(plugins["robustness-harness"]) if name.startswith("pytest_")}
    assert hooks == {"pytest_addoption", "pytest_configure"}
"""


@pytest.fixture
def foreign(pytester):
    """Run pytest in a process of its own, in a project that has never heard of the harness."""

    def run(*arguments):
        # Plugins of others, which import NumPy if it is there.
        theirs = ("-p", "no:hypothesispytest", "-p", "no:jaxtyping")
        return pytester.runpytest_subprocess(*theirs, *arguments)

    return run


# What others call their own


def test_options_of_the_same_names(foreign, pytester):
    names = ", ".join(repr(f"--{name}") for name in OPTIONS)
    pytester.makeconftest(
        f"""
        def pytest_addoption(parser):
            for name in ({names}):
                parser.addoption(name, default="none")
        """
    )
    pytester.makepyfile(
        test_theirs="""
        def test_options(pytestconfig):
            assert pytestconfig.getoption("--seed") == "3"
            assert pytestconfig.getoption("--spec") == "theirs.toml"
            assert pytestconfig.getoption("--baseline") == "none"
        """,
        test_unloaded=UNLOADED,
    )
    result = foreign("--seed", "3", "--spec", "theirs.toml")
    assert result.ret == 0
    result.assert_outcomes(passed=2)


def test_fixtures_and_markers_of_the_same_names(foreign, pytester):
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers\nmarkers =\n  check\n  defended\n  speed"
    )
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def model():
            return "theirs"

        @pytest.fixture
        def judge(model):
            return model.upper()
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.check("clean")
        @pytest.mark.defended
        @pytest.mark.parametrize("attack", ["by night"])
        @pytest.mark.parametrize("epsilon", [1, 2])
        def test_theirs(model, judge, attack, epsilon):
            assert (model, judge) == ("theirs", "THEIRS")

        @pytest.mark.check("clean")
        @pytest.mark.parametrize("model", ["numpy", "torch"])
        def test_fails(model):
            assert model == "numpy"
        """
    )
    result = foreign()
    result.assert_outcomes(passed=3, failed=1)
    assert "robustness:" not in result.stdout.str()
    assert not (pytester.path / "results").exists()


def test_a_folder_named_suites(foreign, pytester):
    pytester.makeini("[pytest]\naddopts = --strict-markers\nmarkers = speed")
    parts = pytester.path / "results" / ".parts"
    parts.mkdir(parents=True)
    (parts / "theirs").write_text("kept")
    suites = pytester.mkpydir("suites")
    (suites / "test_fast.py").write_text(
        "import pytest\n\n@pytest.mark.speed\ndef test_fast():\n    pass\n"
    )
    for arguments in ((), ("suites",), ("-n", "2", "suites")):
        if "-n" in arguments:
            pytest.importorskip("xdist")
        foreign(*arguments).assert_outcomes(passed=1)
    assert (parts / "theirs").read_text() == "kept"


def test_packages_of_the_same_names(foreign, pytester):
    for name in ("harness", "backends", "suites", "reports"):
        (pytester.mkpydir(name) / "mine.py").write_text(f"NAME = {name!r}\n")
    pytester.makepyfile(
        """
        import backends.mine, harness.mine, reports.mine, suites.mine

        def test_theirs():
            assert harness.mine.NAME == "harness"
        """
    )
    foreign().assert_outcomes(passed=1)
    result = foreign("--robustness-spec", "digits")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.stderr.lines if line.strip()]
    assert line.startswith(f"ERROR: {pytester.path / 'harness'} hides the package 'harness' of ")


def test_help_and_markers_show_names_with_a_prefix_alone(foreign, pytester):
    pytester.makepyfile("def test_one(): pass")
    text = foreign("--help").stdout.str()
    for name in OPTIONS:
        assert f"--robustness-{name}" in text
        assert f" --{name}" not in text
    for name in ("spec", "backend", "results"):
        assert f"robustness_{name} " in text
    text = foreign("--markers").stdout.str()
    assert "@pytest.mark.robustness_check(name):" in text
    for name in ("check", "defended", "speed"):
        assert f"@pytest.mark.{name}" not in text


def test_it_can_be_switched_off(foreign, pytester):
    pytester.makepyfile("def test_one(pytestconfig): pass")
    foreign("-p", "no:robustness-harness").assert_outcomes(passed=1)
    assert "robustness" not in foreign("-p", "no:robustness-harness", "--help").stdout.str()


# Tests of a project that do ask for it


MEASURING = """
import pytest

@pytest.mark.robustness_check("clean")
def test_clean(robustness_model, robustness_judge):
    robustness_judge(robustness_model.clean())

def test_other():
    pass
"""


def test_a_project_measures_by_an_option_or_by_its_ini_file(foreign, pytester):
    pytester.makepyfile(MEASURING)
    (pytester.mkdir("specs") / "tiny.toml").write_text(tiny_spec())
    result = foreign("--robustness-spec", "specs/tiny.toml", "--robustness-results", "here")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["robustness: spec tiny (*"])
    run = Run.load(pytester.path / "here")
    assert [(record.check, record.status) for record in run.records] == [("clean", "passed")]

    pytester.makeini(
        "[pytest]\nrobustness_spec = specs/tiny.toml\nrobustness_results = there\n"
        "robustness_backend = numpy"
    )
    below = pytester.mkdir("below")
    (below / "test_below.py").write_text(MEASURING)
    pytester.chdir()
    foreign("below").assert_outcomes(passed=2)
    assert Run.load(pytester.path / "there").records


def test_without_a_spec_such_a_test_says_what_to_do(foreign, pytester):
    pytester.makepyfile(MEASURING)
    result = foreign()
    result.assert_outcomes(passed=1, errors=1)
    assert "name a spec with --robustness-spec, or as robustness_spec in" in result.stdout.str()


# Our suites beside other plugins


def test_the_suites_start_though_a_plugin_has_claimed_a_short_option(foreign, pytester):
    pytester.makepyfile(
        claims="""
        def pytest_addoption(parser):
            parser.addoption("--seed", type=int)
            parser.getgroup("theirs").addoption("--spec")
        """
    )
    spec = pytester.makefile(".toml", tiny=tiny_spec())
    chosen = (SUITES, "-p", "claims", "--collect-only", "-k", "clean", "-p", "no:cacheprovider")
    result = foreign(*chosen, "--seed", "3", "--robustness-spec", spec, "--robustness-seed", "5")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "robustness: --spec is another plugin's here; use --robustness-spec",
            "robustness: --seed is another plugin's here; use --robustness-seed",
            "*test_clean_accuracy?numpy-mlp?*",
        ],
        consecutive=False,
    )


@pytest.mark.parametrize("how", ["blocked", "not loaded"])
def test_the_suites_find_the_plugin_where_it_is_switched_off(foreign, pytester, monkeypatch, how):
    spec = pytester.makefile(".toml", tiny=tiny_spec())
    if how == "not loaded":
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    off = ("-p", "no:robustness-harness") if how == "blocked" else ()
    result = foreign(
        SUITES / "test_clean.py", *off, "-p", "no:cacheprovider", f"--spec={spec}", "--seed", "5"
    )
    result.assert_outcomes(passed=1)
    assert Run.load(pytester.path / "results").spec["seed"] == 5


def test_the_command_runs_where_plugins_are_not_loaded(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    spec = pytester.makefile(".toml", tiny=tiny_spec())
    words = ("run", str(spec), "-k", "clean", "--seed", "5", "--out", "out")
    result = pytester.run(sys.executable, "-m", "harness", *words)
    assert result.ret == 0
    run = Run.load(pytester.path / "out")
    assert (run.spec["seed"], len(run.records)) == (5, 1)


def test_short_names_do_not_reach_other_tests_of_the_session(foreign, pytester):
    spec = pytester.makefile(".toml", tiny=tiny_spec())
    theirs = pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def model():
            return "theirs"

        @pytest.mark.check("clean")
        def test_theirs(model):
            assert model == "theirs"

        @pytest.mark.speed
        def test_fast():
            pass
        """
    )
    result = foreign(SUITES / "test_clean.py", theirs, "-p", "no:cacheprovider", f"--spec={spec}")
    result.assert_outcomes(passed=3)
    assert len(Run.load(pytester.path / "results").records) == 1
