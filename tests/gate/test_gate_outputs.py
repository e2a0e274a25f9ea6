"""The gate's outcome for people and machines: the terminal, Markdown, JUnit XML, the command."""

from __future__ import annotations

import io
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import typer
from gate_runs import changed, measured, right, run_of, status_record
from rich.console import Console

from harness import cli
from harness.gate import Baseline, compare, store
from harness.gate.junit import as_junit
from harness.gate.markdown import as_markdown
from harness.gate.power import detectable_drop, power_table
from harness.gate.table import print_comparison
from harness.results.records import UPPER_BOUND
from harness.results.run import Run

HALF = right(500)
OLD = {"clean": HALF, "fgsm@0.1": HALF, "fgsm@0.2": HALF}
NEW = {"clean": changed(HALF, 0, 40), "fgsm@0.1": HALF, "fgsm@0.2": changed(HALF, 90, 5)}
NASTY = "shape [red](3, 4)[/unknown] <b>|x\x00"


def compared(*records):
    return compare(run_of(NEW, *records, signature=2.0), Baseline.of(run_of(OLD)))


def printed(comparison, width=160):
    stream = io.StringIO()
    print_comparison(comparison, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_table_shows_what_moved_worst_first_and_the_message():
    text = printed(compared())
    assert text.index("regressed") < text.index("improved")
    for words in ("torch mlp fgsm eps=0.2", "50.00%", "41.50%", "-8.50", "+4.00", "90 images lost"):
        assert words in text
    # And what did not move, with what would have failed: 10 of 1,000 have p = 0.002 < 0.5 % / 3.
    assert text.index("improved") < text.index("unchanged") < text.index("eps=0.1")
    (steady,) = [line.split() for line in text.splitlines() if "eps=0.1" in line]
    assert steady == ["torch", "mlp", "fgsm", "eps=0.1", "50.00%", "50.00%", "+0.00", "1.10"]
    assert "failed: 1 regressed, 1 improved, 1 unchanged; the smallest drop that fails" in text


def test_a_table_fits_eighty_columns_and_keeps_names_whole():
    name = "certified/a-certifier-of-some-package"
    old = {"clean": HALF, "fgsm@0.1": HALF, f"{name}@0.1": HALF}
    old |= {f"pgd@{n}": HALF for n in range(1, 60)}
    new = old | {"fgsm@0.1": changed(HALF, 90, 5), f"{name}@0.1": changed(HALF, 0, 90)}
    found = compare(run_of(new, signature=2.0), Baseline.of(run_of(old)))
    table = printed(found, 80).partition(UPPER_BOUND)[0]
    assert max(map(len, table.splitlines())) <= 80
    assert f"torch mlp {name} eps=0.1" in table  # on a line of its own, above its numbers
    assert "…" not in table


def test_a_gate_that_passes_says_what_it_has_compared(tmp_path):
    store.accept(run_of(OLD), tmp_path)
    text = printed(compare(run_of(OLD), Baseline.of(run_of(OLD)), path=tmp_path), 500)
    assert (
        "compared: 3 checks of 1 model, 3 of them accuracies by the outcome of each image, with 1 "
        f"accepted run in {tmp_path / '0001.json'}"
    ) in text
    assert "unchanged" in text
    assert "passed: 3 unchanged" in text


def test_what_fails_is_in_colour():
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system="standard")
    print_comparison(compared(), console)
    assert "\x1b[1;31mregressed" in stream.getvalue()


def test_names_and_reasons_with_brackets_are_shown_as_they_are():
    text = printed(compared(status_record("error", "shape [red](3, 4)[/unknown]")), 240)
    assert "error: shape [red](3, 4)[/unknown]" in text


def test_a_command_in_a_note_is_not_broken_across_lines():
    comparison = compared()
    assert "`harness baseline add RUN" in comparison.notes[0]
    assert comparison.notes[0] in printed(comparison, width=40)


def test_markdown_has_a_table_that_nothing_in_it_can_break():
    text = as_markdown(compared(status_record("error", NASTY)))
    lines = text.splitlines()
    assert lines[0] == "### Robustness gate ❌"
    assert any(line.startswith("failed: 2 regressed, 1 improved, 1 unchanged;") for line in lines)
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3 + 2 + 1
    assert {line.replace("\\|", "").count("|") for line in table} == {10}
    assert "<details><summary>1 unchanged</summary>" in lines
    assert "<b>" not in text
    assert "✅" in as_markdown(compare(run_of(OLD), Baseline.of(run_of(OLD))))


def test_markdown_has_a_bounded_length():
    old = {f"fgsm@{n}": HALF for n in range(1, 150)}
    text = as_markdown(compare(run_of({"clean": HALF}), Baseline.of(run_of(old))))
    assert "\nand 50 more\n" in text


def test_junit_is_xml_with_a_failure_for_each_check_that_fails():
    suite = ElementTree.fromstring(as_junit(compared(status_record("error", NASTY))))  # noqa: S314
    assert suite.tag == "testsuite"
    cases = {(c.get("classname"), c.get("name")): c for c in suite.iter("testcase")}
    assert len(cases) == int(suite.get("tests")) == 5
    failed = {key for key, case in cases.items() if case.find("failure") is not None}
    assert failed == {
        ("gate", "gate"), ("torch.mlp", "fgsm eps=0.2"), ("torch.mlp", "conformance/batch-split"),
    }  # fmt: skip
    assert int(suite.get("failures")) == 3
    failure = cases["torch.mlp", "fgsm eps=0.2"].find("failure")
    assert failure.get("message") == "regressed: 90 images lost and 5 gained of 1000"
    assert "points: -8.50" in failure.text
    assert "detects: 1.70" in failure.text  # 22 lost, 5 gained: p = 0.0015; 21 have 0.0025
    steady = cases["torch.mlp", "fgsm eps=0.1"].find("system-out").text.splitlines()
    assert {"verdict: unchanged", "baseline: 50.00%", "run: 50.00%", "detects: 1.10"} <= set(steady)
    assert "against a single run" in cases["gate", "gate"].find("system-out").text


def test_junit_of_a_gate_that_passes_has_no_failure():
    text = as_junit(compare(run_of(OLD), Baseline.of(run_of(OLD))))
    suite = ElementTree.fromstring(text)  # noqa: S314
    assert suite.get("failures") == "0"
    assert not list(suite.iter("failure"))


def test_the_table_of_detectable_drops():
    stream = io.StringIO()
    Console(file=stream, width=120).print(power_table(30, 0.005, images=(100, 7000)))
    hundred, thousands = (line.split() for line in stream.getvalue().splitlines()[-2:])
    assert hundred == ["100", "-", "-", "-", "-", "-"]
    assert thousands[:2] == ["7,000", "-"]
    assert float(thousands[3]) == pytest.approx(100 * detectable_drop(7000, 0.02), abs=0.005)


# The command


@pytest.fixture
def command(capfd, monkeypatch, tmp_path):
    """Run the command where a baseline and two runs lie; gives code, output and errors."""
    monkeypatch.chdir(tmp_path)
    run_of(OLD).save(tmp_path / "same")
    run_of(NEW, signature=2.0).save(tmp_path / "worse")
    store.accept(run_of(OLD), tmp_path / "suites" / "baselines" / "digits")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    return run


PATH = ("--baseline", "suites/baselines/digits")


def test_exit_codes(command):
    assert command("gate", "same", *PATH)[0] == 0
    assert command("gate", "worse", *PATH)[0] == 1
    assert command("gate", "worse", *PATH, "--tolerance", "0.2")[0] == 0
    same = ("same", *PATH)
    for wrong in (
        ("nowhere", *PATH), ("same", "--baseline", "none"), (*same, "--backend", "theano"),
        (*same, "--tolerance", "7"),
    ):  # fmt: skip
        code, out, err = command("gate", *wrong)
        assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_the_summary_goes_where_it_is_asked_for(command, tmp_path):
    code, out, err = command("gate", "worse", *PATH, "--markdown", "-", "--junit", "a/gate.xml")
    assert code == 1
    assert out.startswith("### Robustness gate ❌")
    assert "regressed" in err
    assert ElementTree.parse(tmp_path / "a" / "gate.xml").getroot().get("failures") == "2"  # noqa: S314
    code, out, _ = command("gate", "same", *PATH, "--markdown", "summary.md")
    assert "passed: 3 unchanged" in out
    assert (
        (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("### Robustness gate ✅")
    )


def test_the_report_holds_runs_against_a_baseline_or_writes_nothing(command, tmp_path):
    run_of(OLD, data_sha256="f" * 64).save(tmp_path / "other")
    page = tmp_path / "page.html"
    for folders in (["other"], ["same", "other"]):
        code, out, err = command("report", *folders, "--out", "page.html", *PATH)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "the data differ" in err
        assert "other" in err
        assert not page.exists()
    assert "--baseline" in command("report", "same", "--backend", "torch")[2]
    assert command("report", "same", "--out", "page.html", *PATH, "--backend", "torch")[0] == 0
    assert "passed: 3 unchanged" in page.read_text(encoding="utf-8")
    # The accepted run has another backend, which then has vanished unless one names its own.
    measured(both := run_of(OLD), OLD, backend="keras").save(tmp_path / "both")
    store.accept(both, tmp_path / "both.json")
    against = ("report", "same", "--out", "page.html", "--baseline", "both.json")
    assert command(*against)[0] == 0
    assert "failed: 3 vanished, 3 unchanged" in page.read_text(encoding="utf-8")
    assert command(*against, "--backend", "torch")[0] == 0
    assert "passed: 3 unchanged" in page.read_text(encoding="utf-8")


def test_baselines_are_accepted_added_to_and_shown(command, tmp_path):
    code, out, _ = command("baseline", "add", "worse")  # the spec says where its baselines lie
    assert code == 0
    assert "suites/baselines/digits/0001.json" in out
    code, out, _ = command("baseline", "show", "suites/baselines/digits")
    assert code == 0
    assert ["check", "images", "run", "1", "run", "2"] in [
        line.split() for line in out.splitlines()
    ]
    written = (tmp_path / "suites/baselines/digits/0001.txt").read_text()
    assert {line.split()[0] for line in written.splitlines() if line} <= set(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert command("baseline", "accept", "worse", "--yes")[0] == 0
    assert (tmp_path / "suites/baselines/digits/0002.json").is_file()
    code, _, err = command("baseline", "add", "worse")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "is the model of run 1" in err


def test_replacing_a_baseline_shows_what_changes_and_asks(command, tmp_path, monkeypatch):
    numbered = tmp_path / "suites" / "baselines" / "digits"
    code, out, err = command("baseline", "accept", "worse")
    assert code == 2
    assert "regressed" in out  # the comparison with the one before
    (line,) = err.splitlines()
    assert "harness baseline accept worse --baseline suites/baselines/digits --yes" in line
    assert not (numbered / "0002.json").exists()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code, written in ((False, 1, False), (True, 0, True)):
        monkeypatch.setattr("typer.confirm", lambda *_, answer=answer, **__: answer)
        assert command("baseline", "accept", "worse")[0] == code
        assert (numbered / "0002.json").exists() is written
    run_of(OLD, data_sha256="f" * 64).save(tmp_path / "other")
    code, out, _ = command("baseline", "accept", "other", "--yes")
    assert (code, "the data differ" in out) == (0, True)


def test_a_first_baseline_is_accepted_without_asking(command, tmp_path):
    code, out, _ = command("baseline", "accept", "worse", "--baseline", "first")
    assert (code, out.startswith("accepted: first/0001.json")) == (0, True)


@pytest.mark.parametrize(("name", "folder"), [("x.json", "x.json.d"), ("0001.json", "0001.json.d")])
def test_a_name_is_a_folder_of_baselines_and_never_a_file(command, tmp_path, name, folder):
    spec = run_of(OLD).spec | {"name": name}
    run_of(OLD, spec=spec).save(tmp_path / "named")
    for number in ("0001", "0002"):
        code, out, _ = command("baseline", "accept", "named", "--yes")
        assert (code, f"suites/baselines/{folder}/{number}.json" in out) == (0, True)
    assert command("gate", "named", "--baseline", f"suites/baselines/{folder}")[0] == 0
    # A path stays what it is: a file, unless it is a folder.
    assert command("baseline", "accept", "named", "--baseline", "mine.json")[0] == 0
    assert (tmp_path / "mine.json").is_file()
    (tmp_path / "folder.json").mkdir()
    assert command("baseline", "accept", "named", "--baseline", "folder.json")[0] == 0
    assert (tmp_path / "folder.json" / "0001.json").is_file()


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt, 130), (EOFError, 1)])
def test_ctrl_c_at_the_question_is_exit_code_130(command, tmp_path, monkeypatch, end, code):
    def ends(*_):
        raise end

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    # What ``confirm`` reads with, wherever this release of typer has it from.
    monkeypatch.setattr(sys.modules[typer.confirm.__module__], "visible_prompt_func", ends)
    found, out, err = command("baseline", "accept", "worse")
    assert found == code
    assert "nothing was accepted" in out + err
    assert not (tmp_path / "suites/baselines/digits/0002.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [("run", "--out", ""), ("search", "--out", ""), ("report", "worse", "--out", ""),
     ("report", ""),
     ("gate", "", "--baseline", "x"), ("gate", "worse", "--baseline", ""),
     ("gate", "worse", "--baseline", "x", "--junit", ""), ("baseline", "accept", "")],
)  # fmt: skip
def test_a_path_that_is_empty_is_refused(command, arguments):
    code, _, err = command(*arguments)
    assert code == 2
    assert err == "harness: a path on the command line is empty; name one, or . for this folder\n"


def test_hundreds_of_unchanged_accuracies_take_a_line_a_check():
    old = {f"{check}@{n}": HALF for check in ("fgsm", "pgd") for n in range(1, 251)}
    text = printed(compare(run_of(old, signature=2.0), Baseline.of(run_of(old))), 240)
    lines = [line.strip() for line in text.splitlines() if "250 epsilons" in line]
    assert len(lines) == 2
    assert lines[0].startswith("torch mlp fgsm, 250 epsilons")
    assert lines[0].split()[-1] == "1.80"
    assert as_markdown(compare(run_of(old), Baseline.of(run_of(old)))).count("torch mlp") == 501


def test_the_power_table_is_a_command(command):
    code, out, _ = command("baseline", "power", "--checks", "1", "--tolerance", "0.01")
    assert code == 0
    assert "1 checks, tolerance 1 points" in " ".join(out.split())


# What files hold that no file can: half a pair, as of a file's name; and what a terminal obeys

HALF_A_PAIR, ESCAPE = "a\udcffb", "\x1b]0;title\x07"


def places(run, text):
    """The run with a text wherever a run has room for one."""
    run = run.model_copy(deep=True, update={"commit": text, "created": text, "classes": (text,)})
    run.spec |= {text: {text: [text]}, "seed": text}
    run.spec["attacks"] |= {text: {"options": {text: text}}}
    run.versions[text] = run.machine[text] = text
    return run


@pytest.fixture
def odd_run():
    run = run_of(OLD)
    arrays = dict(run.arrays)

    def make(text):
        made = places(run, text)
        made.arrays.update(arrays)
        return made

    return make


@pytest.mark.parametrize("text", [HALF_A_PAIR, ESCAPE])
def test_whatever_text_a_run_holds_it_is_saved_accepted_and_drawn(text, odd_run, tmp_path):
    from reports import render

    odd_run(text).save(tmp_path / "run")
    run = Run.load(tmp_path / "run")
    assert run.spec[text] == {text: [text]}
    written = store.accept(run, tmp_path / "base")
    assert Baseline.load(written).runs[0].commit == text
    assert written.read_bytes().isascii()
    told = written.with_suffix(".txt").read_text(encoding="utf-8")
    assert "\x1b" not in told
    assert written == store.locate(tmp_path / "base")
    page = render(run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "\x1b" not in page
    assert compare(run, Baseline.load(written)).passed


@pytest.mark.parametrize("text", [HALF_A_PAIR, ESCAPE, "<i>$x$ **b** #1 [a](b) `c`"])
def test_markdown_shows_any_reason_and_option_as_it_is(text, tmp_path):
    old, new = run_of(OLD), run_of(OLD, status_record("error", text))
    for run, value in ((old, "plain"), (new, text)):
        run.spec["attacks"]["fgsm"] = {"options": {"attack": "x.Mine", "start": value}}
    markdown = as_markdown(compare(new, Baseline.of(old)))
    assert "start is" in markdown
    assert "error: " in markdown
    assert not {"\x1b", "\x07", "\udcff"} & set(markdown)
    for sign in ("<i>", " $x", " **b", " #1", " [a]", " `c"):
        assert sign not in markdown
    old.save(tmp_path / "old")
    new.save(tmp_path / "new")
    store.accept(Run.load(tmp_path / "old"), tmp_path / "base")
    for target in (tmp_path / "out.md", "-"):
        done = subprocess.run(
            [sys.executable, "-m", "harness", "gate", tmp_path / "new", "--baseline",
             tmp_path / "base", "--markdown", target], capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stdout + done.stderr
