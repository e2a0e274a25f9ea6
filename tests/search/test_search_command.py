"""What users see of a search: the command, and the section of the report."""

from __future__ import annotations

import re
import sys

import pytest
from small_searches import GRID
from synthetic import synthetic_run
from tiny_spec import tiny_spec

from harness import cli
from harness.results.search import SearchTrial
from harness.search.search import Search
from reports.page import Source, page

# The command


@pytest.fixture
def command(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(tiny_spec() + GRID)
    (tmp_path / "bare.toml").write_text(tiny_spec())
    (tmp_path / "text.db").write_text("no database " * 100)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    return run


def test_the_command_prints_a_table_with_the_best_first(command, done):
    folder, result = done
    code, out, err = command("search", "tiny.toml", "--out", folder)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if "complete" in line]
    assert len(rows) == 12
    assert rows[0][:4] == [*result.winner.parameters.texts, f"{result.winner.score:.2%}"]
    assert f"({result.default.score:.2%})" in out
    assert out.splitlines()[-1] == f"best spec: {folder / 'best.toml'}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bare.toml"], ["grid", "tiny", "no [grid]"]),
        (["tiny.toml", "--backend", "theano"], ["theano", "torch, keras, jax, numpy"]),
        (["tiny.toml", "--storage", "sqlite:////no/such/dir/x.db"], ["/no/such/dir/x.db"]),
        (["tiny.toml", "--storage", "oracel://me:secret@host/x"], ["oracel", "me:***@host"]),
        (["tiny.toml", "--storage", "mysql+pymysql://me:secret@host/x"], ["pymysql"]),
        (["tiny.toml", "--storage", "secret"], ["URL", "check"]),
        (["tiny.toml", "--storage", "sqlite://"], ["not on disk", "sqlite:///FILE"]),
        (["tiny.toml", "--storage", "sqlite:///text.db"], ["text.db", "not a database"]),
        (["tiny.toml", "--out", "text.db"], ["text.db"]),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(command, arguments, words):
    code, _, err = command("search", *arguments)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("harness: ")
    assert "secret" not in line.partition("URL")[0]
    for word in words:
        assert word in line


def test_ctrl_c_says_how_to_go_on(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "evaluate", interrupted)
    code, _, err = command("search", "tiny.toml")
    assert code == 130
    (line,) = err.splitlines()
    assert "the same command goes on" in line
    monkeypatch.undo()


# The report


def test_the_report_has_a_section_only_if_there_was_a_search(done):
    bare = page([Source(synthetic_run())])
    assert 'id="search"' not in bare
    assert "search" not in bare.partition("</header>")[0].lower()
    html = page([Source(synthetic_run(), search=done[1])])
    section = re.search(r'<section id="search".*?</section>', html, re.DOTALL)[0]
    assert len(re.findall(r'<svg[^>]* role="img"', section)) == 2
    assert section.count("How to read it") == 2
    assert section.count("<tr>") == 13
    accuracies = [float(cell) for cell in re.findall(r">(\d+\.\d)\u202f%</td>", section)]
    assert accuracies == sorted(accuracies, reverse=True)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert page([Source(synthetic_run(), search=done[1])]) == html


def test_hostile_text_is_shown_as_text(done):
    hostile = "<script>alert('x')</script>"
    broken = SearchTrial(
        parameters=done[1].trials[-1].parameters, state="failed", reason=hostile, seconds=1.0
    )
    update = {"model": hostile, "backend": hostile, "trials": (*done[1].trials[:-1], broken)}
    html = page([Source(synthetic_run(), search=done[1].model_copy(update=update))])
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_a_search_in_which_everything_failed_is_still_drawn(done):
    failed = done[1].default.model_copy(
        update={"state": "failed", "reason": "it diverged", "score": None, "clean": None}
    )
    result = done[1].model_copy(update={"trials": (failed,), "default": failed})
    html = page([Source(synthetic_run(), search=result)])
    assert "it diverged" in html
    assert "None was completed" in html


def test_the_command_draws_the_search_of_a_results_folder(command, done, tmp_path):
    run = synthetic_run(name="tiny")
    run.data_sha256 = done[1].data_sha256
    run.save(tmp_path / "out")
    done[1].save(tmp_path / "out")
    assert command("report", "out")[0] == 0
    assert 'id="search"' in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "out" / "search.json").write_text("{")
    code, _, err = command("report", "out")
    assert code == 2
    (line,) = err.splitlines()
    assert "search.json: not readable as JSON" in line
