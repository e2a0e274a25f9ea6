"""Classifiers and pipelines of scikit-learn as black boxes."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from small_trainers import one_line

import harness
from harness.errors import BackendError, MeasurementError
from harness.maths.outputs import kind_of, undeclared
from harness.maths.query import logits_of, predictions_of
from harness.protocol import Wrapping
from harness.registry import made_by

X = np.random.default_rng(0).random((60, 4, 4), dtype=np.float32)
FLAT = X.reshape(60, -1)
Y = np.arange(60) % 3
X[np.arange(60), Y] += 1  # the row of the label is bright; FLAT is the same memory
X /= 2
TWO = (Y > 0).astype(int)


def forest(**options):
    return RandomForestClassifier(5, random_state=0, **options)


def rows_mean(x):
    return x.mean(axis=2)


FITTED = {
    "forest": (forest, FLAT, "probabilities"),
    "logistic": (LogisticRegression, FLAT, "logits"),
    "svm": (SVC, FLAT, "logits"),
    "bayes": (GaussianNB, FLAT, "probabilities"),
    "pipeline": (lambda: make_pipeline(StandardScaler(), LogisticRegression()), FLAT, "logits"),
    "of images": (
        lambda: make_pipeline(FunctionTransformer(rows_mean), forest()), X, "probabilities",
    ),
    "search": (
        lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2), FLAT, "logits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("labels", [Y, TWO], ids=["three", "two"])
@pytest.mark.parametrize("name", FITTED)
def test_each_says_what_its_scores_are_and_predicts_as_it_does(name, labels):
    at_hand("sklearn")
    make, rows, outputs = FITTED[name]
    net = make().fit(rows, labels)
    model = harness.wrap(net)
    assert kind_of(model) == outputs
    assert made_by(undeclared(model))[0] == "sklearn"
    found = logits_of(model, X)
    assert found.shape == (60, labels.max() + 1)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(predictions_of(model, X).labels, net.predict(rows))
    if outputs == "probabilities":
        shares = net.predict_proba(rows)
        np.testing.assert_allclose(np.exp(found), shares, atol=1e-12)
    elif labels is TWO:
        np.testing.assert_allclose(found[:, 1], net.decision_function(rows), atol=1e-6)
    else:
        np.testing.assert_allclose(found, net.decision_function(rows), atol=1e-6)
    assert undeclared(model).queries == 120


def test_an_evaluation_needs_no_word_on_outputs():
    at_hand("sklearn")
    net = forest().fit(FLAT, Y)
    run = harness.evaluate(harness.wrap(net), X, Y, ["noise", "square"], [0.0, 0.1])
    clean = run.find(("model", "sklearn", "clean", None))
    assert clean.correct == int((net.predict(FLAT) == Y).sum())
    assert run.find(("model", "sklearn", "square", 0.1)).correct < clean.correct
    assert "scikit-learn" in run.versions


def test_images_are_given_in_float64_so_that_epsilons_are_kept():
    at_hand("sklearn")
    seen = []

    class Looks(ClassifierMixin, BaseEstimator):
        """As another package's, such as XGBoost's: without features that are counted."""

        def fit(self, x, y):
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, x):
            seen.append((x.shape, x.dtype))
            x[...] = 0
            return np.full((len(x), 3), 1 / 3)

    given = X.copy()
    model = harness.wrap(Looks().fit(FLAT, Y))
    assert type(model.asarray(given)) is np.ndarray
    model.logits(model.asarray(given) + 1e-12)
    assert seen[-1] == ((60, 16), np.float64)
    np.testing.assert_array_equal(given, X)


def test_ovo_scores_are_not_taken_for_those_of_classes():
    at_hand("sklearn")

    class Likely(SVC):
        def predict_proba(self, x):
            return np.eye(3)[self.predict(x)]

    of_pairs = SVC(decision_function_shape="ovo").fit(FLAT, Y)
    with pytest.raises(BackendError, match="compares pairs of classes; make it with decision"):
        harness.wrap(of_pairs)
    with pytest.raises(BackendError, match="compares pairs of classes"):
        harness.wrap(make_pipeline(StandardScaler(), of_pairs).fit(FLAT, Y))
    likely = Likely(decision_function_shape="ovo").fit(FLAT, Y)
    assert kind_of(harness.wrap(likely)) == "probabilities"
    two = SVC(decision_function_shape="ovo").fit(FLAT, TWO)
    assert kind_of(harness.wrap(two)) == "logits"


REFUSED = {
    "not fitted": (forest, "RandomForestClassifier: not fitted; call fit"),
    "pipeline not fitted": (lambda: make_pipeline(StandardScaler(), forest()), "not fitted"),
    "regressor": (lambda: LinearRegression().fit(FLAT, Y), "LinearRegression: a regressor"),
    "clusterer": (lambda: KMeans(2, n_init=1).fit(FLAT), "KMeans: no classifier"),
    "scaler": (lambda: StandardScaler().fit(FLAT), "StandardScaler: no classifier"),
    "names": (
        lambda: forest().fit(FLAT, np.array(["a", "b", "c"])[Y]),
        "classes_ are 'a', 'b', 'c', not",
    ),
    "from one": (lambda: forest().fit(FLAT, Y + 1), "classes_ are 1, 2, 3, not 0 to 2; number"),
    "one class": (lambda: forest().fit(FLAT, Y * 0), "it has 1 class; fit it with two"),
    "several labels": (
        lambda: MultiOutputClassifier(forest()).fit(FLAT, np.stack([Y, TWO], axis=1)),
        "not one list of classes_",
    ),
    "labels alone": (
        lambda: VotingClassifier([("a", forest()), ("b", GaussianNB())]).fit(FLAT, Y),
        "predicts labels alone, and attacks need scores; take one with",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_wrapped_is_one_line(what):
    at_hand("sklearn")
    make, said = REFUSED[what]
    with pytest.raises(BackendError, match=said) as error:
        harness.wrap(make())
    one_line(error)


def test_outputs_devices_and_other_images_are_one_line():
    backend = at_hand("sklearn")
    net = forest().fit(FLAT, Y)
    with pytest.raises(BackendError, match="no outputs with names"):
        backend.wrap(net, Wrapping(output="a"))
    with pytest.raises(BackendError, match="device: cuda: scikit-learn computes on cpu"):
        backend.wrap(net, Wrapping(device="cuda"))
    with pytest.raises(MeasurementError) as error:
        logits_of(harness.wrap(net), X[:, :3])
    assert "takes 16 features, but images of the shape (3, 4) have 12 pixels" in one_line(error)


def test_what_it_is_and_the_identity_of_its_numbers():
    at_hand("sklearn")

    def about(net):
        return undeclared(harness.wrap(net)).about()

    first = about(forest().fit(FLAT, Y))
    assert first.kind == "sklearn RandomForestClassifier"
    assert len(first.identity) == 64
    assert about(forest().fit(FLAT, Y)).identity == first.identity
    assert about(forest(max_depth=1).fit(FLAT, Y)).identity != first.identity
    piped = about(make_pipeline(StandardScaler(), LogisticRegression()).fit(FLAT, Y))
    assert piped.kind == "sklearn Pipeline (StandardScaler, LogisticRegression)"
    assert piped.identity
