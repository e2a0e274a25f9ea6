"""What the sanity checks look at: a method's maps of a model, and of randomised models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from harness.errors import NotApplicable
from harness.maths.around import why_no_gradient
from harness.maths.channels import axis_of, channel_axis_of
from harness.maths.query import batch_size_for, batches, logits_of
from harness.protocol import GRADIENT, BoolArray, FloatArray, Images, IntArray, Model
from harness.saliency.methods import METHODS, Method, one_colour, unchecked_maps
from harness.saliency.similarity import rank_correlation, structural_similarity
from harness.spec.measures import Cover, SanitySpec

IMAGES = 100
"""Images whose maps are compared."""
MOST = 1000
"""Images that are looked at, where accuracy is counted."""
FEW = 8
"""Images of these that are examined pixel by pixel."""


class Cascade(Protocol):
    """Models with the last layer random, the last two, and so on to all of them."""

    def __len__(self) -> int:
        """How many there are."""

    def __iter__(self) -> Iterator[Model]:
        """They one by one, the same each time."""


class Compared(Protocol):
    """What ``Variants`` holds; each may be made when it is asked for.

    It then raises ``NotApplicable``, with the reason, where there can be none.
    """

    @property
    def cascade(self) -> Cascade: ...  # noqa: D102
    @property
    def random(self) -> Model: ...  # noqa: D102
    @property
    def random_labels(self) -> Model: ...  # noqa: D102
    @property
    def exact(self) -> Model: ...  # noqa: D102
    @property
    def oracle(self) -> Model: ...  # noqa: D102


@dataclass(frozen=True)
class Variants:
    """Models of the same architecture as the one that is explained.

    Attributes:
        cascade: With the last layer random, the last two, and so on to all of them.
        random: With all layers random at once, by another draw.
        random_labels: Trained on random labels.
        exact: With the model's own weights in float64.
        oracle: The NumPy backend's with these weights in float64.
    """

    cascade: tuple[Model, ...]
    random: Model
    random_labels: Model
    exact: Model
    oracle: Model


class Likeness(NamedTuple):
    """How alike two models' maps are: means over the images.

    Attributes:
        ranks: Rank correlation of the absolute maps.
        structure: Their SSIM.
        signed: Rank correlation of the maps as they are.
    """

    ranks: float
    structure: float
    signed: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """A method, and a model that it explains.

    Attributes:
        model: The model as it is measured.
        test_x: Test images, (m, *shape) float32; they need not be in memory.
        test_y: Their labels, (m,) int64.
        name: What the method is called; of some names it is known what they should be.
        method: What computes the maps; by default the harness's method of that name.
        variants: What the model is compared with; without it some checks do not apply.
        bounds: What passes.
        seed: Which pixels are drawn.
        channel_axis: Which axis of one image holds its channels; what the model says, or what the
            images' shape leaves no doubt of, where that is not said.
        cover: What covered pixels become; where that is not said, what suits the images (see
            ``saliency.covers.cover_of``).
    """

    model: Model
    test_x: Images
    test_y: IntArray
    name: str = "gradient"
    method: Method | None = None
    variants: Compared | None = None
    bounds: SanitySpec = field(default_factory=SanitySpec)
    seed: int = 0
    channel_axis: int | None = None
    cover: Cover | None = None

    @property
    def axis(self) -> int | None:
        """The axis of one image that holds its channels, from 0; None if every number is a pixel.

        Raises:
            HarnessError: The images have no such axis.
        """
        shape = tuple(self.test_x.shape[1:])
        if self.channel_axis is None:
            return channel_axis_of(self.model, shape)
        return axis_of(shape, self.channel_axis)

    @cached_property
    def telling(self) -> IntArray:
        """Positions of the test images with more than one colour, the first ``MOST`` of them.

        In others no pixel is more salient, and the map of a black one may well be zero everywhere.
        """
        x, found = self.test_x, np.zeros(0, dtype=np.int64)
        for part in batches(len(x), batch_size_for(self.model, x)):
            plain = one_colour(np.asarray(x[part]))
            found = np.concatenate([found, part.start + np.flatnonzero(~plain)])
            if len(found) >= MOST:
                break
        return found[:MOST]

    @cached_property
    def x(self) -> FloatArray:
        """The images whose maps are compared, (n, *shape)."""
        return np.asarray(self.test_x[self.telling[:IMAGES]])

    @property
    def y(self) -> IntArray:
        """Their labels, (n,)."""
        return self.test_y[self.telling[:IMAGES]]

    @cached_property
    def maps(self) -> FloatArray:
        """Maps of the true class, (n, *shape), finite or not."""
        return self.maps_of(self.model)

    @cached_property
    def least_likely(self) -> IntArray:
        """The class with the smallest logit of each image, (n,)."""
        return np.asarray(logits_of(self.model, self.x).argmin(axis=1))

    def maps_of(
        self, model: Model, x: FloatArray | None = None, y: IntArray | None = None
    ) -> FloatArray:
        """The method's maps of a model, by default of the images and their labels.

        Raises:
            NotApplicable: The model gives no gradients.
        """
        if GRADIENT not in model.capabilities:
            raise NotApplicable(
                f"maps are gradients, and the model gives none{why_no_gradient(model)}"
            )
        return unchecked_maps(
            model,
            self.x if x is None else x,
            self.y if y is None else y,
            self.method or METHODS[self.name],
        )

    @cached_property
    def likenesses(self) -> list[Likeness]:
        """How like the model's own the maps of each variant of the cascade are.

        Raises:
            NotApplicable: There are no variants, or a map is not finite or zero everywhere.
        """
        return [self.likeness(variant) for variant in self.require_variants().cascade]

    @property
    def cascade(self) -> FloatArray:
        """Rank correlation and SSIM of the absolute maps along the cascade, (layers, 2) float64."""
        return np.array([found[:2] for found in self.likenesses])

    def likeness(self, variant: Model) -> Likeness:
        """How like the model's own maps those of a variant are, on average."""
        own, other = self.require_sound(), self.maps_of(variant)
        sizes = np.abs(own), np.abs(other)
        found = (
            rank_correlation(*sizes),
            structural_similarity(*sizes, self.axis),
            rank_correlation(own, other),
        )
        return Likeness(*(float(values.mean()) for values in found))

    def require_variants(self) -> Compared:
        """The variants.

        Raises:
            NotApplicable: There are none.
        """
        if self.variants is None:
            raise NotApplicable("the network cannot be built again with other weights")
        return self.variants

    def require_sound(self) -> FloatArray:
        """The maps.

        Raises:
            NotApplicable: One is not finite, or is zero everywhere; the check ``finite`` says
                so.
        """
        if unsound(self.maps).any():
            raise NotApplicable("a map is not finite, or is zero everywhere")
        return self.maps


def unsound(maps: FloatArray) -> BoolArray:
    """Which maps, (n,), hold NaN or infinity or are zero everywhere."""
    flat = maps.reshape(len(maps), -1)
    return np.asarray(~np.isfinite(flat).all(axis=1) | ~flat.any(axis=1))
