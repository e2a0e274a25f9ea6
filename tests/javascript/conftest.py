"""What runs in Node: the engine of the playground, and models in TensorFlow.js.

``HARNESS_TEST_JAVASCRIPT=1`` (as in ``tox -e browser``) says that Node and the packages of
``package-lock.json`` must be there (``npm ci``, in this folder); else such tests are skipped.
"""

import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "frameworks")]
