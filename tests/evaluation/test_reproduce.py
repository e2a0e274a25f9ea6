"""Published tables, measured again by the command: a small network, and numbers made up for it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness import cli
from harness.attacks.fgsm import FGSM
from harness.errors import SpecError
from harness.evaluation import evaluation as measuring
from harness.evaluation.published import Reproduction
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.results.run import Run
from harness.spec.published import load_table

TABLE = """
name = "paper"
backends = ["numpy"]
[paper]
title = "On Bright and Dark"
authors = "Doe & Roe"
year = 2020
[data]
file = "test.npz"
[models.net]
file = "net.safetensors"
architecture = "mlp"
hidden = [2]
[[published]]
check = "clean"
percent = 100.0
images = 40
source = "table 1"
[[published]]
check = "fgsm"
epsilon = 0.25
percent = {fgsm}
images = 40
source = "table 2"
budget = "one step"
smaller = "half a step"
[attacks.fgsm]
epsilons = [0.25]
"""


def weights():
    """Class 1 is above a mean pixel of one half: logits are 0.5 - mean and mean - 0.5."""
    architecture = architecture_of("mlp", {"hidden": [2]}, ImageKind.of((4, 4), 2))
    made = initial_weights(architecture, 0)
    made["layers.0.weight"][:] = np.array([[-1], [1]]) / 16
    made["layers.0.bias"][:] = [0.5, -0.5]
    made["layers.1.weight"][:] = np.eye(2)
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images at 0.2, 0.4, 0.6 and 0.8: of these FGSM at 0.25 turns those at 0.4 and 0.6, half."""
    monkeypatch.delenv("HARNESS_MODELS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    levels = np.tile([0.2, 0.8, 0.4, 0.6], 10)
    x = np.broadcast_to(levels[:, None, None], (40, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "test.npz", x=x, y=(levels > 0.5).astype(int))
    save_file(weights(), tmp_path / "net.safetensors")
    return tmp_path


@pytest.fixture
def command(folder, monkeypatch, capfd):
    """Reproduces a table with that accuracy under FGSM; gives the exit code and what is said."""

    def run(fgsm, *arguments, name="own.toml"):
        (folder / "own.toml").write_text(TABLE.replace("{fgsm}", str(fgsm)), encoding="utf-8")
        said = ["harness", "reproduce", *[name] * bool(name), *map(str, arguments)]
        monkeypatch.setattr("sys.argv", said)
        with pytest.raises(SystemExit) as end:
            cli.main()
        out = capfd.readouterr()
        return end.value.code or 0, out.out + out.err

    return run


@pytest.mark.parametrize(
    ("fgsm", "code", "verdict"),
    [
        (50.0, 0, "reproduced"),
        (90.0, 0, "stronger by 40.00 points"),
        (10.0, 1, "not reproduced: weaker by 40.00 points"),
    ],
)
def test_each_number_gets_a_verdict_and_the_table_an_exit_code(
    command, folder, fgsm, code, verdict
):
    found, said = command(fgsm, "--out", "out")
    assert found == code, said
    # 20 of 40: the Wilson interval is symmetrical about one half.
    table = said[said.index("number  ") : said.index("Below each")].splitlines()
    place = next(n for n, line in enumerate(table) if line.startswith("fgsm@0.25 "))
    assert table[place].split()[1:4] == [f"{fgsm:.2f}", "50.00", "40"]
    assert table[place + 1].split()[-1] == "35.20–64.80"
    assert max(map(len, table)) <= 80
    assert f"paper: fgsm@0.25: {verdict}" in said
    assert "fgsm@0.25: table 2 (one step); here: half a step" in said
    assert f"paper: {2 - code} of 2 numbers hold" in said
    run = Run.load(folder / "out")
    assert run.verdict == ("failed" if code else "passed")
    assert {record.check: record.accuracy for record in run.records} == {"clean": 1, "fgsm": 0.5}
    assert any(
        note == f"published: net fgsm@0.25: {fgsm:.2f} % (table 2): {verdict}; half a step"
        for note in run.notes
    )
    assert (folder / "out" / "report.html").is_file()


def test_what_is_measured_is_not_measured_again_and_other_tables_begin_anew(
    command, folder, monkeypatch
):
    measured = []
    once = measuring.Evaluation._once

    def counting(self, check, measure, epsilon=None):
        return once(self, check, lambda: measured.append(check) or measure(), epsilon)

    monkeypatch.setattr(measuring.Evaluation, "_once", counting)
    assert command(50.0, "--only", "clean")[0] == 0
    assert command(50.0, "--only", "fgsm")[0] == 0
    assert measured == ["clean", "fgsm"]
    # What was published changes the verdict, and no measurement.
    assert command(10.0)[0] == 1
    assert measured == ["clean", "fgsm"]
    run = Run.load(folder / "results" / "published" / "paper")
    assert [record.check for record in run.records] == ["clean", "fgsm"]
    assert len(run.models) == 1
    # Another number of images, or other weights, are another measurement.
    assert command(50.0, "--images", "20")[0] == 0
    assert measured == ["clean", "fgsm"] * 2
    turned = weights()
    turned["layers.1.bias"][:] = 1.0
    save_file(turned, folder / "net.safetensors")
    assert command(50.0, "--images", "20")[0] == 0
    assert measured == ["clean", "fgsm"] * 3


def test_what_broke_is_measured_again(command, folder, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(FGSM, "perturb", broken)
        code, said = command(50.0)
        assert (code, "not measured: RuntimeError: no memory" in said) == (1, True)
    assert command(50.0)[0] == 0


def test_fewer_images_are_the_first_ones_and_said(command):
    code, said = command(50.0, "--images", 3)
    assert code == 0
    assert "66.67" in said  # 0.2, 0.8 and 0.4, of which one is turned
    assert "20.77–93.85" in said
    assert "here: 3 of 40 images" in said
    assert re.search(r"clean.*100\.00 .*40", said)


def test_an_interrupted_call_keeps_what_was_measured(command, folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FGSM, "perturb", interrupt)
        code, said = command(50.0, "--out", "out")
    assert (code, "the same command goes on from here" in said) == (130, True)
    run = Run.load(folder / "out")
    assert ([record.check for record in run.records], run.finished) == (["clean"], False)


def test_a_folder_of_tables_is_reproduced_and_listed(command, folder):
    code, said = command(50.0, "--out", "out", name=".")
    assert code == 0, said
    assert Run.load(folder / "out").verdict == "passed"
    other = TABLE.replace("{fgsm}", "1").replace('name = "paper"', 'name = "other"')
    (folder / "other.toml").write_text(other)
    code, said = command(50.0, "--out", "both", "--only", "clean", name=".")
    assert code == 0, said
    assert {path.name for path in (folder / "both").iterdir()} == {"other", "paper"}
    code, said = command(50.0, "--list", name=".")
    assert code == 0
    assert all(word in said for word in ("paper", "other", "Doe & Roe", "found"))
    code, said = command(50.0, name="")
    assert (code, "trades" in said, "there is no" in said) == (0, True, True)


def test_two_tables_of_one_name_would_take_each_others_place(command, folder):
    (folder / "again.toml").write_text(TABLE.replace("{fgsm}", "1"))
    code, said = command(50.0, "--out", "both", "--only", "clean", name=".")
    assert (code, len(said.splitlines())) == (2, 1)
    assert said.startswith("harness: 2 of the tables are called paper: again.toml, own.toml; ")
    assert not (folder / "both").exists()


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        (["--only", "clena"], "--only: clena: no such number; "),
        (["--backend", "trch"], "--backend: trch: no such backend"),
        (["--backend", "onnx"], "--backend: onnx: no such backend"),
        (["--out", "test.npz"], "--out: test.npz is a file; name a folder"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(command, arguments, finding):
    code, said = command(50.0, *arguments)
    assert code == 2
    assert said.startswith(f"harness: {finding}")
    assert len(said.splitlines()) == 1


def test_weights_that_are_nowhere_are_said_before_anything_is_measured(command, folder):
    (folder / "net.safetensors").unlink()
    code, said = command(50.0, "--out", "out")
    assert code == 2
    assert said == (
        "harness: paper: models.net.file: there is no net.safetensors; HARNESS_MODELS_DIR is not "
        "set\n"
    )
    assert not (folder / "out").exists()
    with pytest.raises(SpecError, match="there is no"):
        Reproduction(load_table(folder / "own.toml"), folder / "out")


def test_a_number_has_a_threshold_in_the_run(command, folder):
    command(50.0, "--out", "out")
    document = json.loads((folder / "out" / "run.json").read_text())
    thresholds = {one["check"]: one["threshold"] for one in document["records"]}
    assert thresholds["fgsm"][0] is None
    assert thresholds["fgsm"][1] == pytest.approx(0.6549, abs=1e-4)
    assert thresholds["clean"] == pytest.approx([0.9124, 1.0], abs=1e-4)
