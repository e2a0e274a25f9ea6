"""Which test images are kept as examples, and how many pictures of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from harness.protocol import FloatArray, Images, IntArray
from harness.results import keys
from harness.results.recorder import ALL_PICTURES, Recorder

EXAMPLES = 10
"""Images that are kept as examples, at most: of more classes those of an even choice."""
EXTREMES = ALL_PICTURES // 8
"""Bytes of the pictures of the most fragile and most robust images, where these are looked for."""
CASCADES = ALL_PICTURES // 4
"""Bytes of the maps of ever more random layers, where there are maps."""


@dataclass(frozen=True)
class Asked:
    """What will be kept as pictures.

    Attributes:
        sweeps: Of each attack, at how many epsilons.
        methods: How many saliency methods are analysed.
        climbers: By how many attacks the smallest epsilons are looked for.
    """

    sweeps: tuple[int, ...] = ()
    methods: int = 0
    climbers: int = 0

    @property
    def keys(self) -> int:
        """Keys with pictures of every example, those of attacks left out.

        The images, the maps that say what is occluded, and their top pixels; with methods the
        images under FGSM, and each method's maps of both.
        """
        return 3 + (1 + 2 * self.methods if self.methods else 0)


class Examples:
    """The first image of each class, in their order.

    Of more classes than ``EXAMPLES``, or than pictures of them have room, an even choice: so many
    that all that is asked for finds room. Where that is not even one, attacks have pictures at
    fewer epsilons, evenly chosen, the largest always among them.

    Args:
        x: Test images, (n, *shape).
        y: Their labels, (n,).
        recorder: Keeps them, when they are first asked for.
        asked: What will be kept as pictures.
    """

    def __init__(
        self, x: Images, y: IntArray, recorder: Recorder, asked: Asked | None = None
    ) -> None:
        self._x, self._y, self._recorder = x, y, recorder
        self._asked = asked or Asked()
        recorder.expect_images(x.shape[1:])
        self._picture = recorder.picture_bytes()

    @cached_property
    def index(self) -> npt.NDArray[np.int64]:
        """Positions of the images, (m,)."""
        _, firsts = np.unique(self._y, return_index=True)
        asked = self._asked.keys + sum(self._asked.sweeps)
        count = min(EXAMPLES, max(1, self._room // asked), len(firsts))
        chosen = np.linspace(0, len(firsts) - 1, count).round().astype(int)
        index = np.sort(firsts[chosen]).astype(np.int64)
        self._recorder.keep(keys.INDEX, index)
        self._recorder.keep_pictures(keys.example("clean"), self._x[index])
        return index

    @property
    def x(self) -> FloatArray:
        """The images, (m, *shape)."""
        return np.asarray(self._x[self.index])

    @property
    def y(self) -> IntArray:
        """Their labels, (m,)."""
        return np.asarray(self._y[self.index])

    def pictured(self, epsilons: Iterable[float]) -> set[float]:
        """Those of an attack's epsilons at which pictures of the examples are kept."""
        rising = sorted(set(epsilons))
        wanted = sum(self._asked.sweeps)
        share = min(1.0, (self._room - self._asked.keys) / wanted) if wanted else 1.0
        count = min(len(rising), max(1, int(share * len(rising))))
        return _even(rising, count)

    @property
    def extremes(self) -> int:
        """How many of the most fragile images, and of the most robust, have room."""
        return EXTREMES // (4 * max(1, self._asked.climbers) * self._picture)

    def few(self, layers: int) -> npt.NDArray[np.int64]:
        """The first examples, as many as have room for a method's maps by so many models.

        Of these maps the channels are summed.
        """
        one = self._recorder.picture_bytes(channels=False)
        room = CASCADES // (max(1, self._asked.methods) * max(1, layers) * one)
        return self.index[:room]

    @property
    def _room(self) -> int:
        """How many pictures of examples have room, with that of the others kept free."""
        asked = self._asked
        taken = (EXTREMES if asked.climbers else 0) + (CASCADES if asked.methods else 0)
        return (ALL_PICTURES - taken) // self._picture


def _even(rising: Sequence[float], count: int) -> set[float]:
    """So many of them, evenly chosen, from the last to the first."""
    return {rising[at] for at in np.linspace(len(rising) - 1, 0, count).round().astype(int)}
