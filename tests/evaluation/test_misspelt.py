"""Names that a test of somebody's own has misspelt are one line, and nothing is measured."""

from __future__ import annotations

import pytest
from tiny_spec import tiny_spec

from harness.errors import HarnessError
from harness.evaluation.benchmark import Benchmark
from harness.spec.reading import parse_spec


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda e: e.attacked("fgms", 0.1), "fgms: no such attack; the attacks are fgsm; did you"),
        (lambda e: e.smallest_epsilon("pgd"), "pgd: no such method"),
        (lambda e: e.occluded("most"), "most: no such choice; the choices are top, random, least"),
        (lambda e: e.explained("gradient", "deleton"), "did you mean deletion?"),
        (lambda e: e.checked("validty", "breaks"), "did you mean validity?"),
        (lambda e: e.checked("validity", "braks"), "did you mean breaks?"),
        (lambda e: e.checked("conformance", "shape"), "did you mean shapes?"),
        (lambda e: e.checked("training", "colapse"), "did you mean collapse?"),
        (lambda e: e.checked("saliency-sanity", "gradient"), "no such check"),
        (lambda e: e.checked("saliency-sanity", "gradent/finite"), "did you mean gradient?"),
    ],
)
def test_a_misspelt_name_is_one_line(call, line):
    benchmark = Benchmark(parse_spec(tiny_spec(), "tiny.toml"))
    with pytest.raises(HarnessError) as error:
        call(benchmark.evaluation("numpy", "mlp"))
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not benchmark.run.records
