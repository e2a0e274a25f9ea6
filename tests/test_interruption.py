"""Runs that are ended from outside: what was measured is kept, and nothing older shown as new."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_spec import tiny_spec

from harness.results.run import Run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

# A check of the protocol that waits for the signal.
CODE = """
import os, runpy, signal, sys, time
from pathlib import Path
from harness.checks import conformance

def waits(case):
    Path(os.environ["BEGUN"]).touch()
    time.sleep(60)

conformance.CHECKS["dtypes"] = waits
# A shell's background jobs, and what they start, ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a spec, and an earlier run and report that passed."""
    (tmp_path / "tiny.toml").write_text(tiny_spec(seed=11))
    out = tmp_path / "results"
    Run(spec={"name": "old"}, spec_sha256="", data_sha256="", created="before",
        finished=True).save(out)  # fmt: skip
    (out / "report.html").write_text("verdict: passed")
    return tmp_path


def started(folder, *arguments):
    """The process, once the check waits."""
    begun = folder / "begun"
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments], cwd=folder, text=True,
        env=os.environ | {"BEGUN": str(begun)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not begun.exists() and process.poll() is None:
        time.sleep(0.05)
    return process


def ended(process, number):
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in out + err
    return process.returncode, out, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_sigterm_ends_a_run_as_ctrl_c_does(folder, number, code):
    process = started(folder, "harness", "run", "tiny.toml", "-k", "clean or conformance")
    found, out, err = ended(process, number)
    assert (found, out.splitlines()[-1]) == (code, "verdict: failed"), err
    run = Run.load(folder / "results")
    assert (run.spec["name"], run.finished) == ("tiny", False)
    assert [record.status for record in run.records if record.check == "clean"] == ["passed"]
    page = (folder / "results" / "report.html").read_text(encoding="utf-8")
    assert "The run did not finish" in page


def test_sigterm_ends_the_suites_too(folder):
    from harness.spec.reading import suites_folder

    process = started(
        folder, "pytest", str(suites_folder()), "--spec", "tiny.toml", "-p", "no:cacheprovider",
        "-k", "clean or conformance", "-q",
    )  # fmt: skip
    code, _, _ = ended(process, signal.SIGTERM)
    assert code == pytest.ExitCode.INTERRUPTED
    run = Run.load(folder / "results")
    assert (run.finished, run.records[0].check) == (False, "clean")


def test_after_a_kill_in_the_middle_nothing_old_is_taken_for_new(folder):
    process = started(folder, "harness", "run", "tiny.toml", "-k", "conformance")
    process.kill()
    process.communicate()
    assert not (folder / "results" / "report.html").exists()
    run = Run.load(folder / "results")
    assert (run.spec["name"], run.verdict) == ("tiny", "failed")


def test_a_run_that_is_stopped_before_it_measures_shows_no_older_verdict(
    folder, monkeypatch, capfd
):
    from harness import cli

    monkeypatch.chdir(folder)
    monkeypatch.setattr(pytest, "main", lambda arguments, plugins: pytest.ExitCode.INTERRUPTED)
    monkeypatch.setattr(sys, "argv", ["harness", "run", "tiny.toml"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    assert (end.value.code, out) == (130, "")
    assert err == "harness: stopped before anything was measured\n"
    document = json.loads((folder / "results" / "run.json").read_text())
    assert document["spec"]["name"] == "old"  # as it was, with its report
