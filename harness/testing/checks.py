"""The checks of a model, an attack or a saliency method as tests of an author's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from harness.checks import conformance, sanity, validity
from harness.checks.check import Check
from harness.errors import CheckFailed, HarnessError, NotApplicable, closest


def parametrize_with_checks(
    evidence: Sequence[Any], *, expected_failed_checks: Mapping[str, str] | None = None
) -> pytest.MarkDecorator:
    """One test for each check of each evidence, for authors of backends, models and attacks.

    ``@parametrize_with_checks([conformance.Evidence(model, x, y)])`` decorates a test that takes
    ``evidence`` and ``check``, and calls ``check(evidence)``. A check that fails fails the test,
    in its one line; one that does not apply is skipped, with the reason.

    Args:
        evidence: What is checked: ``conformance.Evidence`` (does a model keep the protocol),
            ``validity.Evidence`` (can its accuracies be trusted) or ``sanity.Evidence`` (do maps
            explain it).
        expected_failed_checks: Names of checks that are known to fail, with the reason. Each is an
            ``xfail``, and a failure once it passes.

    Raises:
        HarnessError: An evidence is none of these, or a name is none of its checks.
    """
    known = dict(expected_failed_checks or {})
    parameters, names = [], set()
    for place, one in enumerate(evidence):
        checks = _checks_of(one)
        names |= set(checks)
        for name in checks:
            marks = [pytest.mark.xfail(reason=known[name], strict=True)] if name in known else []
            where = f"{place}-" if len(evidence) > 1 else ""
            parameters.append(
                pytest.param(one, partial(_run, checks, name), id=f"{where}{name}", marks=marks)
            )
    for name in known:
        if name not in names:
            meant = closest(name, names)
            hint = f"; did you mean {meant}?" if meant else ""
            raise HarnessError(f"expected_failed_checks: {name}: no such check{hint}")
    return pytest.mark.parametrize(("evidence", "check"), parameters)


def _checks_of(evidence: Any) -> Mapping[str, Check[Any]]:
    suites: Mapping[type, Mapping[str, Check[Any]]] = {
        conformance.Evidence: conformance.CHECKS,
        validity.Evidence: validity.CHECKS,
        sanity.Evidence: sanity.CHECKS,
    }
    for kind, checks in suites.items():
        if isinstance(evidence, kind):
            return checks
    raise HarnessError(
        f"{type(evidence).__name__} is not the evidence of a suite; pass conformance.Evidence, "
        "validity.Evidence or sanity.Evidence"
    )


def _run(checks: Mapping[str, Check[Any]], name: str, evidence: Any) -> None:
    try:
        checks[name](evidence)
    except CheckFailed as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    except NotApplicable as error:
        pytest.skip(str(error))
