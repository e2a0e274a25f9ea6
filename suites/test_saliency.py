"""Do the most salient pixels matter? Accuracy with them, random or the least ones covered."""

import pytest

from harness.saliency.occlusion import CHOICES


@pytest.mark.check("saliency")
@pytest.mark.parametrize("pixels", CHOICES)
def test_saliency_occlusion(target, pixels, judge):
    judge(target.occluded(pixels))
