"""How the checks of a suite are run."""

from __future__ import annotations

from harness.checks.check import run_checks
from harness.errors import CheckFailed, HarnessError, NotApplicable


class OneDoesNotImport(dict):
    """Checks, of which another package's is imported when it is asked for."""

    def __getitem__(self, name):
        if name == "theirs":
            raise HarnessError("theirs: the check of their-package 1.2 does not import")
        return super().__getitem__(name)


def passes(evidence):
    return None


def fails(evidence):
    raise CheckFailed("wrong")


def cannot(evidence):
    raise NotApplicable("nothing to look at")


def test_one_that_does_not_import_is_a_finding_and_the_others_are_made():
    checks = OneDoesNotImport(passes=passes, theirs=passes, cannot=cannot, fails=fails)
    found = run_checks(checks, None)
    assert list(found) == ["theirs", "fails"]
    assert "their-package 1.2 does not import" in found["theirs"]
    assert found["fails"] == "wrong"
