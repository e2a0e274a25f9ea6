"""A search that is over, which the tests of this folder look at and leave as it is."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def done(tmp_path_factory):
    """A search that is over: its folder and its result."""
    from small_searches import spec_of

    from harness.search.search import search

    folder = tmp_path_factory.mktemp("search")
    return folder, search(spec_of(), "numpy", folder)
