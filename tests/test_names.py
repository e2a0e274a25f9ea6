"""Names that become paths, keys and ids: what may be one, checked wherever one is read."""

import json

import numpy as np
import pytest
from gate_runs import run_of
from small_models import small_images, small_net
from synthetic import synthetic_run
from tiny_spec import tiny_spec

import harness
from harness.errors import HarnessError, RunError, SpecError, one_line, printable
from harness.gate.baseline import Baseline
from harness.names import LONGEST, checked_name, checked_path
from harness.results.run import Run
from harness.spec.reading import parse_spec

FINE = [
    "mlp", "mlp-defended", "my model", "resnet 18 v1.2", "Übung", "模型", "a", "x" * LONGEST,
    ".hidden", "console", "com", "nul-model", "PGD(40)", "[red]", "a@b", "50 %", "--x", "ε = 0.1",
]  # fmt: skip
NONE = [
    "", " ", ".", "..", "../x", "../../../escape", "/etc/passwd", "a/b", "a\\b", "C:x", "a:b",
    "a*b", "a\nb", "a\tb", "a\0b", "\x1b[31mred", "\ud800", "a\u202eb", "\u2028",
    " a", "a ", "a.", "a?",
    "x" * (LONGEST + 1), "é" * LONGEST, "con", "NUL", "nul.txt", "Com1",
    "lpt9.tar.gz", "a|b", "<b>",
]  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_ordinary_names_are_names(name):
    assert checked_name(name) == name


@pytest.mark.parametrize("name", NONE)
def test_what_leads_elsewhere_or_is_not_seen_is_none(name):
    with pytest.raises(ValueError, match="cannot be a name") as caught:
        checked_name(name)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 200


def test_each_part_of_a_check_is_a_name():
    assert checked_path("saliency/gradient/top") == "saliency/gradient/top"
    for path in ("saliency/../top", "a//b", "/a", "a/"):
        with pytest.raises(ValueError, match="cannot be a name"):
            checked_path(path)


# Where they are read


@pytest.mark.parametrize("name", ["../../../escape", "/x", "a/b", "..", "nul", "a\x1b[0m"])
def test_a_run_is_not_accepted_under_a_name_that_leads_out(tmp_path, name):
    synthetic_run(backends=["torch"]).save(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    document = json.loads(path.read_text())
    document["spec"]["name"] = name
    path.write_text(json.dumps(document))
    with pytest.raises(RunError, match="cannot be a name") as caught:
        Run.load(tmp_path / "run")
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("part", "key"),
    [("records", "model"), ("records", "backend"), ("records", "check"), ("models", "model"),
     ("timings", "check")],
)  # fmt: skip
def test_names_within_a_run_are_checked(tmp_path, part, key):
    synthetic_run(backends=["torch"]).save(tmp_path)
    document = json.loads((tmp_path / "run.json").read_text())
    document[part][0][key] = "../x"
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match="cannot be a name"):
        Run.load(tmp_path)


def test_keys_of_arrays_are_names_between_slashes(tmp_path):
    run = synthetic_run(backends=["torch"])
    run.arrays["torch/../clean/predictions"] = np.zeros(3, np.int16)
    run.save(tmp_path)
    with pytest.raises(RunError, match="cannot be a name"):
        Run.load(tmp_path)


@pytest.mark.parametrize("key", ["spec", "model", "backend", "check", "signatures"])
def test_names_within_a_baseline_are_checked(tmp_path, key):
    path = tmp_path / "b.json"
    Baseline.of(run_of({"clean": np.ones(9, bool)})).save(path)
    document = json.loads(path.read_text())
    if key == "spec":
        document["spec"] = "../x"
    elif key == "signatures":
        document["runs"][0]["signatures"] = {"torch/..": ""}
    else:
        document["runs"][0]["records"][0][key] = "../x"
    path.write_text(json.dumps(document))
    with pytest.raises(RunError, match="cannot be a name"):
        Baseline.load(path)


@pytest.mark.parametrize(
    "change",
    [
        ('"tiny"', '"../tiny"'),
        ("models.mlp", 'models."a/b"'),
        ("attacks.fgsm]", 'attacks."a:b"]'),
    ],
)
def test_names_within_a_spec_are_checked(change):
    with pytest.raises(SpecError, match="cannot be a name"):
        parse_spec(tiny_spec().replace(*change), "s.toml")


@pytest.mark.parametrize("name", ["../x", "", "8/255"])
def test_the_name_of_an_evaluation_is_checked(name):
    x, y = small_images(4)
    with pytest.raises(HarnessError, match=r"^name: .* cannot be a name"):
        harness.evaluate(small_net(), x, y, name=name)


# What reaches the terminal


def test_what_a_terminal_would_obey_is_shown_instead():
    assert printable("plain, ε and ∞ 模型\u200d") == "plain, ε and ∞ 模型\u200d"
    assert printable("\x1b[31m\u202e\ud800\n\x07") == r"\x1b[31m\u202e\ud800\n\x07"
    assert one_line("a\nb \x1b]0;title\x07") == r"a b \x1b]0;title\x07"


def test_no_error_of_ours_moves_the_cursor():
    assert str(HarnessError("no \x1b[2Jfile\u202e")) == r"no \x1b[2Jfile\u202e"
