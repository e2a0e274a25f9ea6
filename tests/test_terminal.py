"""What a terminal is shown: names as they are, whatever brackets, signs and alphabets they hold."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from tiny_spec import tiny_spec

from harness import progress
from harness.results.records import counted
from harness.results.run import Run
from harness.results.summary import accuracy_tables

ODD = ["[/x]", "[red]", "[/]", "[bold", "\x1b[31mred", "\u202eabc", "\ud800", "模型"]


@pytest.mark.parametrize("text", ODD)
def test_a_table_shows_names_as_they_are(text):
    run = Run(spec={"name": text}, spec_sha256="", data_sha256="", created="")
    run.put(counted(text, "torch", text, 5, 10, 0.1, norm="linf"))
    run.put(counted(text, "torch", "clean", 5, 10))
    (table,) = accuracy_tables(run)
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    shown = text.encode("unicode_escape").decode() if not text.isprintable() else text
    assert out.getvalue().count(shown) >= 3
    assert not {"\x1b", "\u202e", "\ud800"} & set(out.getvalue())


@pytest.mark.parametrize("text", ODD)
def test_a_progress_bar_shows_names_as_they_are(monkeypatch, text):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    with progress.progress_bar(f"training {text}", 2) as advance:
        advance(f"note {text}")
    shown = text.encode("unicode_escape").decode() if not text.isprintable() else text
    assert f"training {shown}" in out.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_few_signs_is_told_all(tmp_path, encoding):
    """The commands that print names, ε and paths, where none of these can be encoded."""
    spec = tiny_spec(models=["NAME"], seed=21).replace("NAME", '"[x] 模型"')
    (tmp_path / "s.toml").write_text(spec.replace('"tiny"', '"ε"'), encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "0"}
    run = ["run", "s.toml", "-k", "clean or fgsm"]
    for command in (["train", "s.toml"], run, ["report", "模型"]):
        done = subprocess.run(
            [sys.executable, "-m", "harness", *command], cwd=tmp_path, env=environment,
            capture_output=True, check=False,
        )  # fmt: skip
        out = (done.stdout + done.stderr).decode(encoding, "replace")
        assert "Traceback" not in out
        assert done.returncode == (2 if command[0] == "report" else 0), out
        if command[0] == "train":
            assert "[x]" in out
