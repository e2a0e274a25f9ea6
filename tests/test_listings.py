"""What the command lists and suggests, and that its tables fit a terminal of 80 columns."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from rich.console import Console

from harness import cli
from harness.attacks import ATTACKS
from harness.results.records import counted
from harness.results.run import Run
from harness.results.summary import accuracy_tables
from harness.spec.reading import spec_names


@pytest.fixture
def command(capfd, monkeypatch):
    """Run the command in this process: exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    return run


def test_the_version(command):
    code, out, _ = command("--version")
    assert (code, out) == (0, f"robustness-harness {version('robustness-harness')}\n")


@pytest.mark.parametrize(("what", "names"), [("specs", spec_names()), ("attacks", list(ATTACKS))])
def test_what_there_is_is_listed_in_eighty_columns(command, what, names):
    code, out, err = command(what)
    assert (code, err) == (0, "")
    listed = {line.split()[0] for line in out.splitlines() if line[:1].strip()}
    assert set(names) <= listed
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out


def test_an_attack_is_listed_with_its_norm_and_what_it_needs(command):
    lines = command("attacks")[1].splitlines()
    assert next(line for line in lines if line.startswith("fgm-l2")).split()[:3] == [
        "fgm-l2", "L2", "gradient",
    ]  # fmt: skip
    assert next(line for line in lines if line.startswith("noise")).split()[:3] == [
        "noise", "L∞", "Random",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("evalute",), "evaluate"),
        (("specks",), "specs"),
        (("run", "dgits"), "digits"),
        (("run", "--bakend", "numpy"), "--backend"),
        (("run", "--backend", "nmpy"), "numpy"),
        (("data", "mnits"), "mnist"),
        (("export", "digits", "--model", "mpl", "--out", "x.safetensors"), "mlp"),
        (("reproduce", "trads"), "trades"),
    ],
)
def test_the_name_that_was_meant_is_proposed(command, arguments, meant):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    told = " ".join(err.split())
    assert f"did you mean {meant}?" in told.lower().replace("'", "") or (
        f"possible options: {meant}" in told.lower()
    )


@pytest.mark.parametrize(
    ("words", "names"),
    [("harness run mnist-c", ["mnist-certified", "mnist-cnn"]), ("harness sp", ["specs"])],
)
def test_a_shell_completes_commands_and_specs(words, names):
    # As the installed script is called, by whose name the shell asks.
    code = "import sys; from harness.cli import main; sys.argv = ['harness']; main()"
    asked = {
        "_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.split() == names


# The tables of a run


def run_of(epsilons, model="mlp", attack="fgsm"):
    run = Run(spec={"name": "digits"}, spec_sha256="", data_sha256="", created="")
    run.put(counted(model, "torch", "clean", 100, 100))
    for epsilon in epsilons:
        run.put(counted(model, "torch", attack, 50, 100, epsilon, norm="linf"))
    return run


def printed(run, width=80, **how):
    out = io.StringIO()
    for table in accuracy_tables(run, width):
        Console(file=out, width=width, **how).print(table)
    return out.getvalue()


@pytest.mark.parametrize("count", [1, 7, 8, 20])
@pytest.mark.parametrize("name", ["mlp", "the-name-of-a-model-of-somebody", "a/b c" * 20])
def test_accuracies_fit_eighty_columns_and_none_is_left_out(count, name):
    epsilons = [round(step * 0.01, 2) for step in range(count)]
    text = printed(run_of(epsilons, name))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("50.00") == count
    assert "…" not in text
    # Nor does it take the room of the names, of which only long ones are folded.
    tables = text.count("accuracy in %")
    for word in ("backend", "torch", "fgsm"):
        assert text.split().count(word) == tables
    assert text.count("continued below") == text.count("accuracy in %") - 1


def test_seven_epsilons_stand_side_by_side():
    run = run_of([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
    run.put(counted("mlp", "torch", "clean", 90, 100))
    assert printed(run).count("accuracy in %") == 1


def test_headings_are_short_as_long_as_they_differ():
    assert "0.00781" in printed(run_of([0.0078123]))
    text = printed(run_of([0.1234, 0.12345]))
    assert "0.1234" in text.split()
    assert "0.12345" in text.split()


def test_a_cell_that_fails_is_in_colour():
    run = run_of([0.1, 0.2])
    run.put(counted("mlp", "torch", "fgsm", 12, 100, 0.2, norm="linf").judged("failed", "low"))
    text = printed(run, force_terminal=True, color_system="standard")
    assert "\x1b[1;31m12.00" in text
    assert "\x1b[1;31m50.00" not in text


def test_the_success_of_a_targeted_attack_has_a_line_of_its_own():
    run = run_of([0.1])
    aimed = run.records[-1].model_copy(update={"value": 0.25})
    run.put(aimed)
    assert ["success", "25.00"] in [line.split() for line in printed(run).splitlines()]
