"""No test touches the user's cache or the network; real data only where the caller points at it."""

import os
from pathlib import Path

import pytest
from backends_at_hand import NAMES, OF_A_FRAMEWORK

from harness.data import fashion_mnist, mnist

ELSEWHERE = "HARNESS_TEST_ELSEWHERE"
"""Environment variable: a backend, whose cases alone run in another environment."""


def pytest_collection_modifyitems(config, items):
    """Leave out what would run alike beside any framework.

    That is what names none (see ``OF_A_FRAMEWORK``), and the cases of that backend alone.
    """
    named = os.environ.get(ELSEWHERE)
    if not named:
        return
    kept, out = [], []
    for item in items:
        alike = not OF_A_FRAMEWORK.search(item.nodeid) or _backends_in(item) == {named}
        (out if alike else kept).append(item)
    config.hook.pytest_deselected(items=out)
    items[:] = kept


def _backends_in(item):
    """The backends in the name of a case: its own, or several that are compared."""
    return set(item.name.partition("[")[2].removesuffix("]").split("-")) & set(NAMES)


# Networks as small as those of the tests are slower with several threads than with one.
for _name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")


# Runs of a second lose more by starting processes than they gain; tests of these say how many.
os.environ.setdefault("HARNESS_JOBS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache_and_no_network(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        # A proxy that nobody runs: whatever leaves loopback fails at once, in subprocesses too.
        for scheme in ("http", "https"):
            patch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
        patch.setenv("no_proxy", "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def mnist_dir():
    """The folder that HARNESS_DATA_DIR names, with the real MNIST in it."""
    given = os.environ.get("HARNESS_DATA_DIR", "")
    if not given or not _holds(Path(given) / "mnist", mnist.FILES):
        _missing("no mnist/ with the four files")
    return Path(given)


@pytest.fixture(scope="session")
def fashion_mnist_files():
    """The real Fashion-MNIST, in the folder that HARNESS_DATA_DIR names or where Debian puts it."""
    given = Path(os.environ.get("HARNESS_DATA_DIR", "")) / "fashion-mnist"
    if not any(_holds(folder, fashion_mnist.FILES) for folder in (given, fashion_mnist.DEBIAN)):
        _missing(f"no fashion-mnist/ with the four files, nor does {fashion_mnist.DEBIAN}")


def _holds(folder, files):
    return all((folder / file.name).is_file() for file in files)


def _missing(what):
    """Skip what needs real data; in CI, where it should be there, fail."""
    given = os.environ.get("HARNESS_DATA_DIR", "")
    reason = f"HARNESS_DATA_DIR={given!r} holds {what}"
    if given and os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and in CI it should")
    pytest.skip(reason)
