"""The code of docs/adaptive.md runs as it stands there, and its defences fall."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from small_models import small_images, small_net

from harness.attacks import ATTACKS
from harness.checks import validity
from harness.maths.adaptive import is_randomised, is_transformed, votes_of
from harness.maths.around import Around
from harness.maths.query import predictions_of
from harness.spec.reading import parse_spec

PAGE = (Path(__file__).parents[1] / "docs" / "adaptive.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


class Noisy(Around):
    """Adds noise to the images; the noise is its own."""

    random = np.random.default_rng(0)

    def _noisy(self, x):
        return x + self.random.normal(0, 0.02, x.shape).astype(np.float32)

    def logits(self, x):
        return self.inner.logits(self._noisy(x))

    def logits_and_gradient(self, x, y, objective):
        return self.inner.logits_and_gradient(self._noisy(x), y, objective)


def test_every_block_runs_and_every_attack_finds_something():
    net = small_net(dtype="float32")
    x, _ = small_images(60, wrong=0)
    names = {
        "net": net, "x": x, "noisy": Noisy(net), "answers": net.logits,
    }  # fmt: skip
    runs, models = [], []
    for block in blocks("python"):
        names["y"] = predictions_of(names.get("model", net), x).labels.astype(int)
        names.pop("run", None)
        exec(block, names)  # noqa: S102
        models.append(names["model"])
        if "run" in names:
            runs.append(names["run"])
    assert len(runs) == 5
    for run in runs:
        counted = {(r.check, r.epsilon): r for r in run.records if r.total is not None}
        clean = counted["clean", None].correct
        attacked = [r.correct for (check, epsilon), r in counted.items() if epsilon]
        assert attacked
        assert max(attacked) < clean
    assert [is_transformed(model) for model in models[:2]] == [True, True]
    assert any(is_randomised(model) and votes_of(model) == 20 for model in models)


def test_the_specs_say_what_exists():
    text = 'name = "x"\nbackends = ["numpy"]\n[data]\nname = "digits"\n'
    model, transfer = blocks("toml")
    spec = parse_spec(text + model, "docs/adaptive.md")
    assert spec.models["noisy"].randomised
    assert spec.models["noisy"].votes == 20
    assert spec.attacks["pgd"].options == {"eot": 10}
    spec = parse_spec(f'{text}[models.m]\nload = "defences:m"\n{transfer}', "docs/adaptive.md")
    assert spec.attacks["transfer"].options == {"source": "defences:undefended"}


def test_the_checks_and_attacks_it_names_are_there():
    checks = set(re.findall(r"checks? `([a-z-]+)`(?:, `([a-z-]+)`)?", PAGE))
    named = {name for pair in checks for name in pair if name}
    assert len(named) >= 8
    assert named <= set(validity.CHECKS)
    for name in ("pgd", "mim", "apgd", "apgd-t", "transfer", "hopskipjump", "hopskipjump-l2"):
        assert f"`{name}`" in PAGE
        assert name in ATTACKS
