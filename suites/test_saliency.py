"""Do the most salient pixels matter, and do the maps explain the model at all?

Accuracy with the most salient, random or least salient pixels covered; what the maps of each method
say; and the checks of ``harness.checks.sanity``, which maps that ignore the model fail.
"""

import pytest

from harness.saliency.analysis import MEASURES
from harness.saliency.occlusion import CHOICES


@pytest.mark.check("saliency")
@pytest.mark.parametrize("pixels", CHOICES)
def test_saliency_occlusion(model, pixels, judge):
    judge(model.occluded(pixels))


@pytest.mark.check("saliency")
@pytest.mark.parametrize("measure", MEASURES)
def test_saliency_measure(model, explainer, measure, judge):
    judge(model.explained(explainer, measure))


@pytest.mark.check("saliency-sanity")
def test_saliency_sanity(model, explainer, rule, judge):
    judge(model.checked("saliency-sanity", f"{explainer}/{rule}"))
