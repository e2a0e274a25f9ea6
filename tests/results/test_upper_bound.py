"""Wherever accuracies under attack stand, it says that they are upper bounds on robust accuracy."""

import io

import numpy as np
from gate_runs import right
from gate_runs import run_of as gate_run
from rich.console import Console

import harness
from harness.gate import Baseline, compare
from harness.gate.markdown import as_markdown
from harness.gate.table import print_comparison
from harness.results.records import UPPER_BOUND
from harness.results.summary import accuracy_tables

OUTCOMES = {"clean": right(500), "fgsm@0.1": right(400)}


def shown(print_it):
    stream = io.StringIO()
    print_it(Console(file=stream, width=160))
    return " ".join(stream.getvalue().split())  # a caption is as wide as its table


def test_the_docstring_and_the_table_of_evaluate_say_so():
    assert "upper bound" in harness.evaluate.__doc__.replace("*", "")
    frame = gate_run(OUTCOMES).frame()
    assert frame.attrs["accuracy"] == UPPER_BOUND
    assert "upper bound" in type(gate_run(OUTCOMES)).frame.__doc__
    assert np.isfinite(frame.accuracy).all()


def test_the_tables_of_the_terminal_say_so_where_something_was_attacked():
    (table,) = accuracy_tables(gate_run(OUTCOMES))
    assert UPPER_BOUND in shown(lambda console: console.print(table))
    (clean,) = accuracy_tables(gate_run({"clean": right(500)}))
    assert "upper bound" not in shown(lambda console: console.print(clean))


def test_the_tables_of_the_gate_say_so():
    comparison = compare(gate_run(OUTCOMES, signature=2.0), Baseline.of(gate_run(OUTCOMES)))
    assert UPPER_BOUND in shown(lambda console: print_comparison(comparison, console))
    assert UPPER_BOUND in as_markdown(comparison)
