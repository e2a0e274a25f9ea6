"""An architecture."""

from pydantic import BaseModel, ConfigDict

from harness.networks.families import Family
from harness.protocol import fully_connected


class PyramidOptions(BaseModel):
    """How wide the first layer is, and how many follow, each half as wide."""

    model_config = ConfigDict(extra="forbid")
    widest: int
    depth: int = 2


def pyramid(images, options):
    hidden = tuple(options.widest >> level for level in range(options.depth))
    return fully_connected(images.shape, hidden, images.classes)


PYRAMID = Family(PyramidOptions, pyramid)
