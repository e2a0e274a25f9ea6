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
