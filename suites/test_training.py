"""Is an adversarially trained defence robust to more than FGSM?"""

import pytest


@pytest.mark.check("training/collapse")
@pytest.mark.defended
def test_defence_has_not_collapsed(model, judge):
    judge(model.checked("training", "collapse"))
