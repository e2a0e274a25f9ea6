"""The file of a playground: what it computes is what the harness does on the same weights."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from javascript_at_hand import said_by_node
from tiny_spec import tiny_spec

from harness import registry
from harness.attacks.fgsm import FGSM
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.exporting import export_playground, networks_in
from harness.evaluation.resolve import open_spec
from harness.networks.javascript import in_half

COUNT = 200
EPSILONS = (0.05, 0.1, 0.2, 0.3)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("playground")
    (folder / "two.toml").write_text(tiny_spec(models=("one", "two")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE_DIR", str(folder / "cache"))
        yield Benchmark(open_spec(str(folder / "two.toml")))


def bundle_in(path):
    """What a page of one file is given."""
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search('id="bundle">(.*?)</script>', text, re.DOTALL)[1])


def test_predictions_and_attacks_of_200_images_are_the_harness_s(two, tmp_path):
    chosen = networks_in(two, ["one", "two"], "numpy", "playground")
    export_playground(two, chosen, tmp_path / "page.html")
    # All test images, and some of the others.
    parts = (two.dataset.test, two.dataset.validation)
    x = np.concatenate([part.x for part in parts])[:COUNT].astype(np.float64)
    y = np.concatenate([part.y for part in parts])[:COUNT]
    bundle = bundle_in(tmp_path / "page.html")
    ask = {"attack": [{"attack": "fgsm", "epsilon": epsilon} for epsilon in EPSILONS]}
    for model, (name, _, network) in zip(bundle["models"], chosen, strict=True):
        folder = tmp_path / name
        folder.mkdir()
        images = x.reshape(COUNT, -1).tolist()
        request = {"model": model, "images": images, "labels": y.tolist(), "ask": ask}
        said = said_by_node("engine.mjs", request, folder)
        oracle = registry.builder("numpy").build(in_half(network), dtype="float64")
        labels = np.argmax(said["logits"], axis=1)
        np.testing.assert_array_equal(labels, oracle.logits(x).argmax(axis=1))
        counts = []
        index = np.zeros(COUNT, np.int64)
        for place, adversarial in enumerate(FGSM().perturb(oracle, x, y, EPSILONS, index=index)):
            expected = oracle.logits(adversarial).argmax(axis=1)
            found = [answers[place]["adversarial"]["label"] for answers in said["attack"]]
            np.testing.assert_array_equal(found, expected)
            counts.append(int((expected == y).sum()))
        assert counts[0] > counts[-1] + 20, "the attack does something"


def test_what_a_person_reads_when_a_request_is_wrong(two, tmp_path):
    """Errors are sentences, and name what is wrong."""
    chosen = networks_in(two, ["one"], "numpy", "playground")
    export_playground(two, chosen, tmp_path / "page.html")
    (model,) = bundle_in(tmp_path / "page.html")["models"]
    wrong = {
        "An image has 3 numbers, and one takes 64.": ["predict", [0, 0, 0], {}],
        "A pixel is not a number from 0 to 1.": ["predict", [2.0] * 64, {}],
        "There is no attack square here.": ["attack", None, {"attack": "square", "epsilon": 0.1}],
        "There is no attack constructor here.": [
            "attack", None, {"attack": "constructor", "epsilon": 0.1}
        ],
        "Epsilon must be from 0 to 1, not 2.": ["attack", None, {"attack": "pgd", "epsilon": 2}],
        "Epsilon must be from 0 to 1, not -1.": ["smallest", None, {"attack": "pgd", "limit": -1}],
        "There is no class 10.": ["attack", None, {"attack": "pgd", "epsilon": 0, "label": 10}],
        "There is no saliency method magic here.": ["explain", None, {"method": "magic", "top": 1}],
        "The share of the pixels must be above 0 and at most 1, not 0.": [
            "explain", None, {"method": "gradient", "top": 0}
        ],
    }  # fmt: skip
    for ask in wrong.values():
        ask[1] = ask[1] or [0.5] * 64
    said = said_by_node("wrong.mjs", {"model": model, "asks": list(wrong.values())}, tmp_path)
    assert said == list(wrong)
