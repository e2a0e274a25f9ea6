"""What the sanity checks look at: a method's maps of a model, and of models that know less."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from harness.conformance import NotApplicableError
from harness.measure import logits_of
from harness.protocol import BoolArray, FloatArray, IntArray, Model
from harness.saliency.methods import METHODS, Method, unchecked_maps
from harness.saliency.similarity import rank_correlation, structural_similarity
from harness.spec import SanitySpec

IMAGES = 100
"""Images whose maps are compared."""
FEW = 8
"""Images of these that are asked about pixel by pixel."""


@dataclass(frozen=True)
class Twins:
    """Models of the same architecture as the one that is explained.

    Attributes:
        cascade: With the last layer random, the last two, and so on to all of them.
        random: With all layers random at once, by another draw.
        taught_nonsense: Trained on random labels.
        exact: With the model's own weights in float64.
        oracle: The NumPy backend's with these weights in float64.
    """

    cascade: tuple[Model, ...]
    random: Model
    taught_nonsense: Model
    exact: Model
    oracle: Model


@dataclass(frozen=True, eq=False)
class MapEvidence:
    """A method, and a model that it explains.

    Attributes:
        model: The model as it is measured.
        test_x: Test images, (m, *shape) float32.
        test_y: Their labels, (m,) int64.
        name: What the method is called; of some names it is known what they should be.
        method: What computes the maps; by default the harness's method of that name.
        twins: What the model is compared with; without it some checks do not apply.
        bounds: What passes.
        seed: Which pixels are drawn.
        channel_axis: Which axis of one image holds its channels; see ``similarity.spatial_axes``
            for what is taken where that is not said.
    """

    model: Model
    test_x: FloatArray
    test_y: IntArray
    name: str = "gradient"
    method: Method | None = None
    twins: Twins | None = None
    bounds: SanitySpec = field(default_factory=SanitySpec)
    seed: int = 0
    channel_axis: int | None = None

    @property
    def x(self) -> FloatArray:
        """The images whose maps are compared, (n, *shape)."""
        return self.test_x[:IMAGES]

    @property
    def y(self) -> IntArray:
        """Their labels, (n,)."""
        return self.test_y[:IMAGES]

    @cached_property
    def maps(self) -> FloatArray:
        """Maps of the true class, (n, *shape), finite or not."""
        return self.maps_of(self.model)

    @cached_property
    def least_likely(self) -> IntArray:
        """The class that the model thinks least likely of each image, (n,)."""
        return np.asarray(logits_of(self.model, self.x).argmin(axis=1))

    def maps_of(
        self, model: Model, x: FloatArray | None = None, y: IntArray | None = None
    ) -> FloatArray:
        """The method's maps of a model, by default of the images and their labels."""
        return unchecked_maps(
            model,
            self.x if x is None else x,
            self.y if y is None else y,
            self.method or METHODS[self.name],
        )

    @cached_property
    def cascade(self) -> FloatArray:
        """The similarities to the maps of each twin of the cascade, (layers, 2) float64.

        Raises:
            NotApplicableError: There are no twins, or a map is not finite or zero everywhere.
        """
        return np.array([self.similarities(twin) for twin in self.require_twins().cascade])

    def similarities(self, twin: Model) -> tuple[float, float]:
        """Mean rank correlation and SSIM of the absolute maps of the model and of a twin."""
        own, other = np.abs(self.require_sound()), np.abs(self.maps_of(twin))
        ranks = rank_correlation(own, other)
        structure = structural_similarity(own, other, self.channel_axis)
        return float(ranks.mean()), float(structure.mean())

    def require_twins(self) -> Twins:
        """The twins.

        Raises:
            NotApplicableError: There are none.
        """
        if self.twins is None:
            raise NotApplicableError("the network cannot be built again with other weights")
        return self.twins

    def require_sound(self) -> FloatArray:
        """The maps.

        Raises:
            NotApplicableError: One is not finite, or is zero everywhere; the check ``finite`` says
                so.
        """
        if unsound(self.maps).any():
            raise NotApplicableError("a map is not finite, or is zero everywhere")
        return self.maps


def unsound(maps: FloatArray) -> BoolArray:
    """Which maps, (n,), hold NaN or infinity or are zero everywhere."""
    flat = maps.reshape(len(maps), -1)
    return np.asarray(~np.isfinite(flat).all(axis=1) | ~flat.any(axis=1))
