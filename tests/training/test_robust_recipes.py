"""What the recipes of adversarial training come to on the digits, and that they can be resumed."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import cache

import pytest
from backends_at_hand import NAMES, at_hand
from toy_training import same_weights, toy_recipe, toy_train, without_seconds

from harness.data import load_dataset
from harness.errors import HarnessError
from harness.networks.initial import initial_weights
from harness.protocol import Network, Optimizer, Wrapping, fully_connected
from harness.spec.models import DataSpec
from harness.spec.training import TrainingSpec
from harness.training.adversary import probe
from harness.training.loop import train
from suites.speed import recipes

FRAMEWORKS = [name for name in NAMES if name != "numpy"]
ROBUST = ["trades", "mart", "awp", "gradalign", "ibp"]
EPSILON = 0.1


def defence(recipe, **said):
    """What a recipe has to be told beside its name."""
    part = "certified" if recipe == "ibp" else "adversary"
    return {part: {"epsilon": EPSILON} | said} if recipe in ROBUST else {}


@pytest.fixture(params=FRAMEWORKS)
def name(request):
    at_hand(request.param)
    return request.param


@cache
def on_digits(name, recipe):
    """Accuracy under FGSM and PGD after a few epochs."""
    data = load_dataset(DataSpec(name="digits"))
    net = fully_connected((8, 8), (64,), 10)
    said = TrainingSpec(
        recipe=recipe, epochs=8, batch_size=64, learning_rate=1e-2, augmentation="none",
        averaging=0.0, **defence(recipe),
    )  # fmt: skip
    trainer = at_hand(name).trainer(
        Network(net, initial_weights(net, 0)),
        Wrapping((0.0, 1.0)),
        Optimizer(said.l2, said.weight_decay),
        seed=0,
    )
    trained = train(trainer, *data.fitted(), said, seed=0, title=recipe)
    return probe(trainer.inference(trained.weights), data.test.x, data.test.y, EPSILON)


@pytest.mark.parametrize("recipe", ROBUST)
def test_each_defence_withstands_more_than_standard_training(name, recipe):
    standard = on_digits(name, "standard")["pgd_accuracy"]
    assert on_digits(name, recipe)["pgd_accuracy"] > standard + 0.15


# Where a recipe goes on is the loop's concern, which is one, as is GradAlign's noise, by the step;
# a trainer's own state is the same with each of them.
@pytest.mark.parametrize(
    ("name", "recipe"),
    [("torch", recipe) for recipe in ROBUST]
    + [(name, "gradalign") for name in FRAMEWORKS if name != "torch"],
)
def test_a_training_that_is_resumed_ends_with_the_same_weights(name, recipe, tmp_path):
    at_hand(name)
    said = toy_recipe(recipe, epochs=3, averaging=0.9, **defence(recipe))
    checkpoint = tmp_path / "model.checkpoint"

    def broken_off(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy_train(name, said, checkpoint=checkpoint, on_epoch=broken_off)
    assert checkpoint.exists()
    resumed, whole = toy_train(name, said, checkpoint=checkpoint), toy_train(name, said)
    assert same_weights(resumed.weights, whole.weights)
    assert without_seconds(resumed.history) == without_seconds(whole.history)


def test_the_comparison_of_recipes_in_torch_prints_a_row_for_each(capsys):
    at_hand("torch")
    recipes.main(
        ["--data", "digits", "--seconds", "0.1", "--images", "30", "--steps", "2",
         "--recipes", "gradalign:steps=2", "mart", "ibp:kappa=0.2"]
    )  # fmt: skip
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert [row[0].strip("| ") for row in rows] == [
        "recipe",
        "---",
        "`gradalign:steps=2`",
        "`mart`",
        "`ibp:kappa=0.2`",
    ]
    assert len({len(row) for row in rows}) == 1
    assert all(row[4].endswith("%") for row in rows[2:])


def test_a_recipe_that_is_not_there_and_a_wrong_key_are_one_line():
    for said, message in (
        ("gradalin", "gradalin: no such recipe; *"),
        ("mart:steps=none", "mart:steps=none: adversary.steps: *"),
        ("ibp:kappa=none", "ibp:kappa=none: certified.kappa: *"),
    ):
        with pytest.raises(HarnessError) as error:
            recipes.main(["--data", "digits", "--recipes", "mart", said])
        assert fnmatch(str(error.value), message), str(error.value)
        assert "\n" not in str(error.value)
