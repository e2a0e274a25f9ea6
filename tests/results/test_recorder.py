"""Records as they are put into a run, and come back from disk."""

import pytest

from harness.results.provenance import new_run
from harness.results.recorder import Recorder
from harness.results.run import Run


@pytest.mark.parametrize(
    ("told", "reason"), [(None, ""), ("a note", "a note"), (True, ""), (5, "")]
)
def test_only_text_that_a_foreign_check_returns_is_a_note(tmp_path, told, reason):
    run = new_run({"name": "toy"})
    Recorder(run, "numpy", "mlp").checked("validity/theirs", lambda: told)
    run.save(tmp_path)
    (record,) = Run.load(tmp_path).records
    assert (record.status, record.reason) == ("passed", reason)


@pytest.mark.parametrize("randomised", [False, True])
def test_an_accuracy_says_whether_its_model_is_random_and_how_many_passes_it_took(randomised):
    recorder = Recorder(new_run({"name": "toy"}), "numpy", "mlp")
    recorder.randomised = randomised
    record = recorder.counted("pgd", 3, 4, 0.1, norm="linf", forwards=41.5, backwards=40.0)
    assert (record.forwards, record.backwards, record.randomised) == (41.5, 40.0, randomised)
    clean = recorder.counted("clean", 3, 4)
    assert (clean.forwards, clean.backwards, clean.randomised) == (None, None, randomised)
    assert recorder.run.frame().randomised.tolist() == [randomised, randomised]
