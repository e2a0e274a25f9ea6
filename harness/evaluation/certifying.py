"""Accuracy that is certified: of how many images no perturbation in a ball changes the label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.certification import certify
from harness.checks.validity import Certificate
from harness.evaluation.models import LoadedModel
from harness.protocol import Certifier, Images, IntArray
from harness.results import keys
from harness.results.recorder import Recorder
from harness.results.records import Record


class Certifying:
    """Measurements by certifiers.

    Args:
        loaded: The model, with its network where that is known.
        x: Test images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,) integers.
        recorder: Takes what is measured.
    """

    def __init__(self, loaded: LoadedModel, x: Images, y: IntArray, recorder: Recorder) -> None:
        self.loaded, self.x, self.y, self.recorder = loaded, x, y, recorder

    def certified(
        self, certifier: Certifier, epsilons: Sequence[float], images: int | None = None
    ) -> list[Record]:
        """Certified accuracy of the first images (or all), a record per epsilon.

        A model whose network is not known, or has a layer that the certifier does not know, is
        skipped; whatever else is raised becomes a record with status ``error``.
        """
        x, y, recorder = self.x[:images], self.y[:images], self.recorder
        check = keys.certificate(certifier.name)
        try:
            with recorder.timed(check, len(x), len(epsilons)):
                found = certify(
                    certifier, self.loaded.network, self.loaded.model, x, y, list(epsilons)
                )
        except Exception as error:
            return [recorder.broken(check, error, e, certifier.norm) for e in epsilons]
        records = []
        for epsilon, certified in zip(epsilons, found, strict=True):
            recorder.keep(keys.certified(certifier.name, epsilon), certified)
            count = int(certified.sum())
            record = recorder.counted(check, count, len(x), epsilon, norm=certifier.norm)
            records.append(record)
        return records

    def known(self, certifier: Certifier, epsilons: Sequence[float]) -> Iterator[Certificate]:
        """What of it is in the run."""
        for epsilon in epsilons:
            found = self.recorder.kept(keys.certified(certifier.name, epsilon))
            if found is not None:
                yield Certificate(certifier.name, certifier.norm, epsilon, found)
