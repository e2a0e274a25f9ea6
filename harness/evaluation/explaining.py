"""What saliency maps say of a model: occlusion, and measures of each method's maps."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from harness.errors import NotApplicable
from harness.evaluation.examples import Examples
from harness.maths.around import why_no_gradient
from harness.maths.channels import channel_axis_of
from harness.maths.images import IN_MEMORY
from harness.maths.query import predictions_of
from harness.protocol import GRADIENT, FloatArray, Images, IntArray, Model
from harness.results import keys
from harness.results.recorder import Recorder
from harness.results.records import Record
from harness.saliency import analysis, topk
from harness.saliency.covers import cover_of
from harness.saliency.maps import pixel_scores, top_pixels
from harness.saliency.methods import Maps, explain
from harness.saliency.occlusion import occluded_correct
from harness.spec.measures import SaliencySpec


class Explaining:
    """Measurements of saliency maps; what breaks becomes a record, as in ``Attacking``.

    Args:
        model: The model that is explained.
        x: Test images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,) integers.
        examples: Those of them that are kept.
        recorder: Takes what is measured.
        settings: How maps are computed and tested.
        seed: Which pixels are drawn.
    """

    def __init__(
        self,
        model: Model,
        x: Images,
        y: IntArray,
        examples: Examples,
        recorder: Recorder,
        settings: SaliencySpec,
        seed: int,
    ) -> None:
        self.model, self.x, self.y = model, x, y
        self.examples, self.recorder = examples, recorder
        self.settings, self.seed = settings, seed
        self._channel_axis = channel_axis_of(model, tuple(x.shape[1:]))

    def occluded(self, choice: str) -> Record:
        """Accuracy with the most salient, random, or least salient pixels covered."""
        check, settings = f"saliency/{choice}", self.settings
        try:
            self._require_gradient()
            correct, total = occluded_correct(
                self.model, self.x, self.y, self._maps, choice,
                fraction=settings.top, draws=settings.random_draws, seed=self.seed,
                channel_axis=self._channel_axis,
                cover=cover_of(settings.cover, tuple(self.x.shape[1:]), self._channel_axis),
            )  # fmt: skip
        except Exception as error:
            return self.recorder.broken(check, error)
        shown = np.asarray(self._maps[self.examples.index])
        top = top_pixels(pixel_scores(shown, self._channel_axis), settings.top)
        # A copy: the mask of a pixel is that of all its channels.
        self.recorder.keep_pictures(keys.TOP, np.broadcast_to(top, shown.shape).copy())
        return self.recorder.counted(check, correct, total, draws=total // len(self.y))

    def explained(self, method: str) -> list[Record]:
        """What the maps of a method say of the first images: a record per measure, with a value.

        Whether they lie on strokes cannot be measured of images that have none.
        """
        checks = {measure: f"saliency/{method}/{measure}" for measure in analysis.MEASURES}
        try:
            self._require_gradient()
            x, y = self._first
            moved = self._under_fgsm
            with self.recorder.timed(f"saliency/{method}", len(x)):
                found = analysis.analysed(self.model, x, y, moved, method, self.settings)
            self._keep_maps(method)
            self._keep_random()
        except Exception as error:
            return [self.recorder.broken(check, error) for check in checks.values()]
        for name, values in found.items():
            self.recorder.keep(keys.curve(method, name), values)
        return [
            self.recorder.valued(check, analysis.summary(measure, found))
            if measure in found
            else self.recorder.skipped(
                check, topk.why_no_strokes(x, self.model.bounds, self._channel_axis)
            )
            for measure, check in checks.items()
        ]

    def _require_gradient(self) -> None:
        if GRADIENT not in self.model.capabilities:
            raise NotApplicable(
                f"maps are gradients, and the model gives none{why_no_gradient(self.model)}"
            )

    @property
    def _first(self) -> tuple[FloatArray, IntArray]:
        """The images that are analysed, and their labels."""
        count = self.settings.images
        return np.asarray(self.x[:count]), self.y[:count]

    @cached_property
    def _maps(self) -> Images:
        """Maps of all images; where these are many, computed anew when they are asked for."""
        lazy = Maps(self.model, self.x, self.y, self.settings.occlusion)
        maps = lazy if lazy.nbytes > IN_MEMORY else np.asarray(lazy)
        self.recorder.keep_pictures(keys.MAPS, maps[self.examples.index])
        return maps

    @cached_property
    def _under_fgsm(self) -> FloatArray:
        """The first images under FGSM, (n, *shape); computed once for all methods."""
        x, y = self._first
        return analysis.under_fgsm(self.model, x, y, self.settings.epsilon)

    @cached_property
    def _moved_examples(self) -> FloatArray:
        """The examples under FGSM, (m, *shape); attacked once for all methods."""
        x, y = self.examples.x, self.examples.y
        moved = analysis.under_fgsm(self.model, x, y, self.settings.epsilon)
        self.recorder.keep_pictures(keys.example("moved"), moved)
        said = predictions_of(self.model, moved).labels
        self.recorder.keep(keys.example("moved", "labels"), said)
        return moved

    def _keep_maps(self, method: str) -> None:
        """The maps of the examples, as they are and under FGSM."""
        kinds = {
            keys.maps(method): self.examples.x,
            keys.maps(method, moved=True): self._moved_examples,
        }
        for key, images in kinds.items():
            maps = explain(self.model, images, self.examples.y, method)
            self.recorder.keep_pictures(key, maps)

    def _keep_random(self) -> None:
        """What random pixels do, which is the same for all methods."""
        if self.recorder.kept(keys.curve("random", "deletion")) is not None:
            return
        x, y = self._first
        found = analysis.analysed_at_random(self.model, x, y, self.settings, self.seed)
        for name, values in found.items():
            self.recorder.keep(keys.curve("random", name), values)
