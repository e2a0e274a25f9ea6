"""The spec of docs/models.md, and the commands below it, are run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backends_at_hand import at_hand
from kinds import HEAVY, Weights, first, labelled
from kinds_torch import example, network, sizes

from harness.results.run import Run
from harness.spec.reading import parse_spec

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
MODULE = """
import torch

def network(width):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(36 * width, 3),
    )
    net.load_state_dict(torch.load("net.pth", weights_only=True))
    return net
"""


def block(language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return found


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder with all that the spec names, and how many images the network classifies rightly."""
    if os.environ.get(HEAVY) != "1":
        pytest.skip("takes half a minute; tox -e models runs it")
    at_hand("torch")
    import torch

    monkeypatch.chdir(tmp_path)
    weights = Weights.drawn(normalised=True).centred(normalised=True)
    x, y = labelled(lambda images: weights.scores(images, normalised=True), count=120)
    np.savez("test.npz", x=first(x), y=y)
    net = network(weights)
    torch.save(net.state_dict(), "net.pth")
    exported = torch.export.export(net, (example(),), dynamic_shapes=sizes())
    torch.export.save(exported, "net.pt2")
    Path("my_project.py").write_text(MODULE, encoding="utf-8")
    # These images are noise: a blur, which suits natural ones, hides little of what was drawn.
    spec = block("toml").replace("[saliency]", '[saliency]\ncover = "black"')
    Path("robustness.toml").write_text(spec, encoding="utf-8")
    return int((weights.scores(x, normalised=True).argmax(axis=1) == y).sum())


def test_the_spec_is_one():
    spec = parse_spec(block("toml"), "docs/models.md")
    assert set(spec.models) == {"plain", "exported"}
    assert spec.attacks["fgsm"].epsilons == (0.0, 4 / 255, 8 / 255)


def test_the_spec_and_the_commands(repository):
    for line in block("console").splitlines():
        words = shlex.split(line.removeprefix("$ "))
        assert words[0] == "harness"
        code = "from robustness_harness import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *words[1:]], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    run = Run.load(Path("results"))
    clean = {r.model: r.correct for r in run.records if r.check == "clean"}
    assert clean == {"plain": repository, "exported": repository}
    assert not [(r.label, r.reason) for r in run.records if r.status in ("failed", "error")]
    radii = {round(r.epsilon * 255) for r in run.records if r.check == "fgsm"}
    assert radii == {0, 4, 8}
    assert {r.check for r in Run.load(Path("one")).records} >= {"clean", "fgsm"}
    assert Path("new", "robustness.toml").is_file()
