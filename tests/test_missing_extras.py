"""What needs a package that is not installed says in one line which extra brings it."""

from __future__ import annotations

import sys

import pytest

import harness.search
from harness import cli


def test_a_search_without_optuna_names_its_extra(monkeypatch, capfd):
    monkeypatch.setattr(
        harness.search, "find_spec", lambda name: None if name == "optuna" else object()
    )
    monkeypatch.setattr(sys, "argv", ["harness", "search", "digits"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capfd.readouterr().err == (
        "harness: search: optuna not installed; pip install 'robustness-harness[search]'\n"
    )
