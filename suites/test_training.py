"""Is an adversarially trained defence more than a way to fool FGSM?"""

import pytest


@pytest.mark.check("training/collapse")
@pytest.mark.defended
def test_defence_has_not_collapsed(model, judge):
    judge(model.checked("training", "collapse"))
