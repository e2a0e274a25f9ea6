"""Do the most salient pixels matter? Accuracy with them covered, beside random and least salient."""

import pytest

from harness.saliency.occlusion import CHOICES


@pytest.mark.check("saliency")
@pytest.mark.parametrize("pixels", CHOICES)
def test_saliency_occlusion(target, pixels, judge):
    judge(target.occluded(pixels))
