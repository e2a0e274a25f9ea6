"""Which axis of an image holds its channels."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError
from harness.maths.channels import axis_of, channel_axis_of, guessed_axis


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((28, 28), None), ((784,), None), ((1, 28, 28), 0), ((28, 28, 1), 2), ((3, 32, 32), 0),
        ((32, 32, 3), 2), ((4, 224, 200), 0), ((3, 3, 3), None), ((4, 4, 2), None),
        ((5, 8, 8), None), ((3, 224, 3), None), ((1, 3, 32, 32), None),
    ],
)  # fmt: skip
def test_it_is_guessed_where_the_shape_leaves_no_doubt(shape, axis):
    assert guessed_axis(shape) == axis


def test_where_the_number_of_channels_is_known_less_is_in_doubt():
    assert guessed_axis((5, 8, 8), 5) == 0
    assert guessed_axis((8, 8, 5), 5) == 2
    assert guessed_axis((3, 8, 3), 3) is None


def test_what_is_said_is_taken_and_checked():
    class Said:
        channel_axis = -1

    assert axis_of((3, 3, 3), -1) == 2
    assert channel_axis_of(Said(), (3, 3, 3)) == 2
    with pytest.raises(HarnessError, match="channel_axis: 3 is no axis"):
        axis_of((3, 3, 3), 3)
    with pytest.raises(HarnessError, match="holds 3 channels, not 4"):
        axis_of((3, 3, 3), 0, 4)
