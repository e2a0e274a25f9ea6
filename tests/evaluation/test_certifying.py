"""Certified accuracy: recorded per epsilon, in one call of the certifier, or skipped and why."""

import numpy as np
import pytest
from backends_at_hand import package_at_hand
from small_models import linear

import harness
from harness.attacks.fgsm import FGSM
from harness.certification import CROWN
from harness.checks.validity import BESIDE_CERTIFICATES
from harness.errors import HarnessError, NotApplicable, SpecError
from harness.evaluation.evaluation import CertifiedSweep, Evaluation, Measures, Sweep
from harness.evaluation.models import LoadedModel
from harness.evaluation.resolve import resolved
from harness.protocol import Network, fully_connected
from harness.results import keys
from harness.results.judge import judge
from harness.results.recorder import Recorder
from harness.results.records import LOWER_BOUND, UPPER_BOUND
from harness.results.run import Run
from harness.results.summary import accuracy_tables
from harness.spec.expect import ExpectSpec
from harness.spec.reading import parse_spec

# Two logits that are the two pixels: an image is robust up to half of their difference.
MATRIX = np.eye(2)
X = np.array([[0.5, 0.45], [0.5, 0.3], [0.4, 0.8], [0.7, 0.2]], np.float32)
Y = np.array([0, 0, 1, 1])  # the last one is misclassified as it is
RADII = np.array([0.025, 0.1, 0.2, 0.0])
EPSILONS = (0.0, 0.02, 0.09, 0.15)
KNOWN = Network(
    fully_connected((2,), (), 2),
    {"layers.0.weight": MATRIX.astype(np.float32), "layers.0.bias": np.zeros(2, np.float32)},
)


class Counting:
    """A certifier of this network, which counts how often it is asked."""

    def __init__(self, name="counting", norm="linf", raises=None):
        self.name, self.norm, self.raises, self.calls = name, norm, raises, []

    def certified(self, network, model, x, y, epsilons):
        self.calls.append(list(epsilons))
        if self.raises is not None:
            raise self.raises
        pixels, labels = model.numpy(x).astype(float), model.numpy(y)
        margin = np.where(labels == 0, 1, -1) * (pixels[:, 0] - pixels[:, 1])
        return iter([margin > 2 * epsilon for epsilon in epsilons])

    def options(self):
        return {"kept": 3}


def evaluation_of(certifier, epsilons=EPSILONS, *, network=KNOWN, images=None, selected=None):
    run = Run(spec={}, spec_sha256="", data_sha256="", created="now")
    loaded = LoadedModel(linear(MATRIX, dtype="float32"), "numpy", network=network)
    measures = Measures(
        {"fgsm": Sweep(FGSM(), epsilons)},
        certified={certifier.name: CertifiedSweep(certifier, tuple(epsilons), images)},
    )
    return Evaluation(loaded, X, Y, Recorder(run, "numpy", "net"), measures, selected)


@pytest.mark.parametrize("certifier", [Counting("crown"), CROWN()], ids=["by hand", "crown"])
def test_certified_accuracy_is_what_is_worked_out_by_hand(certifier, tmp_path):
    evaluation = evaluation_of(certifier)
    made = [evaluation.certified("crown", epsilon) for epsilon in EPSILONS]
    # The last image is misclassified as it is, so no epsilon certifies it.
    assert [(record.correct, record.total) for record in made] == [(3, 4), (3, 4), (2, 4), (1, 4)]
    assert {(r.bound, r.norm, r.status, r.check) for r in made} == {
        ("lower", "linf", "measured", "certified/crown")
    }
    assert all(record.ci_low < record.accuracy < record.ci_high for record in made)
    run = evaluation.recorder.run
    for epsilon in EPSILONS:
        found = run.arrays[keys.of("numpy", "net", keys.certified("crown", epsilon))]
        assert np.array_equal(found, (epsilon < RADII) & (Y == [0, 0, 1, 0]))
    run.save(tmp_path)
    assert Run.load(tmp_path).records == run.records


def test_all_selected_epsilons_are_one_call_of_the_certifier():
    everything = evaluation_of(counting := Counting())
    for epsilon in EPSILONS[::-1]:
        everything.certified("counting", epsilon)
    assert counting.calls == [list(EPSILONS)]
    some = evaluation_of(counting := Counting(), selected={"certified/counting": [0.09]})
    some.certified("counting", 0.09)
    assert counting.calls == [[0.09]]


def test_the_first_images_alone_are_certified_if_the_sweep_says_so():
    evaluation = evaluation_of(Counting(), images=2)
    record = evaluation.certified("counting", 0.09)
    assert (record.correct, record.total) == (1, 2)


def test_a_model_whose_layers_are_not_known_is_skipped_with_the_reason():
    evaluation = evaluation_of(Counting(), network=None)
    record = evaluation.certified("counting", 0.02)
    assert (record.status, record.accuracy, record.bound) == ("skipped", None, None)
    assert "known layer by layer" in record.reason
    assert evaluation.checked("validity", "certified-misclassified").status == "skipped"


@pytest.mark.parametrize(
    ("raised", "status", "reason"),
    [
        (NotApplicable("no bounds of a Sigmoid"), "skipped", "no bounds of a Sigmoid"),
        (ZeroDivisionError("by\nzero"), "error", "ZeroDivisionError: by zero"),
    ],
)
def test_whatever_a_certifier_raises_is_a_record_at_each_epsilon(raised, status, reason):
    evaluation = evaluation_of(Counting(raises=raised))
    evaluation.certified("counting", 0.02)
    found = [r for r in evaluation.recorder.run.records if r.check == "certified/counting"]
    assert [record.epsilon for record in found] == list(EPSILONS)
    assert {(record.status, record.reason) for record in found} == {(status, reason)}


def test_a_name_that_is_none_of_the_certifiers_is_one_line():
    with pytest.raises(HarnessError, match="countin: no such certifier"):
        evaluation_of(Counting()).certified("countin", 0.02)


# The library


@pytest.fixture
def file(tmp_path):
    """The network as a file."""
    package_at_hand("onnx")
    from harness.networks.onnx.writing import onnx_bytes

    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes(KNOWN))
    return path


class Iterable(Counting):
    """A certifier that can be iterated, and is one certifier all the same."""

    def __iter__(self):
        return iter(())


def evaluate(model, **changes):
    given = {"attacks": ["fgsm"], "epsilons": EPSILONS, "certifiers": ["crown"], "progress": False}
    return harness.evaluate(model, X, Y, **(given | changes))


def test_certifiers_are_named_or_given_and_asked_at_the_same_epsilons(file):
    model = harness.wrap(file, backend="numpy")
    run = evaluate(model, certifiers=["ibp", Counting(), CROWN(name="mine")])
    frame = run.frame()
    for name in ("ibp", "counting", "mine"):
        rows = frame[frame.check == f"certified/{name}"]
        assert rows.epsilon.tolist() == list(EPSILONS)
        assert rows.correct.tolist() == [3, 3, 2, 1]
    upper = frame[frame.check == "fgsm"]
    assert upper.correct.tolist() == [3, 3, 2, 1]
    assert set(upper.bound) == {"upper"}
    assert upper.forwards.notna().all()
    assert run.spec["certified"]["mine"]["options"]["certifier"] == "CROWN"
    assert run.spec["certified"]["counting"]["options"]["kept"] == 3
    assert run.find(("model", "numpy", "validity/certified-misclassified", None)).status == "passed"


def test_one_certifier_need_not_be_in_a_list_and_none_is_asked_unless_named(file):
    model = harness.wrap(file, backend="numpy")
    assert evaluate(model, certifiers="crown").find(("model", "numpy", "certified/crown", 0.02))
    run = evaluate(model, certifiers=Iterable())
    assert run.find(("model", "numpy", "certified/counting", 0.02)).correct == 3
    run = evaluate(model, certifiers=None)
    checks = {record.check for record in run.records}
    assert not {check for check in checks if "certified" in check}
    assert "certified" not in run.spec
    assert set(BESIDE_CERTIFICATES) == {"certified-misclassified"}


def test_a_black_box_is_skipped_and_everything_else_is_measured():
    run = evaluate(harness.wrap_function(lambda x: x, (0.0, 1.0)), attacks=["square"])
    found = [record for record in run.records if record.check == "certified/crown"]
    assert {(r.status, "read from an ONNX file" in r.reason) for r in found} == {("skipped", True)}
    assert run.find(("model", "callable", "square", 0.02)).status == "measured"


def test_epsilons_out_of_proportion_are_noted_of_certifiers_too(file):
    run = evaluate(harness.wrap(file, backend="numpy"), epsilons=[1e-5])
    said = [note for note in run.notes if "less than a thousandth" in note]
    assert [note.partition(":")[0] for note in said] == ["fgsm", "certified/crown"]


WRONG = {
    "unknown": ({"certifiers": ["crwn"]}, ["crwn", "did you mean crown"]),
    "a class": ({"certifiers": [CROWN]}, ["certifiers: CROWN is a class"]),
    "a number": ({"certifiers": 3}, ["certifiers: int is no certifier"]),
    "a path": ({"certifiers": [Counting(name="a/b")]}, ["certifiers: the name of Counting", "/"]),
    "a norm": ({"certifiers": [Counting(norm="l7")]}, ["certifiers: counting has the norm 'l7'"]),
    "twice": ({"certifiers": ["crown", "crown"]}, ["certifiers: 2 of them are called crown"]),
    "too wide": ({"epsilons": [0.1, 8]}, ["epsilons: crown: 8 is wider", "epsilon_unit = 255"]),
    "not asked": (
        {"expect": {"certified": {"ibp": {0.02: [0, 1]}}}},
        ["expect.certified.ibp: that certifier is not asked"],
    ),
    "not an epsilon": (
        {"expect": {"certified": {"crown": {0.3: [0, 1]}}}},
        ["expect.certified.crown: 0.3 is none of the epsilons"],
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_call_is_one_line_that_says_what_to_do(wrong):
    changes, words = WRONG[wrong]
    with pytest.raises((HarnessError, SpecError)) as error:
        evaluate(linear(MATRIX, dtype="float32"), **changes)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_what_is_expected_of_certificates_is_judged(file):
    model = harness.wrap(file, backend="numpy")
    expect = {"certified": {"crown": {9: [0.75, 1.0], 2: [0.5, 0.6], 15: [0.25, 0.25]}}}
    run = evaluate(model, expect=expect, epsilons=[0, 2, 9, 15], epsilon_unit=100)
    low, high, met = (
        run.find(("model", "numpy", "certified/crown", epsilon)) for epsilon in (0.09, 0.02, 0.15)
    )
    assert (low.status, low.reason) == ("failed", "accuracy 0.5000 is below 0.7500")
    assert high.status == "failed"
    assert "is the certifier sound?" in high.reason
    assert (met.status, met.threshold) == ("passed", (0.25, 0.25))


def test_a_range_of_an_attack_of_the_same_name_is_not_that_of_the_certifier():
    evaluation = evaluation_of(Counting("fgsm"))
    expect = ExpectSpec(attacks={"fgsm": {0.02: (0.0, 0.0)}})
    record = evaluation.certified("fgsm", 0.02)
    assert judge(record, expect, evaluation.recorder.run).status == "measured"
    attacked = evaluation.attacked("fgsm", 0.02)
    assert judge(attacked, expect, evaluation.recorder.run).status == "failed"


def test_the_tables_of_the_terminal_say_which_accuracies_are_lower_bounds():
    evaluation = evaluation_of(Counting())
    evaluation.attacked("fgsm", 0.02)
    evaluation.certified("counting", 0.02)
    upper, lower = accuracy_tables(evaluation.recorder.run)
    assert (upper.columns[2].header, upper.caption) == ("attack", UPPER_BOUND)
    assert (lower.columns[2].header, lower.caption) == ("certifier", LOWER_BOUND)
    assert str(lower.title) == "certified accuracy in %, by ε (, L∞)"
    rows = [[str(cell) for cell in column.cells] for column in lower.columns[2:5]]
    assert rows == [["counting"], [""], ["75.00"]]
    assert [column.header for column in lower.columns[4:]] == ["0", "0.02", "0.09", "0.15"]


# Specs

SPEC = """\
name = "toy"
backends = ["numpy"]
[data]
name = "digits"
[attacks]
[certified.crown]
epsilons = [0.0, 0.1]
[models.mlp]
hidden = [8]
[models.mlp.training]
epochs = 1
[models.mlp.expect]
clean = [0.5, 1.0]
"""


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("certified.crown", "certified.crwn", "certified.crwn: no such certifier; "),
        ("certified.crown]", "certified.mine]\ncertifier = 'ipb'", "certified.mine: ipb: no such"),
        ("0.1]", "0.1]\nsteps = 3", "certified.crown: steps: crown has no such option"),
        ("0.1]", "0.1]\nintermediate = 'x'", "certified.crown: intermediate: "),
        ("0.1]", "0.1, 8]", "certified.crown.epsilons: 8 is wider than the pixels in [0, 1]"),
    ],
)
def test_names_and_epsilons_of_a_spec_are_looked_up_before_anything_is_measured(old, new, finding):
    with pytest.raises(SpecError) as error:
        resolved(parse_spec(SPEC.replace(old, new, 1), "f.toml"))
    assert str(error.value).startswith(finding)
    assert "\n" not in str(error.value)


def test_a_ball_in_l2_may_be_wider_than_a_pixel():
    text = SPEC.replace("certified.crown", "certified.crown-l2").replace("0.1]", "0.1, 2.0]")
    assert resolved(parse_spec(text, "f.toml")).certified["crown-l2"].epsilons[-1] == 2
