"""Lower bounds held against upper ones: what is certified, no attack may misclassify."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.checks.validity.certificate import Certificate
from harness.checks.validity.evidence import Evidence
from harness.errors import CheckFailed, NotApplicable
from harness.maths.norms import written
from harness.maths.query import NO_LABEL
from harness.protocol import FloatArray, IntArray, NormName


@dataclass(frozen=True)
class Found:
    """In how large a ball each of the first m images is misclassified.

    Attributes:
        name: By what; empty of the images as they are.
        norm: The norm of the ball.
        epsilon: Radius of the smallest ball that was looked into, in pixel units.
        at: Radius of the ball in which it is, (m,); infinite where it is not, and NaN where the
            model did not answer.
    """

    name: str
    norm: NormName
    epsilon: float
    at: FloatArray

    def accuracy(self, epsilon: float) -> float:
        """Share of the images, of those that were answered, that are right up to an epsilon."""
        answered = self.at[~np.isnan(self.at)]
        return float(np.mean(answered > epsilon)) if len(answered) else 0.0


def check_certified_misclassified(evidence: Evidence) -> None:
    """No attack of the run misclassifies an image within a ball for which it is certified.

    Certified accuracy is a lower bound on robust accuracy, and accuracy under attack an upper one.
    An image that contradicts them shows that one is none: the certifier is not sound for this
    network, or the attack leaves the ball. It is looked for in what the run has counted: under
    every attack in the certifier's norm at no larger epsilon, where the smallest epsilons were
    searched, and on the images as they are. Nothing is attacked.
    """
    certificates = evidence.certificates()
    if not certificates:
        raise NotApplicable("nothing is certified in this run")
    pairs = [
        (certificate, found)
        for certificate in certificates
        for found in _found(evidence, certificate.norm)
        if found.epsilon <= certificate.epsilon
    ]
    contradicted = [_contradicted(*pair) for pair in pairs]
    if any(map(len, contradicted)):
        worst = int(np.argmax([len(images) for images in contradicted]))
        raise _finding(*pairs[worst], contradicted[worst])
    if not any(found.name for _, found in pairs):
        raise NotApplicable("no attack was counted in a ball for which images are certified")


def _found(evidence: Evidence, norm: NormName) -> Iterator[Found]:
    """All that the run has counted in balls of a norm."""
    if (clean := evidence.measured()) is not None:
        yield _counted(evidence, "", norm, 0.0, clean)
    for one in evidence.reported:
        for epsilon in one.epsilons if one.attack.norm == norm else ():
            if (labels := evidence.counted(one.attack, epsilon)) is not None:
                yield _counted(evidence, one.attack.name, norm, epsilon, labels)
    for name, smallest in evidence.searched().items() if norm == "linf" else ():
        yield Found(f"the search with {name}", norm, 0.0, smallest)


def _counted(
    evidence: Evidence, name: str, norm: NormName, epsilon: float, labels: IntArray
) -> Found:
    at = np.where(labels == evidence.test_y[: len(labels)], np.inf, epsilon)
    return Found(name, norm, epsilon, np.where(labels == NO_LABEL, np.nan, at))


def _contradicted(certificate: Certificate, found: Found) -> IntArray:
    """Positions of the images that are certified, and misclassified in no larger a ball."""
    count = min(len(certificate.certified), len(found.at))
    wrong = found.at[:count] <= certificate.epsilon
    return np.flatnonzero(certificate.certified[:count] & wrong)


def _finding(certificate: Certificate, found: Found, images: IntArray) -> CheckFailed:
    first, epsilon = int(images[0]), certificate.epsilon
    lower, upper = (
        f"{100 * share:.2f} %"
        for share in (float(np.mean(certificate.certified)), found.accuracy(epsilon))
    )
    by = "as it is it is misclassified already"
    if found.name:
        by = f"{found.name} misclassifies it at epsilon {written(found.at[first])}"
    several = f", one of {len(images)} such images" if len(images) > 1 else ""
    return CheckFailed(
        f"{certificate.name} certifies image {first} at epsilon {written(epsilon)}, "
        f"but {by}{several}: certified accuracy is {lower}, and {upper} are classified "
        "correctly there",
        "One of them is wrong: see whether the attack keeps to the ball, and whether the certifier "
        "is sound for each layer of this network.",
        of="certified-misclassified",
    )
