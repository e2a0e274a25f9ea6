"""Tables of numbers fit eighty columns, and break neither a number nor a name."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from harness import cli
from harness.gate.power import power_table
from harness.results.records import counted
from harness.results.run import Run
from harness.results.search import Parameters, SearchResult, SearchTrial
from harness.results.summary import accuracy_tables
from harness.search.table import print_search
from harness.spec.grid import GridSpec
from harness.spec.published import load_table, table_paths
from harness.terminal import Row, numbers, plain


def drawn(*renderables, width=80):
    out = io.StringIO()
    Console(file=out, width=width).print(*renderables)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def row(name, *cells, about=""):
    return Row(plain(name), [plain(cell) for cell in cells], plain(about))


ROWS = (
    Row(plain("regressed")),
    row("fgsm", "50.00%", "41.50%", about="90 images lost"),
    row("saliency-sanity/integrated-gradients/random-labels", "1.11% to 41.67%", "failed"),
)


def test_a_long_name_stands_above_its_numbers_and_a_range_on_two_lines():
    # 9 signs for a range and 6 for "failed", each after a gap of two, leave 21 for the names.
    assert drawn(numbers(("check", "baseline", "run"), ROWS, 40), width=40) == [
        "check                   baseline     run",
        "regressed",
        "fgsm                      50.00%  41.50%",
        "  90 images lost",
        "saliency-sanity/integrated-gradients/ran",
        "dom-labels",
        "                        1.11% to  failed",
        "                          41.67%",
    ]


def test_a_name_that_has_room_stands_beside_its_numbers():
    last = drawn(numbers(("check", "baseline", "run"), ROWS, 80))[-2:]
    assert last == [
        "saliency-sanity/integrated-gradients/random-labels   1.11% to  failed",
        "                                                       41.67%",
    ]


# The tables of commands


@pytest.fixture
def command(capfd, monkeypatch):
    """Run the command on a terminal of that width; the lines of its output."""

    def run(width, *arguments):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit):
            cli.main()
        return capfd.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("width", [80, 120])
def test_published_tables_are_listed_with_whole_names(command, width):
    lines = command(width, "reproduce")
    assert max(map(len, lines)) <= width
    words = " ".join(lines).replace(",", " ").split()
    for path in table_paths(None):
        table = load_table(path)
        assert {table.name, *(number.label for number in table.numbers)} <= set(words)


def test_detectable_drops_fit_eighty_columns():
    lines = drawn(power_table(images=(100,)), width=200)
    assert max(map(len, lines)) <= 80


def test_what_a_command_does_fills_its_lines(command):
    told = [line.strip() for line in command(80, "run", "--help")]
    start = next(n for n, line in enumerate(told) if line.startswith("What is finished is kept"))
    assert told[start : start + 2] == [
        "What is finished is kept: the same command in the same folder goes on from",
        "there, and measures only what is missing or changed.",
    ]


def trial(state="complete", reason="", **values):
    return SearchTrial(
        parameters=Parameters(**values), state=state, reason=reason, score=0.9, clean=0.95,
        fgsm=0.8, history=(0.9,) * 12, seconds=12345.6,
    )  # fmt: skip


def searched(reason="", **values):
    grid = GridSpec(**{key: [value] for key, value in values.items()}, fgsm_weight=0.5)
    trials = [trial(**values), *([trial("failed", reason, **values)] if reason else [])]
    result = SearchResult(
        spec="s", spec_sha256="", data_sha256="", backend="numpy", model="mlp", seed=0,
        versions={}, grid=grid, study="", trials=tuple(trials), default=trials[0],
    )  # fmt: skip
    out = io.StringIO()
    print_search(result, Console(file=out, width=80))
    table, _, _ = out.getvalue().partition("winner")
    assert max(map(len, table.splitlines())) <= 80
    return table


def test_a_search_has_a_column_for_each_parameter_that_has_room():
    table = searched(hidden=(512, 256, 128), learning_rate=0.001, batch_size=64)
    (found,) = [line.split() for line in table.splitlines() if "complete" in line]
    assert found == [
        "512-256-128", "0.001", "64", "95.00%", "80.00%", "90.00%", "12", "12345.6", "complete",
    ]  # fmt: skip


def test_a_search_over_everything_says_each_point_in_words():
    reason = "the loss became nan in epoch 1; lower the learning rate"
    table = searched(
        reason, hidden=(1024, 512, 256), dropout=0.2, l2=0.0001, learning_rate=0.00123,
        batch_size=128,
    )  # fmt: skip
    assert "…" not in table
    point = "hidden 1024-512-256, dropout 0.2, l2 0.0001, learning_rate 0.00123,"
    assert point in table
    assert f"failed: {point}" in table
    assert reason in " ".join(table.split())


def test_a_run_without_attacks_has_no_column_of_attacks():
    run = Run(spec={"name": "digits"}, spec_sha256="", data_sha256="", created="")
    run.put(counted("mlp", "torch", "clean", 97, 100))
    (table,) = accuracy_tables(run)
    assert [line.split() for line in drawn(table) if "clean" in line or "torch" in line][-2:] == [
        ["backend", "model", "clean"], ["torch", "mlp", "97.00"],
    ]  # fmt: skip
    assert "attack" not in run._repr_html_()


def test_a_long_name_is_whole_where_it_leaves_room_for_three_epsilons():
    name = "the-name-of-a-model-of-somebody"
    run = Run(spec={"name": "digits"}, spec_sha256="", data_sha256="", created="")
    for epsilon in (0.1, 0.2, 0.3):
        run.put(counted(name, "torch", "fgsm", 50, 100, epsilon, norm="linf"))
    (table,) = accuracy_tables(run)
    assert name in " ".join(drawn(table)).split()


def test_an_epsilon_of_eight_bits_is_a_heading_as_it_was_written():
    run = Run(spec={"name": "own"}, spec_sha256="", data_sha256="", created="")
    for epsilon in (0.0, 2 / 255, 8 / 255, 0.1):
        run.put(counted("net", "torch", "fgsm", 50, 100, epsilon, norm="linf"))
    (table,) = accuracy_tables(run)
    heading = next(line for line in drawn(table) if "clean" in line)
    assert heading.split()[-4:] == ["0", "2/255", "8/255", "0.1"]
    assert "ε = 8/255" in run._repr_html_()
