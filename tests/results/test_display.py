"""A run as a notebook shows it: short, as tables, as a picture, as a page; and saved and loaded."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

import harness
from harness.errors import HarnessError, RunError
from harness.results.records import Epoch, ModelInfo, counted
from harness.results.run import Run


def run_of(name="digits", model="mlp"):
    run = Run(spec={"name": name}, spec_sha256="", data_sha256="", created="", finished=True)
    for backend, right in (("torch", 50), ("numpy", 54)):
        run.put(counted(model, backend, "clean", 90, 100).judged("passed"))
        run.put(counted(model, backend, "fgsm", 90, 100, 0.0, norm="linf").judged("passed"))
        run.put(counted(model, backend, "fgsm", right, 100, 0.1, norm="linf").judged("passed"))
    run.put(counted(model, "torch", "pgd-l2", 30, 100, 1.0, norm="l2"))
    run.put(counted(model, "torch", "certified/crown", 20, 100, 0.1, norm="linf"))
    return run


class Cells(HTMLParser):
    """The texts of a page's rows."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.tags, self.inside = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.inside = tag in ("td", "th")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_reprs_are_one_short_line():
    run = run_of()
    assert repr(run) == str(run) == "Run('digits', models=['mlp'], records=8, verdict='passed')"
    record = counted("mlp", "torch", "fgsm", 51, 100, 0.1).judged("failed", "too low")
    assert repr(record) == (
        "Record('torch mlp fgsm eps=0.1', correct=51, total=100, status='failed', reason='too low')"
    )
    epoch = Epoch(
        epoch=1, loss=1, accuracy=0.5, validation_loss=1, validation_accuracy=0.5,
        learning_rate=0.1, seconds=1,
    )  # fmt: skip
    info = ModelInfo(
        model="mlp", backend="torch", fingerprint="f" * 64, history=(epoch,) * 99, kind="mlp",
        parameters=7,
    )  # fmt: skip
    assert repr(info) == "ModelInfo('torch mlp', kind='mlp', parameters=7, epochs=99)"


def test_the_repr_of_a_run_of_many_models_stays_short():
    run = run_of()
    for number in range(50):
        run.put(counted(f"model-{number}", "torch", "clean", 1, 2))
    assert len(repr(run)) < 150


def test_the_table_has_epsilons_as_columns():
    table = run_of().table()
    assert list(table.columns) == ["clean", 0.0, 0.1, 1.0]
    row = table.loc["torch", "mlp", "fgsm", "linf"]
    assert (row["clean"], row[0.0], row[0.1]) == (0.9, 0.9, 0.5)
    assert math.isnan(row[1.0])
    assert table.loc["torch", "mlp", "certified/crown", "linf"][0.1] == 0.2
    assert len(table) == 4
    assert "upper bound" in table.attrs["accuracy"]
    assert "lower bound" in table.attrs["accuracy"]


def test_a_run_of_clean_accuracy_alone_is_a_table_too():
    run = run_of().emptied()
    assert run.table().empty
    run.put(counted("mlp", "torch", "clean", 9, 10))
    assert run.table().loc["torch", "mlp", "clean", ""].to_dict() == {"clean": 0.9}


def test_a_notebook_shows_the_accuracies_in_percent():
    page = Cells(run_of()._repr_html_())
    assert ["torch", "mlp", "fgsm", "90.00", "90.00", "50.00"] in page.rows
    assert ["torch", "mlp", "crown", "90.00", "20.00"] in page.rows
    assert page.tags.count("table") == 3  # L∞, L2, certified


def test_a_notebook_shows_no_markup_of_a_name():
    run = run_of(name="<script>alert(1)</script>", model='<img src=x onerror="alert(1)">')
    run.notes.append("<b>")
    run.put(counted("mlp", "torch", "clean", 1, 2).judged("failed", '"><script>'))
    page = run._repr_html_()
    assert not {"script", "img"} & set(Cells(page).tags)
    assert "&lt;script&gt;" in page


def test_a_failing_cell_says_why():
    run = run_of()
    run.put(counted("mlp", "torch", "fgsm", 1, 100, 0.1, norm="linf").judged("failed", "too low"))
    assert 'title="too low">1.00</td>' in run._repr_html_()


def test_a_notebook_shows_some_rows_and_says_how_many_more():
    run = run_of().emptied()
    for number in range(60):
        run.put(counted(f"m{number}", "torch", "fgsm", 1, 2, 0.1, norm="linf"))
    page = run._repr_html_()
    assert page.count("<tr>") == 41
    assert "and 20 more rows" in page


def test_the_plot_draws_a_line_a_method_from_clean():
    ax = run_of().plot(ax=Figure().subplots())
    fgsm, crown = ax.get_lines()
    assert fgsm.get_xydata().tolist() == [[0.0, 90.0], [0.1, 52.0]]  # the mean of 50 and 54
    assert crown.get_xydata().tolist() == [[0.0, 90.0], [0.1, 20.0]]
    assert crown.get_linestyle() == "--"
    assert fgsm.get_label() == "mlp fgsm (2 backends)"
    assert len(run_of().plot("l2", Figure().subplots()).get_lines()) == 1


def test_the_plot_makes_axes_where_none_are_given():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    ax = run_of().plot()
    assert ax.get_ylabel() == "accuracy in %"
    plt.close(ax.figure)


def test_the_plot_says_what_it_cannot_draw():
    with pytest.raises(HarnessError, match="no accuracy at an epsilon"):
        run_of().emptied().plot()
    with pytest.raises(HarnessError, match="'l1' is not in the run; it holds linf, l2"):
        run_of().plot("l1")


def test_a_run_is_saved_loaded_and_drawn_by_paths_in_text(tmp_path):
    folder, page = str(tmp_path / "deep" / "run"), str(tmp_path / "r.html")
    run_of().save(folder)
    again = harness.load_run(folder)
    assert isinstance(again, harness.Run)
    assert again.records == run_of().records
    assert again.report(page).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(RunError, match=r"nowhere.*run\.json"):
        harness.load_run(str(tmp_path / "nowhere"))


def test_a_report_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(HarnessError, match="is a folder"):
        run_of().report(str(tmp_path))
