"""What has to be alike where pieces of one run are measured is told in one line where it is not."""

from __future__ import annotations

import pickle
import platform

import numpy as np
import pytest

import robustness_harness
from harness.executors import Stamp, own_code, own_stamp, problem

WANTED = Stamp({"python": "3.11.4", "torch": "2.13.0+cpu"}, "0.1.0+12ab", "5f3e")


def test_ones_own_is_that_of_this_process():
    stamp = own_stamp(["numpy", "no-such-package"], data="5f3e")
    assert stamp.versions["python"] == platform.python_version()
    assert stamp.versions["numpy"] == np.__version__
    assert stamp.versions["no-such-package"] == ""
    assert stamp.data == "5f3e"
    assert pickle.loads(pickle.dumps(stamp)) == stamp  # noqa: S301  # of this line
    assert problem(stamp, stamp) == ""


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (WANTED, ""),
        (Stamp({"python": "3.11.4", "torch": "2.13.0+cu126", "keras": "3"}), ""),
        (
            Stamp({"python": "3.11.4", "torch": "2.9.0"}, "0.1.0+12ab"),
            "torch 2.9.0, expected 2.13.0",
        ),
        (Stamp({"python": "3.11.4"}), "torch is not installed, expected 2.13.0"),
        (
            Stamp({"python": "3.12.1", "torch": "2.13.0"}, "0.1.0+34cd", "77aa"),
            "python 3.12.1, expected 3.11.4; code of the harness 0.1.0+34cd, expected 0.1.0+12ab; "
            "data 77aa, expected 5f3e",
        ),
    ],
)
def test_what_differs_is_named(mine, said):
    assert problem(mine, WANTED) == said


def test_one_that_has_what_the_other_has_not_differs():
    stamp = Stamp({"jax": "0.8.1"})
    assert problem(stamp, Stamp({"jax": ""})) == "jax 0.8.1, expected none"


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A harness of one file, elsewhere."""
    file = tmp_path / "harness" / "one.py"
    file.parent.mkdir()
    file.write_bytes(b"a = 1\nb = 2\n")
    monkeypatch.setattr(robustness_harness, "HOME", str(tmp_path))
    own_code.cache_clear()
    yield file
    own_code.cache_clear()


def code_now():
    own_code.cache_clear()
    return own_code()


def test_the_code_is_that_of_its_sources_and_of_nothing_else(sources):
    before = code_now()
    sources.with_name("notes.txt").write_text("no code")
    sources.write_bytes(b"a = 1\r\nb = 2\r\n")  # as git leaves it on Windows
    assert code_now() == before
    sources.write_bytes(b"a = 1\nb = 3\n")
    changed = code_now()
    assert changed != before
    sources.write_bytes(b"a = 1\nb = 2\n")
    sources.rename(sources.with_name("two.py"))
    assert code_now() not in (before, changed)
