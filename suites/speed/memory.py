"""What attacks take up beyond the images: no more for many images than for some of them.

``python -m suites.speed.memory [--backend NAME]`` evaluates networks of initial weights on random
images, each case in a process of its own, and prints by how much its resident memory, which the
images are part of, rises above what it was at most before. The exit code is 1 if that grows with
the images.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness import evaluate
from harness.attacks import make_attack
from harness.maths.query import predictions_of
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.protocol import Network
from harness.registry import builder

EPSILONS = (0.0, 0.05, 0.1)
OPTIONS: dict[str, dict[str, int]] = {"fgsm": {}, "pgd": {"steps": 5}}
"""More steps take more time, and no more memory."""
SHARES, FEW = (10, 4, 1), 20
GROWTH = 0.1
"""From a quarter of the images to all of them peaks may rise by this share of what is added to the
images: labels and confidences are kept of all, and no two processes allocate alike."""
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}
"""Of the GNU C library: large arrays go back to the system when nobody holds them any more, so that
what is seen is what is held, and not what is kept for the next."""
MEGABYTE = 1e6


class Kind(NamedTuple):
    """Images of a kind, and the network that is attacked on them."""

    total: int
    images: ImageKind
    family: str
    options: dict[str, list[int]]


KINDS = {
    "mnist": Kind(60_000, ImageKind((28, 28), 10), "mlp", {"hidden": [512, 256, 128]}),
    "cifar10": Kind(
        50_000, ImageKind((3, 32, 32), 10, channel_axis=0), "cnn", {"channels": [16, 32]}
    ),
}


def beyond(backend: str, kind: str, attack: str, count: int) -> int:
    """Bytes that an evaluation of so many images takes up beyond them, in this process."""
    of = KINDS[kind]
    net = architecture_of(of.family, of.options, of.images)
    model = builder(backend).build(Network(net, initial_weights(net, seed=0)))
    x = np.empty((count, *of.images.shape), np.float32)
    random = np.random.default_rng(0)
    for image in x:
        random.random(out=image, dtype=np.float32)
    # Every image is classified correctly, so that all are attacked.
    y = predictions_of(model, x, batch_size=FEW).labels.astype(np.int64)
    made = make_attack(attack, options=OPTIONS[attack])
    evaluate(model, x[:FEW], y[:FEW], made, EPSILONS, progress=False)  # imports what it needs
    before = _peak()
    evaluate(model, x, y, made, EPSILONS, progress=False)
    return _peak() - before


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m suites.speed.memory", description=__doc__)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--case", nargs=3, metavar=("KIND", "ATTACK", "COUNT"), help="one alone")
    asked = parser.parse_args(arguments)
    if asked.case:
        kind, attack, count = asked.case
        print(beyond(asked.backend, kind, attack, int(count)))
        return 0
    print(f"{asked.backend:8} attack   images       data     beyond")
    grown = 0
    for kind, of in KINDS.items():
        image = 4 * int(np.prod(of.images.shape))
        for attack in OPTIONS:
            peaks = {
                count: _in_a_process(asked.backend, kind, attack, count)
                for count in (of.total // share for share in SHARES)
            }
            for count, peak in peaks.items():
                data = count * image / MEGABYTE
                print(f"{kind:8} {attack:6} {count:8,} {data:7.0f} MB {peak / MEGABYTE:7.0f} MB")
            _, few, many = peaks
            grown += peaks[many] - peaks[few] > GROWTH * (many - few) * image
    print(f"{grown} of the peaks grew with the images")
    return min(grown, 1)


def _in_a_process(backend: str, kind: str, attack: str, count: int) -> int:
    """The same in a process of its own, so that no case finds memory of another's."""
    asked = ["--backend", backend, "--case", kind, attack, str(count)]
    found = subprocess.run(
        [sys.executable, "-m", "suites.speed.memory", *asked],
        stdout=subprocess.PIPE, env=os.environ | ALLOCATOR, check=True, text=True,
    )  # fmt: skip
    return int(found.stdout.split()[-1])


def _peak() -> int:
    """Bytes of this process that were in memory at most; Linux counts them in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
