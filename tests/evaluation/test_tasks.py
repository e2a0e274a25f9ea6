"""A run in pieces: the same numbers in any parts, each measured once, and anew where it changed."""

import os
import time

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from tiny_spec import tiny_spec

from harness.checks.conformance import CHECKS as CONFORMANCE
from harness.checks.validity import CHECKS as VALIDITY
from harness.errors import HarnessError
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.pieces import ONLY_SEEN, Wanted
from harness.evaluation.resolve import open_spec
from harness.evaluation.store import KEPT, Store
from harness.evaluation.tasks import Outcome, Tasks
from harness.evaluation.working import adopt
from harness.executors import Workers
from harness.executors.inline import Inline
from harness.results.run import Run
from harness.saliency.analysis import MEASURES
from harness.saliency.occlusion import CHOICES

ATTACKS = """
[attacks.pgd]
epsilons = [0.1, 0.2]
steps = 3
[attacks.square]
epsilons = [0.2]
images = 100
steps = 20
[certified.ibp]
epsilons = [0.002, 0.01]
[minimal]
methods = ["fgsm", "pgd"]
images = 60
"""
SALIENCY = 'methods = ["gradient"]\nimages = 50'
SWEEPS = {"fgsm": (0.0, 0.1, 0.3), "pgd": (0.1, 0.2), "square": (0.2,)}
CHECKS = (
    ("clean", None),
    *((name, epsilon) for name, epsilons in SWEEPS.items() for epsilon in epsilons),
    *(("certified/ibp", epsilon) for epsilon in (0.002, 0.01)),
    ("minimal-epsilon/fgsm", None),
    ("minimal-epsilon/pgd", None),
    *((f"saliency/{choice}", None) for choice in CHOICES),
    *((f"saliency/gradient/{measure}", None) for measure in MEASURES),
    ("saliency-sanity/gradient/random-layers", None),
    *((f"conformance/{rule}", None) for rule in CONFORMANCE),
    *((f"validity/{rule}", None) for rule in VALIDITY),
)


class Counted(Inline):
    """Measures in this process, and knows what."""

    def __init__(self):
        self.pieces = []

    def submit(self, fn, setting, piece, known):
        self.pieces.append(piece)
        return super().submit(fn, setting, piece, known)

    @property
    def names(self):
        return sorted({piece.name or piece.kind for piece in self.pieces})


@pytest.fixture
def spec(tmp_path):
    def of(attacks=ATTACKS, **said):
        path = tmp_path / "tiny.toml"
        path.write_text(tiny_spec(attacks=attacks, saliency=SALIENCY, **said))
        return open_spec(str(path))

    return of


def wanted_of(checks, backend="numpy"):
    return [Wanted(backend, "mlp", check, epsilon) for check, epsilon in checks]


def measured(spec, folder, backend="numpy", parts=None, checks=CHECKS, workers=None):
    """The run of what is wanted of a spec, and the executor."""
    wanted = wanted_of(checks, backend)
    selected = {}
    for one in wanted:
        if one.epsilon is not None:
            selected.setdefault(one[:3], []).append(one.epsilon)
    benchmark = Benchmark(spec, selected=selected)
    tasks = Tasks(benchmark, wanted, Store(folder), parts=parts)
    outcome, executor = tasks.found(), workers or Counted()
    adopt(tasks.setting, benchmark)
    tasks.measured(Workers(executor, 1, ahead=1), outcome)
    tasks.put_into(benchmark.run, outcome)
    return benchmark.run, executor


def in_one_go(spec, backend):
    benchmark = Benchmark(spec)
    evaluation = benchmark.evaluation(backend, "mlp")
    for check, epsilon in CHECKS:
        group, _, rest = check.partition("/")
        if check == "clean":
            evaluation.clean()
        elif epsilon is not None and group == "certified":
            evaluation.certified(rest, epsilon)
        elif epsilon is not None:
            evaluation.attacked(check, epsilon)
        elif group == "minimal-epsilon":
            evaluation.smallest_epsilon(rest)
        elif rest in CHOICES:
            evaluation.occluded(rest)
        elif group == "saliency":
            evaluation.explained(*rest.split("/"))
        else:
            evaluation.checked(group, rest)
    return benchmark.run


def without_times(run, **other):
    return [record.model_copy(update={"measured": None, **other}) for record in run.records]


# Attacks ask less of a batch in which many images are misclassified already.
PASSES = {"forwards": None, "backwards": None}


@pytest.mark.parametrize("backend", NAMES)
def test_in_any_parts_a_run_is_that_of_one_process(spec, tmp_path, backend):
    at_hand(backend)
    spec = spec(backends=(backend,))
    one = in_one_go(spec, backend)
    for parts in (1, 2, 5):
        run, executor = measured(spec, tmp_path / str(parts), backend, parts)
        assert len([piece for piece in executor.pieces if piece.name == "pgd"]) == 2 * parts
        passes = {} if parts == 1 else PASSES
        assert without_times(run, **passes) == without_times(one, **passes)
        assert run.arrays.keys() == one.arrays.keys()
        for key, array in one.arrays.items():
            if parts == 1 or array.dtype.kind in "iub":
                np.testing.assert_array_equal(run.arrays[key], array, err_msg=key)
            else:  # of batches of other sizes sums may be rounded otherwise
                np.testing.assert_allclose(
                    run.arrays[key], array, rtol=1e-3, atol=1e-5, err_msg=key
                )
        told = [{(t.check, t.images, t.epsilons) for t in r.timings} for r in (one, run)]
        assert told[0] == told[1]


def test_parts_that_end_where_batches_do_are_bit_identical(spec, tmp_path):
    spec = spec().model_copy(update={"batch_size": 18})
    one = in_one_go(spec, "numpy")
    for parts in (2, 5):
        run, _ = measured(spec, tmp_path / str(parts), parts=parts)
        assert without_times(run) == without_times(one)
        for key, array in one.arrays.items():
            np.testing.assert_array_equal(run.arrays[key], array, err_msg=key)


def test_what_is_stored_is_not_measured_again(spec, tmp_path):
    asked = spec(seed=23)  # that no other test trains
    first, _ = measured(asked, tmp_path)
    again, executor = measured(asked, tmp_path)
    assert executor.pieces == []
    assert [info.cached for info in (*first.models, *again.models)] == [False, True]
    assert again.records == first.records
    assert again.arrays.keys() == first.arrays.keys()


def test_a_changed_option_measures_that_attack_and_what_looks_at_it(spec, tmp_path):
    measured(spec(), tmp_path)
    run, executor = measured(spec(ATTACKS.replace("steps = 3", "steps = 4")), tmp_path)
    # The smallest epsilons by PGD have options of their own.
    assert executor.names == ["pgd", "reported/pgd", "validity"]
    assert {r.check for r in run.records} == {check for check, _ in CHECKS}


def test_what_only_checks_look_at_is_measured_where_these_are(spec, tmp_path):
    measured(spec(), tmp_path)
    kept = Tasks(Benchmark(spec()), wanted_of(CHECKS), Store(tmp_path))
    for piece in kept.pieces:
        if piece.kind in ONLY_SEEN:
            (tmp_path / ".pieces" / f"{kept.key(piece)}.npz").unlink()
    _, executor = measured(spec(), tmp_path)
    assert executor.pieces == []
    _, executor = measured(spec(ATTACKS.replace("steps = 3", "steps = 4")), tmp_path)
    assert {"validity/basis", "panel/transfer", "reported/fgsm"} < set(executor.names)
    assert "validity/of-model" not in executor.names


def test_checks_that_look_at_no_attack_ask_for_none(spec, tmp_path):
    checks = [("validity/duplicate-images", None), ("validity/epsilon-zero", None)]
    _, executor = measured(spec(), tmp_path, checks=checks)
    expected = ["clean", "training", "validity", "validity/basis", "validity/of-model"]
    assert executor.names == expected


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"seed": 1}, None),  # everything
        ({"clean": (0.6, 1.0)}, []),  # what is expected changes no number
    ],
)
def test_other_changes(spec, tmp_path, change, names):
    checks = [("clean", None), ("fgsm", 0.1)]
    measured(spec(), tmp_path, checks=checks)
    _, executor = measured(spec(**change), tmp_path, checks=checks)
    assert executor.names == (["clean", "fgsm", "training"] if names is None else names)


def test_other_code_other_versions_and_other_data_are_measured_anew(spec, tmp_path, monkeypatch):
    checks = [("clean", None)]
    measured(spec(), tmp_path, checks=checks)
    own = Tasks(Benchmark(spec()), [Wanted("numpy", "mlp", "clean", None)], Store(tmp_path))
    assert len(own.found().finished) == len(own.pieces)
    monkeypatch.setattr("harness.executors.stamp.own_code", lambda: "0+other")
    other = Tasks(Benchmark(spec()), [Wanted("numpy", "mlp", "clean", None)], Store(tmp_path))
    assert other.found().finished == {}


def test_what_no_run_has_asked_for_in_a_month_is_forgotten(spec, tmp_path):
    checks = [("clean", None), ("fgsm", 0.1)]
    measured(spec(), tmp_path, checks=checks)
    pieces, store = tmp_path / ".pieces", Store(tmp_path)
    long_ago = time.time() - KEPT - 3600
    for path in (*pieces.iterdir(), half := pieces / "half-written.tmp"):
        path.touch()
        os.utime(path, (long_ago, long_ago))
    measured(spec(), tmp_path, checks=checks[:1])  # which finds its own
    asked_for = {path for path in pieces.iterdir() if path.stat().st_mtime > long_ago + 1}
    store.prune()
    assert not half.exists()
    assert set(pieces.iterdir()) == asked_for
    assert asked_for


def test_a_piece_that_cannot_be_kept_is_one_line(spec, tmp_path):
    (tmp_path / ".pieces").write_text("in the way")
    with pytest.raises(HarnessError, match="what was measured cannot be kept"):
        measured(spec(), tmp_path, checks=[("clean", None)])


def test_a_damaged_piece_is_measured_again(spec, tmp_path):
    checks = [("clean", None), ("fgsm", 0.1)]
    first, _ = measured(spec(), tmp_path, checks=checks)
    for path in (tmp_path / ".pieces").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    again, executor = measured(spec(), tmp_path, checks=checks)
    assert executor.names == ["clean", "fgsm", "training"]
    assert without_times(again) == without_times(first)


def test_a_function_is_always_measured_anew(tmp_path, monkeypatch):
    (tmp_path / "theirs_of_tasks.py").write_text(
        "import numpy as np\nimport harness\n"
        "def load():\n"
        "    weights = np.random.default_rng(0).normal(size=(64, 10)).astype('float32')\n"
        "    return harness.wrap_function(lambda x: x.reshape(len(x), -1) @ weights)\n"
    )
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\n[data]\nname = "digits"\n[attacks.noise]\nepsilons = [0.1]\n'
        '[models.mlp]\nload = "theirs_of_tasks:load"\n'
    )
    checks = [("clean", None), ("noise", 0.1)]
    for _ in range(2):
        _, executor = measured(open_spec(str(path)), tmp_path, "callable", checks=checks)
        assert executor.names == ["clean", "noise"]
    assert not (tmp_path / ".pieces").exists()


class Breaking(Counted):
    """Loses the pieces of PGD."""

    def submit(self, fn, setting, piece, known):
        future = super().submit(fn, setting, piece, known)
        if piece.name == "pgd" and piece.kind == "attack":
            future = type(future)()
            future.set_exception(MemoryError("4 GiB"))
        return future


def test_a_lost_piece_is_an_error_with_its_reason_and_the_others_are_kept(spec, tmp_path):
    checks = [("clean", None), ("fgsm", 0.1), ("pgd", 0.1), ("validity/random-control", None)]
    checks = [one for one in checks if not one[0].startswith("validity")]
    run, _ = measured(spec(), tmp_path, checks=checks, workers=Breaking())
    status = {record.check: (record.status, record.reason) for record in run.records}
    assert status["pgd"] == ("error", "MemoryError: 4 GiB")
    assert status["fgsm"][0] == "measured"
    run, executor = measured(spec(), tmp_path, checks=checks)
    assert executor.names == ["pgd"]
    assert {record.status for record in run.records} == {"measured"}


def test_a_model_that_cannot_be_trained_is_an_error_of_each_record(spec, tmp_path):
    asked = spec()
    wrong = asked.models["mlp"].model_copy(
        update={"training": asked.models["mlp"].training.model_copy(update={"learning_rate": 1e30})}
    )
    asked = asked.model_copy(update={"models": {"mlp": wrong}})
    with np.errstate(all="ignore"):
        run, _ = measured(asked, tmp_path, checks=[("clean", None), ("fgsm", 0.1)])
    assert {record.status for record in run.records} == {"error"}
    (reason,) = {record.reason for record in run.records}
    assert "learning_rate" in reason


def test_an_empty_outcome_leaves_an_empty_run(spec, tmp_path):
    benchmark = Benchmark(spec())
    tasks = Tasks(benchmark, [Wanted("numpy", "mlp", "clean", None)], Store(tmp_path))
    tasks.put_into(benchmark.run, Outcome({}, {}))
    assert isinstance(benchmark.run, Run)
    assert benchmark.run.records == []
