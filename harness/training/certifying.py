"""Certified training: the ball of each step, and how much of the validation images is certified."""

from __future__ import annotations

from harness.certification import make_certifier
from harness.certification.sweep import certify
from harness.protocol import Batch, FloatArray, IntArray, Model, Network
from harness.spec.training import CertifiedTrainingSpec

CERTIFIED = 1000
"""Validation images that are certified after each epoch."""


class Certifying:
    """How a training grows the ball, and the certified loss's weight, as a spec says."""

    def __init__(self, spec: CertifiedTrainingSpec) -> None:
        self.spec = spec

    def batch(self, x: FloatArray, targets: FloatArray, progress: float) -> Batch:
        """What a step learns from, of images (n, *shape) with targets (n, k).

        Args:
            x: Images within the model's bounds.
            targets: A distribution over the classes per image.
            progress: How much of the training is over, in [0, 1).
        """
        share = self._share(progress)
        return Batch(
            x, targets, radius=share * self.spec.epsilon,
            certified_weight=share * (1 - self.spec.kappa),
        )  # fmt: skip

    def certified(
        self, network: Network, model: Model, x: FloatArray, y: IntArray
    ) -> dict[str, float]:
        """Certified accuracy of the first images at epsilon, by interval bound propagation.

        Raises:
            MeasurementError: The model's logits are not finite.
        """
        images, labels = x[:CERTIFIED], y[:CERTIFIED]
        (held,) = certify(
            make_certifier("ibp"), network, model, images, labels, [self.spec.epsilon]
        )
        return {"certified_accuracy": float(held.mean())}

    def _share(self, progress: float) -> float:
        """How much of the ball there is: none in the warm-up, all of it after the ramp."""
        into, ramp = progress - self.spec.warm_up, self.spec.ramp
        if into < 0:
            return 0.0
        return min(1.0, into / ramp) if ramp else 1.0
