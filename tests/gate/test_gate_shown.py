"""The gate at work: planted regressions, retrained models, and the README's example."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backends_at_hand import NAMES
from gate_runs import changed, measured, right, run_of
from zoo.networks import built, images

import harness
from harness.data.dataset import Part
from harness.evaluation.benchmark import Benchmark
from harness.gate import Baseline, compare, gate, store
from harness.results.run import Run
from harness.spec.gate import GateSettings
from harness.spec.reading import parse_spec, seeded, suites_folder

ROOT = Path(__file__).parents[2]

# Planted, on as many images as MNIST's test part has

RIGHT = right(6900, 7000)
ROBUST = right(1400, 7000)


def whole():
    run = run_of({"clean": RIGHT, "pgd@0.1": ROBUST, "fgsm@0.1": right(5000, 7000)})
    return measured(run, {"clean": RIGHT, "pgd@0.1": ROBUST}, backend="keras")


def failing(run):
    """The names of what fails, as the gate says them."""
    comparison = compare(run, Baseline.of(whole()))
    assert comparison.passed is not any(row.fails for row in comparison.rows)
    return [f"{row.outcome}: {row.label}" for row in comparison.rows if row.fails]


def test_an_unchanged_model_that_is_run_again_passes():
    assert failing(whole()) == []


@pytest.mark.parametrize("model", [1.0, 2.0], ids=["same", "retrained"])
def test_a_model_that_is_a_point_worse(model):
    worse = changed(RIGHT, lost=105, gained=35)
    run = measured(whole(), {"clean": worse}, signature=model)
    assert failing(run) == ["regressed: torch mlp clean"]


def test_a_check_that_was_removed():
    run = whole()
    run.records = [record for record in run.records if record.check != "fgsm"]
    assert failing(run) == ["vanished: torch mlp fgsm eps=0.1"]


def test_a_backend_that_is_missing():
    run = whole()
    run.records = [record for record in run.records if record.backend != "keras"]
    assert failing(run) == ["vanished: keras mlp clean", "vanished: keras mlp pgd eps=0.1"]


@pytest.mark.parametrize("model", [1.0, 2.0], ids=["same", "retrained"])
def test_an_attack_that_was_weakened(model):
    run = measured(whole(), {"pgd@0.1": right(2800, 7000)}, signature=model)
    assert failing(run) == ["improved implausibly: torch mlp pgd eps=0.1"]


# Retrained, really: digits, a small network, NumPy

SPEC = """
name = "small"
backends = ["numpy"]
[data]
name = "digits"
[attacks.fgsm]
epsilons = [0.05, 0.1, 0.2]
[attacks.noise]
epsilons = [0.1, 0.2]
[saliency]
methods = []
[models.mlp]
hidden = [32]
[models.mlp.training]
epochs = 6
batch_size = 32
learning_rate = 5e-3
[models.mlp.expect]
clean = [0.0, 1.0]
"""


def trained(seed):
    """The run of a model trained with that seed."""
    benchmark = Benchmark(seeded(parse_spec(SPEC, "small"), seed), retrain=True)
    evaluation = benchmark.evaluation("numpy", "mlp")
    evaluation.clean()
    for name, sweep in benchmark.spec.attacks.items():
        for epsilon in sweep.epsilons:
            evaluation.attacked(name, epsilon)
    benchmark.run.finished = True
    return benchmark.run


@pytest.fixture(scope="module")
def five_seeds():
    return Baseline.of(*(trained(seed) for seed in range(5)))


@pytest.mark.parametrize("seed", [10, 11, 12])
def test_a_model_of_another_seed_passes_beside_five(five_seeds, seed):
    comparison = compare(trained(seed), five_seeds)
    assert comparison.passed, comparison.message
    assert comparison.notes == ("numpy mlp: a retrained model, compared with the spread of 5 runs",)


def test_a_model_that_was_trained_again_alike_is_the_same_model(five_seeds):
    comparison = compare(trained(3), five_seeds)
    assert comparison.passed
    assert comparison.notes == ("numpy mlp: the baseline's model of run 4, image by image",)


def test_a_model_trained_on_a_tenth_of_the_data_does_not_pass(five_seeds, monkeypatch):
    load = harness.evaluation.benchmark.load_dataset

    def tenth(*asked):
        data = load(*asked)
        few = len(data.train.y) // 10
        train = Part(data.train.x[:few], data.train.y[:few], data.train.index[:few])
        return dataclasses.replace(data, train=train)

    monkeypatch.setattr(harness.evaluation.benchmark, "load_dataset", tenth)
    comparison = compare(trained(10), five_seeds)
    assert not comparison.passed
    assert "torch" not in str(comparison.notes)
    assert "numpy mlp clean" in [row.label for row in comparison.rows if row.verdict == "regressed"]


# Settings of the spec


def test_a_spec_says_what_the_gate_lets_pass_and_that_is_not_in_its_hash():
    plain = parse_spec(SPEC, "small")
    spec = parse_spec(
        SPEC + '[gate]\ntolerance = 0.01\n[gate.tolerances]\n"fgsm@0.1" = 0.02\n', "x"
    )
    assert spec.sha256 == plain.sha256
    assert plain.gate == GateSettings()
    assert Benchmark(spec).run.gate == spec.gate
    assert spec.gate.tolerance_of("fgsm", 0.1) == 0.02
    assert spec.gate.tolerance_of("fgsm", 0.2) == spec.gate.tolerance_of("clean", None) == 0.01


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tolerance = 1.5", "gate.tolerance"),
        ("tolerence = 0.5", "gate.tolerence: unknown key"),
        ("improvement = -1", "gate.improvement"),
        ("tolerances = {pgd = 0.1}", "gate.tolerances.pgd: no such check"),
        ('tolerances = {"fgsm@0.3" = 0.1}', "gate.tolerances.fgsm@0.3: no such check"),
        ("tolerances = {fgsm = 2}", "gate.tolerances.fgsm"),
    ],
)
def test_settings_that_are_wrong_are_one_line(text, words):
    with pytest.raises(harness.errors.SpecError) as caught:
        parse_spec(f"{SPEC}\n[gate]\n{text}\n", "small")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Baselines that lie in the suites


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_baselines_of_the_suites_are_whole_and_their_tables_agree(name):
    path = store.locate(suites_folder() / "baselines" / name)
    baseline = Baseline.load(path)
    assert baseline.spec == name
    assert path.with_suffix(".txt").read_text(encoding="utf-8") == store.summary(baseline)
    for run in baseline.runs:
        assert not {entry.status for entry in run.records} & {"failed", "error"}
        assert all(e.outcomes for e in run.records if e.accuracy and "saliency" not in e.check)


# The README's example


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_the_readme_gates_a_model_of_ones_own(name, tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import harness\n\nsuites = .*?)```", text, re.DOTALL)
    model = built(name)
    net = getattr(model, "net", model)  # NumPy has no networks of its own to wrap
    monkeypatch.chdir(tmp_path)
    x, y = images()
    exec(code, {"net": net, "x": x, "y": y})  # noqa: S102
    accepted = store.accept(Run.load(Path("results")), Path("baselines/model"))
    assert len(Baseline.load(accepted).runs[0].records) > 60
    exec(code, {"net": net, "x": x, "y": y})  # noqa: S102
    comparison = gate(Path("results"), Path("baselines/model"))
    assert comparison.passed
    assert all("the baseline's model" in note for note in comparison.notes)
    y = np.where(np.arange(len(y)) < 9, (y + 1) % 10, y)
    exec(code, {"net": net, "x": x, "y": y})  # noqa: S102
    with pytest.raises(harness.errors.RunError, match="the data differ"):
        gate(Path("results"), Path("baselines/model"))


def test_the_commands_of_the_documentation_exist():
    pages = (ROOT / "README.md", ROOT / "docs" / "gate.md")
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    for verb in (("gate",), ("baseline", "accept"), ("baseline", "add"), ("baseline", "power")):
        assert f"harness {' '.join(verb)}" in text
    done = subprocess.run(
        [sys.executable, "-m", "harness", "gate", "--help"], capture_output=True, text=True,
        check=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    told = set(re.findall(r"--[a-z]+", "".join(re.findall(r"harness gate .*", text))))
    assert told
    assert told <= set(re.findall(r"--[a-z]+", done.stdout))
