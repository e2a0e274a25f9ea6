"""No test touches the user's cache or the network; real data only where the caller points at it."""

import os
from pathlib import Path

import pytest

from harness.data.mnist import FILES

# Networks as small as those of the tests are slower with several threads than with one.
for _name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")


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
    if given and all((Path(given) / "mnist" / file.name).is_file() for file in FILES):
        return Path(given)
    reason = f"HARNESS_DATA_DIR={given!r} holds no mnist/ with the four files"
    if given and os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and in CI it should")
    return pytest.skip(reason)
