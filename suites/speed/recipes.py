"""The recipes of adversarial and certified training, each given the same time, in PyTorch.

    python -m suites.speed.recipes --seconds 120 --device cpu --recipes pgd-at trades mart

run in the folder of this repository, trains one network by each recipe for about so many seconds,
and prints a Markdown table: epochs, seconds, accuracy on the test images, clean and under FGSM and
cross-entropy PGD. It needs NumPy, PyTorch and what the harness itself needs.

The epochs of a recipe are as many as fit, by the time that one of its epochs takes, which is
measured first and does not count; nor does the attack at the end. All else is as the recipes say,
but for augmentation (``--augmentation``), which short trainings at a large ε have no use for, and
early stopping. Keys of the adversary, or of certified training, may follow a name, as in
``gradalign:align_lambda=1,start=random`` and ``ibp:kappa=0.2``. Let nothing else run meanwhile:
what shares the machine takes its epochs away.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.attacks.sweep import sweep
from harness.data import Dataset, Part, load_dataset
from harness.errors import HarnessError, first_problem, unknown
from harness.maths.query import correct_count, predictions_of
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.protocol import Architecture, Model, Network, Optimizer, Wrapping
from harness.registry import builder
from harness.spec.models import DataSpec, ModelSpec
from harness.spec.reading import load_spec
from harness.spec.training import RECIPES, TrainingSpec
from harness.training.loop import Trained, train

CNN: dict[str, Any] = {"channels": [16, 32], "kernel": 4, "stride": 2, "dense": [100]}
"""Two convolutions of stride 2 and a hidden layer: small, and wide enough for ε = 0.3 on MNIST."""
COMPARED = (
    "pgd-at", "trades", "mart", "awp", "gradalign:align_lambda=1,start=random,rel_stepsize=1.25",
)  # fmt: skip
"""GradAlign with more weight than its paper gives it at 8/255, and a random start: by the recipe as
it stands, single steps at ε = 0.3 are withstood, and several are not."""
SPARE = 0.95
"""Share of the time that is planned for, so that an epoch that takes longer does not exceed it."""
WARM_UP = 1280
"""Images of the step or two in which whatever is set up only once is set up."""


@dataclass(frozen=True)
class Contest:
    """What is the same for all recipes."""

    data: Dataset
    network: Architecture
    epsilon: float
    device: str
    augmentation: str
    seed: int

    def recipe(self, named: str, epochs: int) -> TrainingSpec:
        """The recipe, with so many epochs, none of which is left out.

        Raises:
            HarnessError: There is no such recipe, or no such key of its defence.
        """
        name, _, keys = named.partition(":")
        if name not in RECIPES:
            raise HarnessError(unknown(name, "recipe", RECIPES))
        said: dict[str, Any] = {}
        defence = "certified" if "certified" in RECIPES[name] else "adversary"
        if keys or defence in RECIPES[name]:
            said[defence] = {"epsilon": self.epsilon}
            said[defence] |= dict(one.split("=", 1) for one in keys.split(",") if "=" in one)
        if self.augmentation != "recipe":
            said["augmentation"] = self.augmentation
        try:
            return TrainingSpec(recipe=name, epochs=epochs, patience=epochs, **said)
        except ValidationError as error:
            raise HarnessError(f"{named}: {first_problem(error, TrainingSpec)}") from error

    def train(self, recipe: TrainingSpec, training: Part, title: str) -> tuple[Trained, Model]:
        """A training from the initial weights, and its model."""
        trainer = builder("torch").trainer(
            Network(self.network, initial_weights(self.network, self.seed)),
            Wrapping(self.data.bounds, device=self.device),
            Optimizer(recipe.l2, recipe.weight_decay),
            seed=self.seed,
        )
        validation = self.data.fitted()[1]
        found = train(trainer, training, validation, recipe, seed=self.seed, title=title)
        return found, trainer.inference(found.weights)

    def epochs(self, name: str, seconds: float) -> int:
        """How many epochs fit into the time, at least one."""
        training = self.data.fitted()[0]
        few = Part(training.x[:WARM_UP], training.y[:WARM_UP], training.index[:WARM_UP])
        recipe = self.recipe(name, 1)
        self.train(recipe, few, f"{name}, warming up")
        started = time.perf_counter()
        self.train(recipe, training, f"{name}, measuring an epoch")
        return max(1, int(SPARE * seconds / (time.perf_counter() - started)))


def compared(contest: Contest, name: str, seconds: float, steps: int, images: int) -> list[str]:
    """A row of the table."""
    epochs = contest.epochs(name, seconds)
    started = time.perf_counter()
    trained, model = contest.train(
        contest.recipe(name, epochs), contest.data.fitted()[0], f"{name}, {epochs} epochs"
    )
    taken = time.perf_counter() - started
    x, y = np.asarray(contest.data.test.x[:images]), contest.data.test.y[:images]
    right = [correct_count(predictions_of(model, x), y)]
    for attack in (FGSM(), PGD(steps=steps, losses=("cross-entropy",))):
        (attacked,) = sweep(model, attack, x, y, [contest.epsilon])
        right.append(correct_count(attacked.predictions, y))
    best = trained.history[trained.best_epoch - 1]
    return [
        f"`{name}`", f"{epochs}", f"{trained.best_epoch}", f"{taken:.0f}",
        *(f"{count / len(y):.2%}" for count in right), "yes" if best.collapsed else "no",
    ]  # fmt: skip


def main(given: Sequence[str] | None = None) -> None:
    """See the module."""
    said = _arguments(given)
    data, network = _subject(said)
    contest = Contest(data, network, said.epsilon, said.device, said.augmentation, said.seed)
    count = min(said.images, len(data.test))
    print(
        f"{data.name}, ε = {said.epsilon:g}, {said.seconds:g} s each on {said.device}, "
        f"{count} test images, seed {said.seed}\n"
    )
    titles = ["recipe", "epochs", "best", "s", "clean", "FGSM", f"PGD-{said.steps}", "collapsed"]
    for name in said.recipes:
        contest.recipe(name, 1)  # before minutes have passed
    rows = []
    for name in said.recipes:
        rows.append(compared(contest, name, said.seconds, said.steps, count))
        print("  ".join(rows[-1]), flush=True)
    print()
    for row in (titles, ["---"] * len(titles), *rows):
        print(f"| {' | '.join(row)} |")


def _subject(said: Any) -> tuple[Dataset, Architecture]:
    """The data and the network: those of a spec, or the network above for a dataset.

    Raises:
        HarnessError: There is no such spec or dataset, or no such network in the spec.
    """
    architecture, options = "cnn", CNN
    source = DataSpec(name=said.data, split="canonical" if said.data == "mnist" else "70-20-10")
    if said.spec is not None:
        spec = load_spec(said.spec)
        trained = {name: one for name, one in spec.models.items() if isinstance(one, ModelSpec)}
        name = said.model or next(iter(trained), "")
        if name not in trained:
            raise HarnessError(f"{said.spec}: {unknown(name, 'trained model', trained)}")
        architecture, options = trained[name].architecture, trained[name].options
        source = spec.data
    data = load_dataset(source)
    kind = ImageKind.of(data.test.x.shape[1:], len(data.classes), source.channel_axis)
    return data, architecture_of(architecture, options, kind)


def _arguments(given: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m suites.speed.recipes", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--seconds", type=float, default=120.0, help="of training, for each recipe")
    add("--device", default="cpu", help="cpu, cuda or mps")
    add("--recipes", nargs="+", default=COMPARED, metavar="NAME", help="NAME[:KEY=VALUE,...]")
    add("--epsilon", type=float, default=0.3, help="L∞ radius in pixel units")
    add("--steps", type=int, default=40, help="of the PGD that judges")
    add("--images", type=int, default=10_000, help="test images, at most")
    add("--augmentation", choices=["none", "recipe"], default="none")
    add("--data", default="mnist", help="name of a dataset")
    add("--spec", help="name or file of a spec, whose data and network are taken instead")
    add("--model", help="which model of the spec; the first by default")
    add("--seed", type=int, default=0)
    return parser.parse_args(given)


if __name__ == "__main__":
    try:
        main()
    except HarnessError as error:
        sys.exit(f"recipes: {error}")
